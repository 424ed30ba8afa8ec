"""Is the gate right as often as it says? Simulated pairs of models whose true drop is known, judged many times.

    python benchmarks/gate_calibration.py [--quick] [--replicates N] [--json FILE] [--plot FILE.svg]

Accuracy 0.6 to 0.99, discordance 1 to 15%, n from 100 to 20,000, true drop 0 to 3 points; what cannot be (an accuracy
of 99% from which 5% get better) is left out. The verdicts are those of `edgekit check`; as they are monotone in the
number of broken samples, their boundaries are searched once and then looked up. Four claims are tested:

1. Where the true drop is the limit, a pass and a fail each happen at most as often as alpha says, but for the
   error of the simulation, and for 0.2 points where so many pairs differ that the test is the approximate one.
2. At the number of samples that a plan names, the right verdict is as frequent as planned, within 3 points.
3. The 95% interval holds the true drop in 93.5% to 96.5% of cases; more often where so few samples differ that no
   interval can be exact (conservative), never less.
4. Verdicts of the two rules in use elsewhere, a drop of more than one point at n = 100 and at n = 1,000, beside
   these: not a claim but a table.

The exit status is 1 where a claim does not hold.
"""

import argparse
import itertools
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from _plots import Curve, chart, page
from numpy.typing import NDArray

from edgekit.noninferiority import Verdict, paired_p_values, power, samples_needed
from edgekit.statistics import tango_score

ALPHA, POWER, LIMIT = 0.05, 0.8, 0.01
_ACCURACIES = (0.6, 0.75, 0.9, 0.97, 0.99)
_DISCORDANCES = (0.01, 0.02, 0.03, 0.05, 0.10, 0.15)
_COUNTS = (100, 300, 1000, 3000, 10_000, 20_000)
_DROPS = (0.0, 0.005, 0.01, 0.02, 0.03)
_COVERAGE = (0.935, 0.965)
_Z95 = 1.959963984540054
# Below so many expected discordant pairs the counts are too coarse for an interval of exactly 95%.
_COARSE = 5.0
# With more discordant pairs than that the normal distribution stands in for the exact one, at this error.
_EXACT_UP_TO, _APPROXIMATION = 150, 0.002
Counts = NDArray[np.int64]


class Gate:
    """The verdicts of the gate at one n and limit, by boundaries in the number of broken samples."""

    def __init__(self, n: int, limit: float) -> None:
        self._n, self._limit = n, limit
        self._boundaries = lru_cache(maxsize=None)(self._search)

    def verdicts(self, broken: Counts, fixed: Counts) -> tuple[float, float]:
        """The shares of passes and of fails among simulated counts."""
        passed = failed = 0
        for count in np.unique(fixed):
            own = broken[fixed == count]
            most_passing, least_failing = self._boundaries(int(count))
            passed += int((own <= most_passing).sum())
            failed += int((own >= least_failing).sum())
        return passed / len(broken), failed / len(broken)

    def _search(self, fixed: int) -> tuple[int, int]:
        """The most broken samples that still pass, and the fewest that fail, beside so many fixed ones."""
        counts = np.arange(self._n - fixed + 1)
        scores = tango_score(counts.astype(float), float(fixed), self._n, self._limit)
        guess = int(np.searchsorted(scores, -1.6449)), int(np.searchsorted(scores, 1.6449))
        passing = self._last(fixed, Verdict.PASS, guess[0])
        return passing, self._last(fixed, Verdict.INCONCLUSIVE, max(guess[1], passing)) + 1

    def _last(self, fixed: int, verdict: Verdict, guess: int) -> int:
        """The most broken samples whose verdict is no worse than this one, -1 if none."""
        order = [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL]

        def within(broken: int) -> bool:
            found = paired_p_values(broken, fixed, self._n, self._limit).verdict(ALPHA)
            return order.index(found) <= order.index(verdict)

        count = min(guess, self._n - fixed)
        while count >= 0 and not within(count):
            count -= 1
        while count < self._n - fixed and within(count + 1):
            count += 1
        return count


@dataclass(frozen=True)
class Truth:
    """Two models: the first one's accuracy, the share that they answer differently, and the drop to the second."""

    accuracy: float
    discordance: float
    drop: float

    @property
    def cells(self) -> tuple[float, float, float, float]:
        """The shares of samples that are broken, fixed, right twice and wrong twice."""
        broken, fixed = (self.discordance + self.drop) / 2, (self.discordance - self.drop) / 2
        return broken, fixed, self.accuracy - broken, 1 - self.accuracy - fixed

    @property
    def is_possible(self) -> bool:
        """Whether no share is negative, but for rounding."""
        return min(self.cells) > -1e-12

    def simulate(self, n: int, replicates: int, rng: np.random.Generator) -> tuple[Counts, Counts]:
        """Broken and fixed samples of so many pairs of models."""
        shares = np.maximum(self.cells, 0.0)
        drawn = rng.multinomial(n, shares / shares.sum(), size=replicates)
        return drawn[:, 0], drawn[:, 1]


