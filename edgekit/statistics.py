"""Intervals: how far a measured number may be from the truth, with few samples and many.

All are two-sided. None assumes that a proportion is far from 0 and 1, where quantized models live.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.floating[Any]]

_RESAMPLES = 2000


class Interval(NamedTuple):
    """The two ends of a confidence interval."""

    low: float
    high: float


def _quantile(confidence: float) -> float:
    """How many standard errors either side: 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """The score interval of one proportion: Wilson, JASA 22 (1927) 209.

    >>> [round(end, 4) for end in wilson_interval(81, 263)]
    [0.2553, 0.3662]

    Raises:
        ValueError: ``n`` is 0, or there are more successes than samples.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} of {n} is no proportion")
    z = _quantile(confidence)
    share = successes / n
    middle = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    shrink = 1 + z * z / n
    # At the ends the formula gives exactly 0 or 1, which rounding would miss.
    low = 0.0 if successes == 0 else (middle - spread) / shrink
    high = 1.0 if successes == n else (middle + spread) / shrink
    return Interval(low, high)


def paired_difference_interval(
    first_only: int, second_only: int, n: int, *, confidence: float = 0.95
) -> Interval:
    """Tango's score interval of a difference of two proportions of the same samples.

    The difference is ``(first_only - second_only) / n``: with the float model first, ``first_only`` counts
    the samples that only it gets right, and a positive difference is a drop. It holds with no discordant
    pair too: Tango, Statistics in Medicine 17 (1998) 891. The paper's contact lenses, 0 and 1 of 44 pairs:

    >>> [round(end, 3) for end in paired_difference_interval(0, 1, 44)]
    [-0.118, 0.059]

    Raises:
        ValueError: There are more discordant pairs than samples, or no samples.
    """
    if min(first_only, second_only) < 0 or first_only + second_only > n or n == 0:
        raise ValueError(f"{first_only} and {second_only} of {n} pairs")
    z = _quantile(confidence)
    estimate = (first_only - second_only) / n

    def score(difference: float) -> float:
        return float(tango_score(first_only, second_only, n, difference))

    return Interval(_crossing(score, z, -1.0, estimate), _crossing(score, -z, estimate, 1.0))


def tango_score(first_only: Any, second_only: Any, n: int, difference: float) -> Any:
    """Tango's score: the standardized difference under the hypothesis that the true one is ``difference``.

    Takes counts as numbers or as arrays of one shape. It rises with ``first_only``, falls with ``second_only``
    and with ``difference``, and is standard normal where many pairs differ.
    """
    linear = -first_only - second_only + (2 * n - first_only + second_only) * difference
    constant = -second_only * difference * (1 - difference)
    # The maximum likelihood estimate of the second discordant cell under the hypothesis.
    cell = (np.sqrt(np.maximum(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * cell + difference * (1 - difference))
    numerator = first_only - second_only - n * difference
    with np.errstate(divide="ignore", invalid="ignore"):
        score = numerator / np.sqrt(np.maximum(variance, 0.0))
    return np.where(numerator == 0, 0.0, score)


def _crossing(score: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Where a falling function crosses a level, by bisection down to the last bit."""
    for _ in range(60):
        middle = (low + high) / 2
        if score(middle) > level:
            low = middle
        else:
            high = middle
    return low if level > 0 else high


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Resamples of a statistic, with the two corrections of BCa: Efron, JASA 82 (1987) 171.

    ``resamples`` are sorted; where BCa is not defined, because all values are equal or few, ``bias`` and
    ``acceleration`` are 0 and the percentile interval stands in its place.
    """

    estimate: float
    resamples: Vector
    bias: float
    acceleration: float

    def interval(self, confidence: float = 0.95) -> Interval:
        """The two-sided interval; the estimate is never outside."""
        if not len(self.resamples):
            return Interval(self.estimate, self.estimate)
        tail = (1 - confidence) / 2
        ends = [self._level(NormalDist().inv_cdf(share)) for share in (tail, 1 - tail)]
        # A ratio may be infinite in some resamples, and between infinities nothing can be interpolated.
        low, high = np.quantile(self.resamples, ends, method="inverted_cdf")
        return Interval(min(float(low), self.estimate), max(float(high), self.estimate))

    @property
    def standard_error(self) -> float:
        """The spread of the statistic over resamples; NaN where it can be infinite."""
        return float(np.std(self.resamples)) if np.isfinite(self.resamples).all() else math.nan

    def confidence_below(self, limit: float) -> float:
        """The confidence with which the true value is below a limit, by inversion of the interval.

        It is the one-sided p-value of "the true value is at most the limit", and never nearer to 0 or 1 than the
        number of resamples can tell.
        """
        count = len(self.resamples)
        below = np.searchsorted(self.resamples, limit, side="left")
        not_above = np.searchsorted(self.resamples, limit, side="right")
        share = ((below + not_above) / 2 + 0.5) / (count + 1)
        shifted = NormalDist().inv_cdf(float(share)) - self.bias
        return NormalDist().cdf(shifted / (1 + self.acceleration * shifted) - self.bias)

    def _level(self, quantile: float) -> float:
        shifted = self.bias + quantile
        return NormalDist().cdf(self.bias + shifted / (1 - self.acceleration * shifted))


def bootstrap(values: Vector, statistic: Callable[..., Any], *, seed: int = 0) -> Bootstrap:
    """Resample independent values and compute a statistic of each resample.

    Args:
        values: One value per sample, shape (n,), or one row per sample, shape (n, k).
        statistic: Takes rows of the same kind, and gives one number: ``lambda rows: rows.mean()``. NaN where
            it is not defined; such resamples are left out.
        seed: The same seed gives the same resamples.
    """
    rng = np.random.default_rng(seed)
    n = len(values)
    estimate = float(statistic(values))
    # Many samples need fewer resamples: the interval is narrower, and so is its error.
    rounds = min(_RESAMPLES, max(_RESAMPLES // 4, 20_000_000 // n))
    drawn = np.array([statistic(values[rng.integers(0, n, n)]) for _ in range(rounds)], np.float64)
    known = np.sort(drawn[~np.isnan(drawn)])
    if not math.isfinite(estimate) or not len(known):
        return Bootstrap(estimate, known[:0], 0.0, 0.0)
    below = (np.sum(known < estimate) + np.sum(known == estimate) / 2) / len(known)
    if not 0 < below < 1:
        return Bootstrap(estimate, known, 0.0, 0.0)
    bias = NormalDist().inv_cdf(float(below))
    return Bootstrap(estimate, known, bias, _acceleration(values, statistic))


def bootstrap_interval(
    values: Vector, statistic: Callable[..., Any], *, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """The BCa interval of a statistic of independent values; the arguments are those of ``bootstrap``."""
    return bootstrap(values, statistic, seed=seed).interval(confidence)


def _acceleration(values: Vector, statistic: Callable[..., Any]) -> float:
    """How the spread of the statistic changes with its value, from the values left out in turn."""
    # Leaving out each of many samples would cost more than the resampling itself; groups tell as much.
    groups = np.array_split(np.arange(len(values)), min(len(values), 200))
    left_out = np.array([statistic(np.delete(values, group, axis=0)) for group in groups], np.float64)
    if not np.isfinite(left_out).all():
        return 0.0
    spread = left_out.mean() - left_out
    power = float(np.sum(spread**2)) ** 1.5
    return float(np.sum(spread**3)) / (6 * power) if power > 0 else 0.0


def median_interval(values: Vector, *, confidence: float = 0.95) -> Interval:
    """The bootstrap interval of the median, without resampling.

    A resample's median is at most the k-th smallest value with a binomial probability (Efron, Annals of
    Statistics 7 (1979) 1), so the limit of infinitely many resamples is a pair of order statistics.
    """
    from scipy.special import bdtrc

    ordered = np.sort(np.asarray(values, np.float64))
    n = len(ordered)
    if n == 0:
        raise ValueError("no values")
    half = (n - 1) // 2
    # The probability that more than half of a resample's n draws come from the k smallest values.
    at_most = bdtrc(half, n, np.arange(1, n + 1) / n)
    tail = (1 - confidence) / 2
    low = int(np.searchsorted(at_most, tail))
    return Interval(float(ordered[low]), float(ordered[n - 1 - low]))


class RocArea(NamedTuple):
    """The area under a ROC curve, with what DeLong's variance needs: one placement per sample."""

    area: float
    of_positives: Vector
    of_negatives: Vector


