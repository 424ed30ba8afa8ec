"""Verdicts on a drop: within a limit, beyond it, or not yet known, each at a stated error rate.

Two one-sided tests stand side by side. "The drop is at least the limit" is to be rejected for a pass, "the
drop is at most the limit" for a fail; where neither is, the samples do not tell, and how many would is known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.statistics import tango_score

# Where more pairs than this differ, the score test's own error rate is within 0.2 points of what it claims.
_EXACT_UP_TO = 200
# The nuisance parameter is searched where it may be with a probability of one less this.
_GAMMA = 1e-5
_GRID = 48
# Cells this many standard deviations off the mean hold less probability than the p-values' own precision.
_REACH = 6.5
# Planning by exact enumeration while fewer pairs than this are expected to differ.
_PLAN_EXACTLY_UP_TO = 40
_MOST_SAMPLES = 10_000_000


class Verdict(StrEnum):
    """What a gate says."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class PValues:
    """How surprising the samples are if the true drop is at least (``beyond``), or at most (``within``), the limit."""

    beyond: float
    within: float

    def verdict(self, alpha: float) -> Verdict:
        """Which of the two is rejected: at most one is, as the two sum to at least 1."""
        if self.beyond <= alpha:
            return Verdict.PASS
        return Verdict.FAIL if self.within <= alpha else Verdict.INCONCLUSIVE


def paired_p_values(broken: int, fixed: int, n: int, limit: float) -> PValues:
    """Test the drop of a share, measured on the same samples before and after, against a limit.

    The statistic is Tango's score: Statistics in Medicine 17 (1998) 891. With few discordant pairs the normal
    distribution calls up to 9% of harmless models bad where it claims 5%, so its exact distribution is
    used: the largest over the unknown share of fixed samples (Sidik, Statistics in Medicine 22 (2003) 265),
    within a confidence set of it (Berger and Boos, JASA 89 (1994) 1012).

    Args:
        broken: Samples that only the first model gets right.
        fixed: Samples that only the second model gets right.
        n: All samples.
        limit: The drop to test against, 0.01 for one point.

    With no sample broken, 299 are needed to exclude a drop of a point: 0.99 to the power of 299 is 0.0495.

    >>> round(paired_p_values(0, 0, 299, 0.01).beyond, 3)
    0.05

    Raises:
        ValueError: The counts are no counts of pairs, or the limit is not between -1 and 1.
    """
    if min(broken, fixed) < 0 or broken + fixed > n or n == 0 or not -1 < limit < 1:
        raise ValueError(f"{broken} and {fixed} of {n} pairs against {limit}")
    if limit < 0:  # a rise that is asked for: the same with both models exchanged
        mirrored = paired_p_values(fixed, broken, n, -limit)
        return PValues(mirrored.within, mirrored.beyond)
    score = float(tango_score(np.float64(broken), np.float64(fixed), n, limit))
    if broken + fixed > _EXACT_UP_TO:
        return PValues(NormalDist().cdf(score), NormalDist().cdf(-score))
    shares = _shares_of_fixed(broken + fixed, n, limit)
    cells = _Cells.around(n, shares + limit, shares)
    scores = tango_score(cells.broken, cells.fixed, n, limit)
    below, above = scores <= score + 1e-9, scores >= score - 1e-9
    tails = np.array(
        [[p[below].sum(), p[above].sum()] for p in (cells.probabilities(q + limit, q) for q in shares)]
    )
    beyond, within = np.minimum(1.0, tails.max(axis=0) + _GAMMA)
    return PValues(float(beyond), float(within))