def false_alarms(task: tuple[int, float, int]) -> list[dict[str, Any]]:
    """Passes and fails where the true drop is the limit: each an error, and each allowed alpha."""
    n, limit, replicates = task
    gate, rng, found = Gate(n, limit), np.random.default_rng([n, round(1000 * limit)]), []
    for accuracy, discordance in itertools.product(_ACCURACIES, _DISCORDANCES):
        truth = Truth(accuracy, discordance, limit)
        if not truth.is_possible:
            continue
        counts = truth.simulate(n, replicates, rng)
        passed, failed = gate.verdicts(*counts)
        covered = float((np.abs(tango_score(*map(_floats, counts), n, limit)) <= _Z95).mean())
        found.append(
            {
                "n": n, "limit": limit, "accuracy": accuracy, "discordance": discordance,
                "pass": passed, "fail": failed, "covered": covered,
            }
        )  # fmt: skip
    return found


def planned_power(task: tuple[float, float, int]) -> dict[str, Any]:
    """The right verdict at the number of samples that the plan names."""
    discordance, drop, replicates = task
    n = samples_needed(discordance, drop, LIMIT, alpha=ALPHA, power_wanted=POWER)
    rng = np.random.default_rng([n, round(1000 * drop)])
    passed, failed = Gate(n, LIMIT).verdicts(*Truth(0.8, discordance, drop).simulate(n, replicates, rng))
    stated = power(n, discordance, drop, LIMIT, alpha=ALPHA)
    return {
        "discordance": discordance, "drop": drop, "n": n, "stated": stated,
        "measured": passed if drop < LIMIT else failed,
        "wrong": failed if drop < LIMIT else passed,
    }  # fmt: skip


def rules(task: tuple[int, int]) -> list[dict[str, Any]]:
    """What edgekit and the rule "more than a point of drop" say of the same simulated models."""
    n, replicates = task
    gate, rng, found = Gate(n, LIMIT), np.random.default_rng(n), []
    for discordance, drop in itertools.product((0.03, 0.05, 0.10), _DROPS):
        counts = Truth(0.8, discordance, drop).simulate(n, replicates, rng)
        passed, failed = gate.verdicts(*counts)
        by_points = float((counts[0] - counts[1] > LIMIT * n + 1e-9).mean())
        found.append(
            {
                "n": n, "discordance": discordance, "drop": drop,
                "pass": passed, "fail": failed, "point_rule_fail": by_points,
            }
        )  # fmt: skip
    return found


def _floats(counts: Counts) -> NDArray[np.float64]:
    return counts.astype(np.float64)


def run(replicates: int, counts: Sequence[int], workers: int) -> dict[str, Any]:
    """All simulations, the longest first."""
    order = sorted(counts, reverse=True)
    with ProcessPoolExecutor(workers) as pool:
        alarms = [
            pool.submit(false_alarms, (n, limit, replicates))
            for n in order
            for limit in (0.0, 0.01, 0.02, 0.03)
        ]
        compared = [pool.submit(rules, (n, replicates)) for n in (5000, 1000, 100)]
        plans = [
            pool.submit(planned_power, (discordance, drop, replicates))
            for discordance, drop in itertools.product(_DISCORDANCES, (0.0, 0.02, 0.03))
            if drop <= discordance
        ]
        return {
            "alpha": ALPHA,
            "power": POWER,
            "limit": LIMIT,
            "replicates": replicates,
            "false_alarms": [row for task in alarms for row in task.result()],
            "power_at_planned_n": [task.result() for task in plans],
            "rules": [row for task in compared for row in task.result()],
        }


def broken_claims(found: dict[str, Any]) -> Iterator[str]:
    """Every simulated situation in which a claim does not hold."""
    # Among a thousand simulated rates some are far off by chance: Bonferroni's bound for all of them together.
    tests = 3 * len(found["false_alarms"])
    error = NormalDist().inv_cdf(1 - 0.05 / tests) * math.sqrt(ALPHA * (1 - ALPHA) / found["replicates"])
    for row in found["false_alarms"]:
        where = "n {n}, limit {limit}, accuracy {accuracy}, discordance {discordance}".format(**row)
        allowed = ALPHA + error + (_APPROXIMATION if row["n"] * row["discordance"] > _EXACT_UP_TO else 0.0)
        for verdict in ("pass", "fail"):
            if row[verdict] > allowed:
                yield f"{100 * row[verdict]:.2f}% {verdict} where the drop is the limit: {where}"
        coarse = row["n"] * row["discordance"] < _COARSE
        if row["covered"] < _COVERAGE[0] - error or (row["covered"] > _COVERAGE[1] + error and not coarse):
            yield f"{100 * row['covered']:.2f}% of the intervals hold the drop: {where}"
    for row in found["power_at_planned_n"]:
        spread = 3 * math.sqrt(POWER * (1 - POWER) / found["replicates"])
        if abs(row["measured"] - row["stated"]) > 0.03 + spread or row["measured"] < POWER - 0.03 - spread:
            yield "power {measured:.3f}, stated {stated:.3f}, at n {n} of discordance {discordance}".format(
                **row
            )