def roc_area(scores: Vector, positive: NDArray[np.bool_]) -> RocArea:
    """The probability that a positive sample scores above a negative one, ties counting half.

    Args:
        scores: Shape (n,), higher for positives.
        positive: Shape (n,).

    >>> roc_area(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])).area
    0.75

    Raises:
        ValueError: There are no positives or no negatives.
    """
    high, low = np.sort(scores[positive]), np.sort(scores[~positive])
    if not len(high) or not len(low):
        raise ValueError("a ROC curve needs samples of both classes")
    of_positives = _placements(scores[positive], low)
    of_negatives = 1 - _placements(scores[~positive], high)
    return RocArea(float(of_positives.mean()), of_positives, of_negatives)


def _placements(scores: Vector, others: Vector) -> Vector:
    """For each score the share of the sorted others below it, equal ones counting half."""
    below = np.searchsorted(others, scores, side="left")
    not_above = np.searchsorted(others, scores, side="right")
    return (below + not_above) / (2.0 * len(others))


def roc_area_interval(roc: RocArea, *, confidence: float = 0.95) -> Interval:
    """DeLong's interval, Biometrics 44 (1988) 837, on the logit scale so that it stays within 0 and 1."""
    spread = _quantile(confidence) * math.sqrt(_delong_variance(roc.of_positives, roc.of_negatives))
    if not 0 < roc.area < 1:
        # No pair is out of order: the variance is 0, but the rule of three for the scarcer class is not.
        limit = 1 - (1 - confidence) ** (1 / min(len(roc.of_positives), len(roc.of_negatives)))
        return Interval(1 - limit, 1.0) if roc.area == 1 else Interval(0.0, limit)
    logit = math.log(roc.area / (1 - roc.area))
    reach = spread / (roc.area * (1 - roc.area))
    return Interval(1 / (1 + math.exp(reach - logit)), 1 / (1 + math.exp(-reach - logit)))


def _delong_variance(of_positives: Vector, of_negatives: Vector) -> float:
    parts = (of_positives, of_negatives)
    return float(sum(np.var(part, ddof=1) / len(part) if len(part) > 1 else 0.0 for part in parts))