def mcnemar_p_value(broken: int, fixed: int) -> float:
    """The exact two-sided test of no change at all: McNemar, Psychometrika 12 (1947) 153, with binomial tails."""
    # scipy.stats has a test for it, and takes longer to import than many a check takes.
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(broken, fixed), broken + fixed, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests so adjusted that one false alarm in all is as rare as claimed.

    Holm, Scandinavian Journal of Statistics 6 (1979) 65.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def alpha_of_look(alpha: float, look: int) -> float:
    """The share of an error rate that the ``look``-th use of one baseline may spend.

    ``6 / (pi * look) ** 2`` of it, which sums to 1 over all looks that there will ever be; by Bonferroni's
    inequality the chance of any false verdict stays below ``alpha`` however the looks depend on each other.
    The first may spend 61%, the tenth 0.6%.

    >>> round(alpha_of_look(0.05, 1), 4)
    0.0304
    """
    return alpha * 6 / (math.pi * look) ** 2


def power(n: int, discordance: float, drop: float, limit: float, *, alpha: float = 0.05) -> float:
    """How often ``n`` samples give the right verdict.

    Args:
        n: Samples.
        discordance: The share of samples that the two models answer differently, one right and one wrong.
        drop: The true drop; below the limit the right verdict is a pass, above it a fail.
        limit: The limit of the drop.
        alpha: The error rate of one verdict.

    Raises:
        ValueError: The drop is the limit, where no verdict is right, or larger than the discordance.
    """
    _check_plan(discordance, drop, limit)
    if n * discordance > _PLAN_EXACTLY_UP_TO:
        spread = math.sqrt(max(discordance - drop**2, 0.0))
        margin = abs(limit - drop) * math.sqrt(n)
        level = NormalDist().inv_cdf(1 - alpha) * math.sqrt(_discordance_at(limit, discordance) - limit**2)
        return NormalDist().cdf((margin - level) / spread) if spread else float(margin > level)
    return _exact_power(n, discordance, drop, limit, alpha)


