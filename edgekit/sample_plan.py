"""How many samples a verdict takes, over the true drop and over how many predictions differ."""

from dataclasses import dataclass
from typing import Any

from edgekit.metrics import Drop
from edgekit.noninferiority import samples_needed
from edgekit.statistics import Interval, wilson_interval

_DISCORDANCES = (0.01, 0.02, 0.03, 0.05, 0.10, 0.15)
_DISTANCES = (0.0, 0.5, 1.5, 2.0)


@dataclass(frozen=True)
class SamplePlan:
    """Numbers of samples for the right verdict with probability ``power``.

    ``drops`` are the true drops of the columns, from none to twice the limit. Each row is a discordance with its
    numbers, None where no drop so large is possible. ``seen`` is the share of samples that the two models answered
    differently so far, with its 95% interval; None for metrics that know no right and wrong.
    """

    limit: float
    unit: str
    alpha: float
    power: float
    n: int
    seen: float | None
    seen_ci95: Interval | None
    drops: tuple[float, ...]
    rows: tuple[tuple[float | None, tuple[int | None, ...]], ...]

    def describe(self) -> dict[str, Any]:
        """The plan as it stands in JSON documents."""
        return {
            "limit": self.limit,
            "unit": self.unit,
            "alpha": self.alpha,
            "power": self.power,
            "n": self.n,
            "discordance": self.seen,
            "discordance_ci95": None if self.seen_ci95 is None else list(self.seen_ci95),
            "drops": list(self.drops),
            "rows": [{"discordance": share, "needed_n": list(needed)} for share, needed in self.rows],
        }


def plan_samples(drop: Drop, limit: float, unit: str, *, alpha: float, power: float) -> SamplePlan:
    """Plan from a drop that was measured on some samples.

    Args:
        drop: What was seen so far; its discordance, or spread, is taken for that of more samples.
        limit: The largest drop that passes; above 0, as nothing separates a drop of none from one of none.
        unit: The metric's unit.
        alpha: The error rate of the verdict.
        power: How often it should be the right one.
    """
    drops = tuple(distance * limit for distance in _DISTANCES)
    if drop.broken is None or drop.fixed is None:
        needed = tuple(drop.samples_needed(limit - true, alpha=alpha, power=power) for true in drops)
        return SamplePlan(limit, unit, alpha, power, drop.n, None, None, drops, ((None, needed),))
    seen = (drop.broken + drop.fixed) / drop.n
    interval = wilson_interval(drop.broken + drop.fixed, drop.n)
    shares = sorted({*_DISCORDANCES, round(max(seen, 1 / drop.n), 4)})
    rows = tuple(
        (share, tuple(_needed(share, true, limit, alpha, power) for true in drops)) for share in shares
    )
    return SamplePlan(limit, unit, alpha, power, drop.n, seen, interval, drops, rows)


def _needed(share: float, true: float, limit: float, alpha: float, power: float) -> int | None:
    if true > share:
        return None
    return samples_needed(share, true, limit, alpha=alpha, power_wanted=power)