def report(found: dict[str, Any]) -> None:
    """Print the tables."""
    alarms = found["false_alarms"]
    print(
        f"{len(alarms)} situations in which the true drop is the limit, {found['replicates']:,} pairs of models each"
    )
    print(
        "| n | passes, worst | fails, worst | intervals that hold it, from 5 discordant pairs on | with fewer |"
    )
    print("|---|---|---|---|---|")
    for n in sorted({row["n"] for row in alarms}):
        own = [row for row in alarms if row["n"] == n]
        fine = [row["covered"] for row in own if n * row["discordance"] >= _COARSE]
        coarse = [row["covered"] for row in own if n * row["discordance"] < _COARSE]
        print(
            f"| {n:,} | {_percent(max(row['pass'] for row in own))} | {_percent(max(row['fail'] for row in own))} "
            f"| {_range(fine)} | {_range(coarse)} |"
        )
    print(f"\nPower at the planned n, limit {_points(LIMIT)}, planned {POWER:.0%}")
    print("| discordance | true drop | n | stated | measured | wrong verdict |\n|---|---|---|---|---|---|")
    for row in found["power_at_planned_n"]:
        print(
            f"| {row['discordance']:.0%} | {_points(row['drop'])} | {row['n']:,} | {_percent(row['stated'])} "
            f"| {_percent(row['measured'])} | {_percent(row['wrong'])} |"
        )
    print(f"\nHow often a model is failed / passed, limit {_points(LIMIT)}, 5% of the predictions differ")
    heads = [f"edgekit, n = {n:,}" for n in (100, 1000, 5000)]
    print("| true drop | > 1 point, n = 100 | > 1 point, n = 1,000 | " + " | ".join(heads) + " |")
    print("|---|---|---|---|---|---|")
    for drop in _DROPS:
        own = {row["n"]: row for row in found["rules"] if row["drop"] == drop and row["discordance"] == 0.05}
        naive = [
            f"{own[n]['point_rule_fail']:.0%} / {1 - own[n]['point_rule_fail']:.0%}" for n in (100, 1000)
        ]
        ours = [f"{own[n]['fail']:.1%} / {own[n]['pass']:.1%}" for n in (100, 1000, 5000)]
        print(f"| {_points(drop)} | " + " | ".join([*naive, *ours]) + " |")


def plot(found: dict[str, Any], path: Path) -> None:
    """Rates over the true drop for the three rules, and coverage over discordant pairs, as one SVG."""
    own = [row for row in found["rules"] if row["discordance"] == 0.05]

    def curve(name: str, n: int, key: str) -> Curve:
        return Curve(name, [(100 * row["drop"], 100 * row[key]) for row in own if row["n"] == n])

    failures = chart(
        "How often a model is failed (limit 1 point, 5% of predictions differ)",
        "true drop in points",
        "failed, %",
        [
            curve("> 1 point, n = 100", 100, "point_rule_fail"),
            curve("> 1 point, n = 1,000", 1000, "point_rule_fail"),
            curve("edgekit, n = 1,000", 1000, "fail"),
            curve("edgekit, n = 5,000", 5000, "fail"),
        ],
        rules=[100 * ALPHA],
    )
    covered = [(row["n"] * row["discordance"], 100 * row["covered"]) for row in found["false_alarms"]]
    coverage = chart(
        "How often the 95% interval holds the true drop",
        "expected discordant pairs",
        "held, %",
        [Curve("one situation", covered, joined=False)],
        rules=[100 * end for end in _COVERAGE],
        logarithmic=True,
    )
    path.write_text(page([failures, coverage]), encoding="utf-8")


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _points(drop: float) -> str:
    return f"{100 * drop:g} points"


def _range(shares: Sequence[float]) -> str:
    return f"{_percent(min(shares))} to {_percent(max(shares))}" if shares else ""


def main() -> int:
    """Simulate, print, and say which claims hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="n up to 300 alone")
    parser.add_argument("--replicates", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    counts = [n for n in _COUNTS if n <= 300] if arguments.quick else _COUNTS
    found = run(arguments.replicates, counts, arguments.workers)
    report(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    if arguments.plot:
        plot(found, arguments.plot)
    broken = list(broken_claims(found))
    print("\n" + ("\n".join(broken) if broken else "all claims hold"))
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
