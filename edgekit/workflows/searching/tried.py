"""The noun ``Tried``: a configuration and what its trial came to; and which of several nobody beats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgekit.findings import Finding
from edgekit.workflows.comparison import pareto_front
from edgekit.workflows.searching.configuration import Configuration

Objective = Literal["size", "latency", "drop", "snr"]
# For sorting and for fronts, less is better in each; latency is that of this machine, and noisy.
_COSTS = {
    "size": lambda tried: tried.document["size_bytes"],
    "latency": lambda tried: tried.latency_ms,
    "drop": lambda tried: tried.document["drop"],
    "snr": lambda tried: -tried.document["snr_db"],
}


@dataclass(frozen=True)
class Tried:
    """One trial.

    ``number`` counts from 1 in the order in which they were asked for; ``was_kept`` says that it was answered from the
    store, or by an equal configuration earlier in the same search.
    """

    number: int
    configuration: Configuration
    document: Mapping[str, Any]
    model: Path | None
    key: str
    was_kept: bool = False
    latency_ms: float | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is a file."""
        return bool(self.document["status"] == "done")

    def cost(self, objective: Objective) -> float | None:
        """What is minimized: bytes, milliseconds, the drop as a fraction, or the SNR with its sign turned."""
        value = _COSTS[objective](self) if self.is_done else None
        return None if value is None else float(value)

    @property
    def drop(self) -> float:
        """The drop on the samples of the search, in the metric's unit."""
        return float(self.document["drop"])

    @property
    def snr_db(self) -> float:
        """The SNR of the outputs on samples held back from calibration."""
        return float(self.document["snr_db"])

    def describe(self, *, on_front: bool) -> dict[str, Any]:
        """The trial as it stands in JSON documents."""
        names = (
            "status",
            "size_bytes",
            "snr_db",
            "value",
            "drop",
            "drop_ci95",
            "broken",
            "fixed",
            "n",
            "seconds",
        )
        found = {name: self.document.get(name) for name in names}
        return {
            "number": self.number,
            **found,
            "latency_ms": self.latency_ms,
            "error": self.document.get("error"),
            "configuration": self.configuration.describe(),
            "was_kept": self.was_kept,
            "pareto": on_front,
        }


def fronts(tried: Sequence[Tried], objectives: Sequence[Objective]) -> list[bool]:
    """Which trials no other beats in all objectives; equal ones count once, the first. What failed is on no front."""
    costs = [
        tuple(float("inf") if (cost := one.cost(objective)) is None else cost for objective in objectives)
        for one in tried
    ]
    seen: set[tuple[float, ...]] = set()
    found = []
    for one, row, best in zip(tried, costs, pareto_front(costs), strict=True):
        found.append(one.is_done and best and row not in seen)
        if found[-1]:
            seen.add(row)
    return found


def deaths(tried: Sequence[Tried]) -> list[Finding]:
    """What should be known of trials whose worker died, and how many gave no file."""
    errors = [one.document["error"] for one in tried if not one.is_done]
    found = [
        Finding("EK574", error["message"], error["hint"]) for error in errors if error["code"] == "EK574"
    ]
    if errors:
        text = f"{len(errors)} of {len(tried)} trials gave no file; the first: {errors[0]['message']}"
        found.append(Finding("EK575", text, "They count as failed; --json lists them with their reasons."))
    return list(dict.fromkeys(found))