def samples_needed(
    discordance: float, drop: float, limit: float, *, alpha: float = 0.05, power_wanted: float = 0.8
) -> int:
    """How many samples give the right verdict so often: Connor, Biometrics 43 (1987) 207.

    To see that a drop of a point is one, when 3, 5 or 10% of the predictions differ:

    >>> [samples_needed(psi, 0.01, 0.0) for psi in (0.03, 0.05, 0.1)]
    [1853, 3090, 6181]

    Where few predictions differ the formula is a first guess, and exact enumeration corrects it.

    Raises:
        ValueError: As of ``power``.
    """
    _check_plan(discordance, drop, limit)
    quantile = NormalDist().inv_cdf
    at_limit = math.sqrt(_discordance_at(limit, discordance) - limit**2)
    at_drop = math.sqrt(max(discordance - drop**2, 0.0))
    root = (quantile(1 - alpha) * at_limit + quantile(power_wanted) * at_drop) / (limit - drop)
    guess = max(1, math.ceil(root**2))
    if guess * discordance > _PLAN_EXACTLY_UP_TO:
        return guess
    step = max(1, guess // 50)
    n = max(step, guess // 2 // step * step)
    while n < _MOST_SAMPLES and n * discordance <= 2 * _PLAN_EXACTLY_UP_TO:
        if _exact_power(n, discordance, drop, limit, alpha) >= power_wanted:
            return n
        n += step
    return max(n, guess)


def _check_plan(discordance: float, drop: float, limit: float) -> None:
    if drop == limit or not abs(drop) <= discordance <= 1 or abs(limit) >= 1:
        raise ValueError(f"a drop of {drop} against {limit} where {discordance} of the samples differ")


def _discordance_at(limit: float, discordance: float) -> float:
    """As large as a drop of the limit asks for: with a point lost, at least a point differs."""
    return max(discordance, abs(limit))


def _shares_of_fixed(discordant: int, n: int, limit: float) -> NDArray[np.float64]:
    """Where the share of fixed samples is searched, if the drop is the limit: Clopper and Pearson's interval."""
    from scipy.special import betaincinv

    low = 0.0 if discordant == 0 else float(betaincinv(discordant, n - discordant + 1, _GAMMA / 2))
    high = 1.0 if discordant == n else float(betaincinv(discordant + 1, n - discordant, 1 - _GAMMA / 2))
    ends = np.clip((np.array([low, high]) - limit) / 2, 0.0, (1 - limit) / 2)
    # Evenly on the scale on which a binomial share has the same spread everywhere.
    grid: NDArray[np.float64] = np.linspace(math.sqrt(ends[0]), math.sqrt(ends[1]), _GRID) ** 2
    return grid


@dataclass(frozen=True)
class _Cells:
    """Pairs of counts, as two columns of equal length, that hold nearly all the probability."""

    n: int
    broken: NDArray[np.float64]
    fixed: NDArray[np.float64]
    coefficient: NDArray[np.float64]  # logarithm of the multinomial coefficient

    @classmethod
    def around(cls, n: int, broken: NDArray[Any], fixed: NDArray[Any]) -> "_Cells":
        """The cells near the means of all these shares."""
        from scipy.special import gammaln

        sides = [
            np.arange(*_span(n, shares.min(), shares.max()), dtype=np.float64) for shares in (broken, fixed)
        ]
        first, second = (side.ravel() for side in np.meshgrid(*sides, indexing="ij"))
        possible = first + second <= n
        first, second = first[possible], second[possible]
        rest = n - first - second
        coefficient = gammaln(n + 1) - gammaln(first + 1) - gammaln(second + 1) - gammaln(rest + 1)
        return cls(n, first, second, coefficient)

    def probabilities(self, broken: float, fixed: float) -> NDArray[np.float64]:
        """Of each cell, if these are the true shares."""
        from scipy.special import xlogy

        rest = self.n - self.broken - self.fixed
        logarithm = self.coefficient + xlogy(self.broken, broken) + xlogy(self.fixed, fixed)
        found: NDArray[np.float64] = np.exp(logarithm + xlogy(rest, max(0.0, 1 - broken - fixed)))
        return found


def _span(n: int, low: float, high: float) -> tuple[int, int]:
    """First and one past the last of the counts that shares between two give."""
    first = n * low - _REACH * math.sqrt(n * low + 1) - 3
    last = n * high + _REACH * math.sqrt(n * high + 1) + 10
    return max(0, int(first)), min(n, int(last)) + 1


def _exact_power(n: int, discordance: float, drop: float, limit: float, alpha: float) -> float:
    """The probability of the right verdict, by enumerating what the samples may be."""
    if limit < 0:
        return _exact_power(n, discordance, -drop, -limit, alpha)
    true = ((discordance + drop) / 2, (discordance - drop) / 2)
    reached = max(discordance, limit)
    most = _span(n, reached, reached)[1] / n
    shares = _shares_of_fixed(0, n, limit)
    grid = np.linspace(0, math.sqrt(max(shares[-1], (most - limit) / 2, 0.0)), 2 * _GRID) ** 2
    cells = _Cells.around(n, np.array([0.0, true[0], grid[-1] + limit]), np.array([0.0, true[1], grid[-1]]))
    scores = tango_score(cells.broken, cells.fixed, n, limit)
    if drop > limit:  # a fail is right
        scores = -scores
    order = np.argsort(scores, kind="stable")
    # Cells of equal score are rejected together: each counts up to the last of its equals.
    last = np.searchsorted(scores[order], scores[order] + 1e-9, side="right") - 1
    worst = np.zeros(len(order))
    intervals = {d: _shares_of_fixed(int(d), n, limit) for d in np.unique(cells.broken + cells.fixed)}
    discordant = (cells.broken + cells.fixed)[order]
    low = np.array([intervals[d][0] for d in discordant])
    high = np.array([intervals[d][-1] for d in discordant])
    step = np.diff(grid).max()
    for share in grid:
        tail = np.cumsum(cells.probabilities(share + limit, share)[order])[last]
        # Half a step further on both sides, so that no interval falls between two points of the grid.
        worst = np.where((share >= low - step) & (share <= high + step), np.maximum(worst, tail), worst)
    rejected = worst + _GAMMA <= alpha
    return float(cells.probabilities(*true)[order][rejected].sum())
