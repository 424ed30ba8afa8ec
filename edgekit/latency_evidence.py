"""What can be known about a candidate's latency beside its baseline's, and what cannot."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files
from edgekit.artifact import Artifact
from edgekit.baseline import Baseline
from edgekit.errors import ModelError
from edgekit.findings import Finding
from edgekit.interleaved import RUNTIMES, BenchmarkOptions
from edgekit.measurement import Conditions, Measurement, Record, Verdict
from edgekit.statistics import Bootstrap, Vector, bootstrap
from edgekit.verbs.benchmark import Benchmark, ModelBenchmark, benchmark

_SAME_MACHINE = ("cpu_model", "architecture", "cores", "governor", "max_frequency_mhz")
_SAME_RUN = ("runtime", "runtime_version", "delegate", "threads", "batch")
_UNSTEADY = (Verdict.THROTTLED, Verdict.DRIFTING)
_FEWEST_ROUNDS = 5


@dataclass(frozen=True, eq=False)
class LatencyEvidence:
    """A candidate's benchmark, and its ratio to the baseline where one can be had.

    ``ratio`` resamples the logarithm of candidate over baseline, round by round; ``noise_floor`` is the ratio up to
    which two processes with one and the same model differed. ``how`` says what was compared, ``reason`` why
    nothing was, and ``disturbance`` why the latencies themselves are not to be trusted.
    """

    candidate: ModelBenchmark | None = None
    ratio: Bootstrap | None = None
    noise_floor: float = 1.0
    how: str = ""
    reason: str = "Nothing was benchmarked."
    disturbance: str = ""
    baseline_median_ms: float | None = None
    baseline_facts: Mapping[str, Any] = field(default_factory=dict)
    record: Record | None = None
    findings: tuple[Finding, ...] = ()


def gather(
    baseline: Baseline,
    candidate: Artifact,
    *,
    baseline_model: Path | None = None,
    options: BenchmarkOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LatencyEvidence:
    """Measure a candidate, interleaved with the baseline's model where its file is at hand.

    The model that stands twice in the run gives the noise floor: the baseline's, or, where only its stored
    latencies are left, the candidate's.

    Args:
        baseline: What to compare with.
        candidate: The model to measure.
        baseline_model: The file of the baseline's model, where it is not at the path that it had.
        options: What to measure.
        progress: Called with rounds done and all.

    Raises:
        ModelError: ``baseline_model`` is another file than the baseline was made of.
    """
    at_hand = _baseline_file(baseline, baseline_model)
    pair = candidate.path if at_hand is None else at_hand
    try:
        run = benchmark([pair, pair, candidate.path], options, progress=progress)
    except ModelError as error:
        return LatencyEvidence(reason=error.message)
    first, again, measured = run.models
    floor = floor_of(again.latency, first.latency)
    found = LatencyEvidence(
        measured,
        noise_floor=floor,
        disturbance=_disturbance(measured),
        record=replace(run.record(), models=run.record().models[-1:]),
        findings=tuple(dict.fromkeys(run.findings)),
        reason="",
    )
    if at_hand is None:
        return _against_stored(found, measured, baseline, run)
    return replace(
        found,
        ratio=interleaved_ratio(measured.latency, first.latency, again.latency),
        how=f"measured in turn with {at_hand.name}",
        baseline_median_ms=first.latency.median / 1e6,
        baseline_facts=first.opened,
    )


def _baseline_file(baseline: Baseline, given: Path | None) -> Path | None:
    """The baseline's model, if it is where it was or where the user says; None where it is gone or changed."""
    path = Path(baseline.model["path"]) if given is None else given
    same = files.is_model_path(path) and files.sha256(path) == baseline.model["sha256"]
    if not same and given is not None:
        raise ModelError(
            "EK478",
            f"{given} is not the model that the baseline was made of.",
            f"That was {baseline.model['path']} with sha256 {baseline.model['sha256'][:16]}...",
        )
    return path if same and baseline.model["format"] in set(RUNTIMES.values()) else None


def _against_stored(
    found: LatencyEvidence, candidate: ModelBenchmark, baseline: Baseline, run: Benchmark
) -> LatencyEvidence:
    stored = baseline.benchmark
    if stored is None:
        name = Path(baseline.model["path"]).name
        why = "cannot be timed" if Path(baseline.model["path"]).exists() else "is not at hand"
        return replace(found, reason=f"The baseline has no latencies, and its model {name} {why}.")
    facts, latency = stored.models[0]
    found = replace(found, baseline_facts=facts, baseline_median_ms=latency.median / 1e6)
    changed = [*_changed_machine(stored, run.before), *_changed_run(facts, candidate)]
    if changed:
        reason = f"The stored latencies were measured under other conditions: {'; '.join(changed[:4])}."
        return replace(found, reason=reason)
    if found.disturbance:
        return replace(found, reason=found.disturbance)
    return replace(
        found,
        ratio=_unpaired_ratio(candidate.latency, latency),
        how=f"against latencies stored {baseline.created[:10]}",
    )


def _changed_machine(stored: Record, now: Conditions) -> list[str]:
    pairs = {name: (getattr(stored.before, name), getattr(now, name)) for name in _SAME_MACHINE}
    return [f"{name} was {old}, is {new}" for name, (old, new) in pairs.items() if old != new]


def _changed_run(facts: Mapping[str, Any], candidate: ModelBenchmark) -> list[str]:
    now = candidate.describe()
    return [
        f"{name} was {facts.get(name)}, is {now[name]}" for name in _SAME_RUN if facts.get(name) != now[name]
    ]


def _disturbance(measured: ModelBenchmark) -> str:
    noise = measured.noise
    return f"The machine was {noise.verdict.value}: {noise.reason}" if noise.verdict in _UNSTEADY else ""


def floor_of(again: Measurement, first: Measurement) -> float:
    """How far two processes with the same model are apart: the further end of the interval of their ratio."""
    ratios = np.log(again.block_medians / first.block_medians)
    if len(ratios) < _FEWEST_ROUNDS:
        return float(np.exp(np.abs(ratios).max()))
    return math.exp(max(abs(end) for end in bootstrap(ratios, np.median).interval()))


def interleaved_ratio(candidate: Measurement, first: Measurement, again: Measurement) -> Bootstrap:
    """Of the candidate's to the mean logarithm of both runs of the baseline, each block beside its neighbours."""
    beside = (np.log(first.block_medians) + np.log(again.block_medians)) / 2
    return bootstrap(np.log(candidate.block_medians) - beside, np.median)


def _unpaired_ratio(candidate: Measurement, stored: Measurement) -> Bootstrap:
    """Of blocks that were not measured side by side."""
    rounds = min(len(candidate.blocks), len(stored.blocks))
    rows = np.column_stack([candidate.block_medians[:rounds], stored.block_medians[:rounds]])

    def logarithm(rows: Vector) -> float:
        return float(np.log(np.median(rows[:, 0]) / np.median(rows[:, 1])))

    return bootstrap(rows, logarithm)
