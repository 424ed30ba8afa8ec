"""Intervals against hand-worked and published numbers, and the properties that any interval must have."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.statistics import (
    bootstrap,
    bootstrap_interval,
    median_interval,
    paired_difference_interval,
    roc_area,
    roc_area_interval,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (10, 10, 0.7225, 1.0),
    ],
)
def test_wilson_as_published(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_estimate_within_0_and_1(case):
    successes, n = case
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    mirrored = wilson_interval(n - successes, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (3, 2), (-1, 2)])
def test_no_proportion(successes, n):
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(successes, n)


@pytest.mark.parametrize(
    ("first", "second", "n", "low", "high"),
    [
        (0, 1, 44, -0.118, 0.059),  # Tango 1998: contact lenses
        (1, 7, 21, -0.517, -0.026),  # Fagerland, Lydersen and Laake 2014: airway hyper-responsiveness
        (0, 0, 44, -0.0803, 0.0803),  # by hand: z^2 / (n + z^2) = 3.8415 / 47.8415
    ],
)
def test_tango_as_published(first, second, n, low, high):
    assert paired_difference_interval(first, second, n) == pytest.approx((low, high), abs=5e-4)


@given(st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(1, 3000)))
def test_tango_holds_its_estimate_and_mirrors_when_swapped(case):
    first, second, concordant = case
    n = first + second + concordant
    low, high = paired_difference_interval(first, second, n)
    assert -1 <= low <= (first - second) / n <= high <= 1
    assert low < high
    assert paired_difference_interval(second, first, n) == pytest.approx((-high, -low), abs=1e-9)


def test_tango_narrows_with_samples():
    widths = [high - low for low, high in (paired_difference_interval(k, k, 100 * k) for k in (1, 10, 100))]
    assert widths[0] > widths[1] > widths[2]


def test_bca_agrees_with_scipy():
    from scipy import stats

    values = np.random.default_rng(1).exponential(size=80)
    mine = bootstrap_interval(values, np.mean, seed=3)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, rng=5, method="BCa").confidence_interval
    assert mine == pytest.approx((theirs.low, theirs.high), rel=0.02)
    assert mine == bootstrap_interval(values, np.mean, seed=3)
    # A skewed sample's interval reaches further up than down; the plain normal one does not.
    assert mine.high - values.mean() > values.mean() - mine.low


def test_bootstrap_of_equal_values_is_a_point():
    assert bootstrap_interval(np.full(9, 2.5), np.mean) == (2.5, 2.5)


def test_bootstrap_of_rows():
    rows = np.random.default_rng(0).normal((3.0, 0.0), size=(200, 2))
    low, high = bootstrap_interval(rows, lambda part: part[:, 0].mean() - part[:, 1].mean())
    assert low < 3 < high
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(2 / 200), rel=0.15)


def test_median_interval_is_the_limit_of_resampling():
    values = np.random.default_rng(2).lognormal(size=101)
    rng = np.random.default_rng(3)
    medians = np.median(values[rng.integers(0, 101, (20_000, 101))], axis=1)
    assert median_interval(values) == pytest.approx(np.quantile(medians, [0.025, 0.975]), rel=0.02)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_median_interval_holds_the_median(values):
    low, high = median_interval(np.array(values))
    assert min(values) <= low <= np.median(values) <= high <= max(values)


def test_roc_area_by_hand():
    # Positives 2 and 3, negatives 1, 2 and 4: of six pairs 2 > 1, 3 > 1 and 3 > 2 are won, 2 = 2 is a tie.
    roc = roc_area(np.array([2.0, 3.0, 1.0, 2.0, 4.0]), np.array([True, True, False, False, False]))
    assert roc.area == pytest.approx((1 + 0.5 + 1 + 1) / 6)
    assert roc.of_positives.tolist() == pytest.approx([1.5 / 3, 2 / 3])
    assert roc.of_negatives.tolist() == pytest.approx([1.0, 0.75, 0.0])


def test_roc_area_interval_by_hand():
    # Variance 0.01389 / 2 + 0.27083 / 3 from the placements above.
    roc = roc_area(np.array([2.0, 3.0, 1.0, 2.0, 4.0]), np.array([True, True, False, False, False]))
    variance = (1 / 72) / 2 + (13 / 48) / 3
    area = 3.5 / 6
    reach = 1.959964 * math.sqrt(variance) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    expected = [1 / (1 + math.exp(-(logit + sign * reach))) for sign in (-1, 1)]
    assert roc_area_interval(roc) == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(2, 40))
def test_roc_area_agrees_with_all_pairs_and_its_interval_holds_it(seed, positives, negatives):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, positives + negatives).astype(float)
    positive = np.arange(positives + negatives) < positives
    roc = roc_area(scores, positive)
    pairs = scores[positive][:, None] - scores[~positive][None]
    assert roc.area == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    low, high = roc_area_interval(roc)
    assert 0 <= low <= roc.area <= high <= 1
    assert roc_area(-scores, positive).area == pytest.approx(1 - roc.area)


def test_one_class_has_no_roc():
    with pytest.raises(ValueError, match="both classes"):
        roc_area(np.ones(3), np.ones(3, bool))


def test_confidence_below_inverts_the_interval():
    values = np.random.default_rng(8).lognormal(size=120)
    resamples = bootstrap(values, np.mean)
    low, high = resamples.interval(0.90)
    assert resamples.confidence_below(low) == pytest.approx(0.05, abs=0.003)
    assert resamples.confidence_below(high) == pytest.approx(0.95, abs=0.003)
    assert resamples.confidence_below(values.min()) < 0.001
    assert resamples.confidence_below(values.max()) > 0.998


def test_a_bootstrap_is_never_certain():
    resamples = bootstrap(np.zeros(50), np.mean)
    assert 0 < resamples.confidence_below(-1.0) < 0.001
    assert 0.999 < resamples.confidence_below(1.0) < 1
    assert resamples.confidence_below(0.0) == pytest.approx(0.5)
