"""The verdict on a series of latencies: stable, noisy, throttled or drifting, by rules with numbers.

The rules, in this order; the first that fits decides:

1. *throttled*: the machine says that it slowed the processor down, or the latency stepped up by 8% or more
   and stayed there while no other process was in the way. On a virtual machine a step proves nothing: its
   neighbours on the same host cannot be seen.
2. *drifting*: the level moved by 5% or more between beginning and end: a slope, or a step that rule 1 does
   not explain (a step down is a machine that was still busy, or not warm, at first).
3. *noisy*: the middle half of the latencies spans more than 10% of the median, or one run in twenty takes
   more than 1.5 times the median, or the 95% interval of the median is wider than 5% of it.
4. *stable*: none of these.

A change of level counts only if chance does not explain it: a line and a step are fitted to the medians of
the blocks, and the better one must explain more of their variance than it does in 99% of random orders of
the same medians (a permutation test, Good 2005). It must also explain half of that variance, or else
the series merely wanders, which rule 3 judges. With fewer than ten runs there is no verdict.
"""

from dataclasses import dataclass

import numpy as np

from edgekit.measurement import Conditions, Disturbance, Measurement, NoiseVerdict, Verdict, throttled
from edgekit.tensor import Array

STEP_UP = 0.08
LEVEL_CHANGE = 0.05
MIDDLE_HALF = 0.10
TAIL = 1.5
INTERVAL_WIDTH = 0.05
MIN_RUNS = 10
MIN_BLOCKS = 10
EXPLAINED = 0.5
PERMUTATIONS = 500
SIGNIFICANCE = 0.01
# Below this share of one core, other processes do not explain a step of 8%.
BUSY_PCT = 20.0


@dataclass(frozen=True)
class Change:
    """How the level of a series moved: ``size`` is relative, 0.1 is 10% slower at the end."""

    shape: str  # "step" or "line"
    size: float
    explained: float
    at_block: int


def judge(
    latency: Measurement, before: Conditions, after: Conditions, disturbance: Disturbance | None = None
) -> NoiseVerdict:
    """The verdict on one model's latencies, with the numbers and a next step."""
    count = len(latency.values)
    if count < MIN_RUNS:
        return NoiseVerdict(
            Verdict.UNKNOWN,
            f"{count} runs are too few to judge; {MIN_RUNS} are needed.",
            "Raise --runs or --max-seconds.",
        )
    around = disturbance or Disturbance()
    change = level_change(latency.block_medians)
    if throttled(before, after):
        return NoiseVerdict(
            Verdict.THROTTLED,
            "The processor reports that it was slowed down during the measurement."
            + _change_text(change, latency),
            "Let the machine cool, improve its cooling or power supply, and measure again.",
        )
    if change is not None and abs(change.size) >= LEVEL_CHANGE:
        return _moved(change, latency, around, virtualized=bool(after.virtualized))
    return _spread(latency, around)


def level_change(medians: Array, seed: int = 0) -> Change | None:
    """The change of level in a series of block medians that chance does not explain; None without one.

    >>> level_change(np.array([10.0, 10.1, 9.9, 10.0, 10.1, 9.9, 12.0, 12.1, 11.9, 12.0, 12.1, 11.9])).shape
    'step'
    """
    if len(medians) < MIN_BLOCKS or np.ptp(medians) == 0:
        return None
    draws = np.random.default_rng(seed)
    shuffled = draws.permuted(np.tile(medians, (PERMUTATIONS, 1)), axis=1)
    steps, _ = _step_fit(medians[None])
    lines = _line_fit(medians[None])
    explained = float(max(steps[0], lines[0]))
    by_chance = np.maximum(_step_fit(shuffled)[0], _line_fit(shuffled))
    p_value = (1 + np.count_nonzero(by_chance >= explained)) / (1 + PERMUTATIONS)
    if p_value > SIGNIFICANCE or explained < EXPLAINED:
        return None
    return _step(medians) if steps[0] >= lines[0] else _line(medians, float(lines[0]))


def _step(medians: Array) -> Change:
    explained, at = _step_fit(medians[None])
    cut = int(at[0])
    earlier, later = float(np.median(medians[:cut])), float(np.median(medians[cut:]))
    return Change("step", later / earlier - 1, float(explained[0]), cut)


