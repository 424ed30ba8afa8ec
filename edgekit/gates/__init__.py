"""What a candidate must keep to pass: one file per gate, each with the limit of the budget that it judges.

A gate is a module. ``LIMIT`` names the field of ``Budget``; ``decide`` gives the verdict on a trial. A gate that
cannot tell says so: inconclusive is a verdict, with what would settle it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgekit.artifact import Artifact
from edgekit.baseline import Baseline
from edgekit.budget import Budget
from edgekit.latency_evidence import LatencyEvidence
from edgekit.metrics import Metric, Rows
from edgekit.noninferiority import Verdict
from edgekit.statistics import Interval


@dataclass(frozen=True)
class Gate:
    """One verdict, with the numbers that it rests on.

    ``difference`` is the drop for metrics, and candidate less baseline for others; ``unit`` is that of
    baseline and candidate: ``"fraction"``, ``"ratio"``, ``"bytes"``, ``"ms"``, ``"percent"``, ``"dB"`` or ``""``.
    ``p_value`` belongs to the verdict: that of the rejected hypothesis, or the smaller one. ``needed_n`` is how
    many samples would settle an inconclusive verdict.
    """

    name: str
    verdict: Verdict
    limit: float
    unit: str
    reason: str
    baseline: float | None = None
    candidate: float | None = None
    difference: float | None = None
    ci95: Interval | None = None
    n: int | None = None
    needed_n: int | None = None
    p_value: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The gate as it stands in JSON documents."""
        return {
            "name": self.name,
            "baseline": self.baseline,
            "candidate": self.candidate,
            "difference": self.difference,
            "ci95": None if self.ci95 is None else list(self.ci95),
            "limit": self.limit,
            "unit": self.unit,
            "verdict": self.verdict.value,
            "n": self.n,
            "needed_n": self.needed_n,
            "p_value": self.p_value,
            "reason": self.reason,
            "details": dict(self.details),
        }


@dataclass(frozen=True, eq=False)
class Trial:
    """A candidate beside its baseline: everything that gates judge by.

    ``before`` and ``after`` are the metric's rows of both on the same samples; ``alpha`` is what this look may
    spend. ``latency`` is None where no limit asks for it.
    """

    baseline: Baseline
    candidate: Artifact
    metric: Metric
    before: Rows
    after: Rows
    budget: Budget
    alpha: float
    class_names: tuple[str, ...] = ()
    latency: LatencyEvidence | None = None


class GateModule(Protocol):
    """What every file of this folder offers."""

    LIMIT: str

    def decide(self, trial: Trial, limit: float) -> Gate:
        """The verdict on a trial."""


def points(value: float, unit: str) -> str:
    """A drop's size for people: ``"1.00 points"`` of a fraction, ``"3.00 dB"``."""
    if unit == "fraction":
        return f"{100 * value:.2f} points"
    return f"{value:.2f} dB" if unit == "dB" else f"{value:.4g}"


def drop_or_gain(value: float, unit: str) -> str:
    """A drop for people: ``"a drop of 1.00 points"``, or ``"a gain of 0.50 points"`` where it is below 0."""
    return f"a {'gain' if value < 0 else 'drop'} of {points(abs(value), unit)}"


def at_most(name: str, baseline: float | None, candidate: float | None, limit: float, unit: str) -> Gate:
    """The verdict on a number that is known exactly; inconclusive where it is not known."""
    if candidate is None:
        return Gate(name, Verdict.INCONCLUSIVE, limit, unit, f"{name} could not be measured here.", baseline)
    verdict = Verdict.PASS if candidate <= limit else Verdict.FAIL
    relation = "within" if verdict is Verdict.PASS else "above"
    return Gate(
        name,
        verdict,
        limit,
        unit,
        f"{candidate:,.0f} {unit}: {relation} the limit of {limit:,.0f}.",
        baseline,
        candidate,
        None if baseline is None else candidate - baseline,
    )