def _line(medians: Array, explained: float) -> Change:
    slope, start = np.polyfit(np.arange(len(medians)), medians, 1)
    return Change("line", float(slope * (len(medians) - 1) / start), explained, 0)


def _line_fit(rows: Array) -> Array:
    """The share of each row's variance that a straight line explains: rows [n, blocks] -> [n]."""
    time = np.arange(rows.shape[1]) - (rows.shape[1] - 1) / 2
    centered = rows - rows.mean(axis=1, keepdims=True)
    squares: Array = (centered @ time) ** 2 / (time @ time) / np.sum(centered**2, axis=1)
    return squares


def _step_fit(rows: Array) -> tuple[Array, Array]:
    """The share of variance that the best single step explains, and where it is: [n, blocks] -> [n], [n].

    Each side must hold a fifth of the blocks: a burst at the edge is no new level.
    """
    blocks = rows.shape[1]
    margin = max(2, blocks // 5)
    cuts = np.arange(margin, blocks - margin + 1)
    centered = rows - rows.mean(axis=1, keepdims=True)
    # With a mean of zero, a cut after k values explains sum^2 * blocks / (k * (blocks - k)).
    sums = np.cumsum(centered, axis=1)[:, cuts - 1]
    explained = sums**2 * blocks / (cuts * (blocks - cuts)) / np.sum(centered**2, axis=1, keepdims=True)
    return explained.max(axis=1), cuts[explained.argmax(axis=1)]


def _moved(change: Change, latency: Measurement, around: Disturbance, *, virtualized: bool) -> NoiseVerdict:
    disturbed = _disturbed(around)
    reason = _change_text(change, latency).strip()
    if virtualized and not disturbed:
        disturbed = " This is a virtual machine: the cause may be a neighbour on its host."
    if change.shape == "step" and change.size >= STEP_UP and not disturbed:
        return NoiseVerdict(
            Verdict.THROTTLED,
            f"{reason} No other process was in the way, so the processor was probably slowed down.",
            "Let the machine cool or fix its frequency, and measure again; "
            "--max-seconds 30 shows the lasting level.",
        )
    return NoiseVerdict(
        Verdict.DRIFTING,
        reason + disturbed,
        "Stop other work and measure again for longer (--max-seconds 30). "
        "To compare models, give them in one call.",
    )


def _spread(latency: Measurement, around: Disturbance) -> NoiseVerdict:
    median = latency.median
    middle = (latency.percentile(75) - latency.percentile(25)) / median
    tail = latency.percentile(95) / median
    interval = latency.median_ci95()
    width = (interval[1] - interval[0]) / median if interval else 0.0
    numbers = f"The middle half spans {middle:.1%} of the median, p95 is {tail:.2f} times the median"
    if interval:
        numbers += f", the 95% interval of the median is {width:.1%} wide"
    if middle > MIDDLE_HALF or tail > TAIL or width > INTERVAL_WIDTH:
        return NoiseVerdict(
            Verdict.NOISY,
            f"{numbers} (limits {MIDDLE_HALF:.0%}, {TAIL}, {INTERVAL_WIDTH:.0%}).{_disturbed(around)}",
            "Stop other work on the machine, set the governor to performance where there is one, "
            "and measure again for longer (--max-seconds 30).",
        )
    return NoiseVerdict(Verdict.STABLE, f"{numbers}.")


def _change_text(change: Change | None, latency: Measurement) -> str:
    if change is None or abs(change.size) < LEVEL_CHANGE:
        return ""
    direction = "slower" if change.size > 0 else "faster"
    if change.shape == "line":
        return f" The latency drifted: {abs(change.size):.0%} {direction} at the end than at the beginning."
    place = (
        f"after {latency.starts_s[change.at_block]:.1f} s"
        if latency.starts_s
        else f"at block {change.at_block}"
    )
    return f" The latency stepped {place} and stayed {abs(change.size):.0%} {direction}."


def _disturbed(around: Disturbance) -> str:
    """A sentence about what took processor time, empty where little or nothing did."""
    parts = []
    if (around.other_cpu_pct or 0) >= BUSY_PCT:
        parts.append(f"other processes used {around.other_cpu_pct:.0f}% of a core")
    if (around.steal_pct or 0) >= BUSY_PCT / 4:
        parts.append(f"the hypervisor withheld {around.steal_pct:.0f}% of a core")
    return f" Meanwhile {' and '.join(parts)}." if parts else ""
