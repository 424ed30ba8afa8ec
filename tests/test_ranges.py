"""Ranges of activations from what was seen of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit.ranges import (
    BINS,
    METHODS,
    Observed,
    entropy,
    fake_quantize,
    min_max,
    moving_average,
    mse,
    percentile,
)
from edgekit.tensor import Array

_values = arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32))


def _seen(*calls: Array) -> Observed:
    observed = Observed()
    for values in calls:
        observed.add(values)
    return observed


@pytest.mark.parametrize("axis", [1, -1])
def test_of_a_large_tensor_every_channel_is_counted_alike(axis: int) -> None:
    channels = np.arange(1, 17, dtype=np.float32)
    values = np.broadcast_to(channels, (1, 96, 96, 16))
    observed = _seen(np.moveaxis(values, -1, axis))
    counts = observed.counts[observed.counts > 0]
    assert len(counts) == len(channels)
    assert counts.sum() < values.size / 10
    assert counts.max() - counts.min() <= 1


@given(st.lists(_values, min_size=1, max_size=4))
def test_nothing_that_was_seen_gets_lost(calls: list[Array]) -> None:
    observed = _seen(*calls)
    together = np.concatenate(calls).astype(np.float64)
    assert (observed.low, observed.high) == (together.min(), together.max())
    assert observed.counts.sum() == np.count_nonzero(together)
    assert observed.width == 0 or np.abs(together).max() <= observed.width * BINS


@given(st.lists(_values, min_size=1, max_size=4))
def test_a_histogram_is_the_same_in_one_call_as_in_many(calls: list[Array]) -> None:
    one, many = _seen(np.concatenate(calls)), _seen(*calls)
    if one.width == many.width:
        assert (one.counts == many.counts).all()
    else:  # A first call of small values only makes the bins finer, never coarser.
        assert many.width < one.width


@given(_values, st.sampled_from(sorted(METHODS)))
def test_every_range_holds_zero_and_lies_within_what_was_seen(values: Array, method: str) -> None:
    low, high = METHODS[method](_seen(values), 8)
    assert min(float(values.min()), 0.0) <= low <= 0.0 <= high <= max(float(values.max()), 0.0)


def test_a_moving_average_lags_behind_single_extremes() -> None:
    observed = _seen(np.array([0.0, 1.0]), np.array([0.0, 11.0]))
    assert moving_average(observed, 8) == pytest.approx((0.0, 0.95 * 1 + 0.05 * 11))
    assert min_max(observed, 8) == (0.0, 11.0)


def test_a_percentile_clips_one_value_of_ten_thousand_other_than_zero() -> None:
    values = np.concatenate([np.linspace(0.01, 1, 29_999), [100.0], np.zeros(70_000)])
    observed = _seen(values)
    low, high = percentile(observed, 8)
    assert low == 0.0
    assert high == pytest.approx(1.0, abs=observed.width)


def test_the_mean_squared_error_decides_how_much_is_clipped() -> None:
    # The best ends for 4 bits of a Laplace distribution are at 5.03 (Banner et al., arXiv:1810.05723, section 3).
    values = np.random.default_rng(0).laplace(size=200_000)
    low, high = mse(_seen(*np.split(values, 100)), 4)
    assert -low == pytest.approx(5.03, rel=0.15)
    assert high == pytest.approx(5.03, rel=0.15)


def test_a_uniform_distribution_is_not_clipped() -> None:
    observed = _seen(np.linspace(0, 6, 50_001))
    assert mse(observed, 8) == pytest.approx((0.0, 6.0))
    assert entropy(observed, 8) == pytest.approx((0.0, 6.0))


def test_entropy_clips_a_long_tail() -> None:
    values = np.concatenate([np.random.default_rng(1).normal(size=50_000), [60.0]])
    low, high = entropy(_seen(values), 8)
    assert 3 < high < 30
    assert low == pytest.approx(values.min())


def test_a_tensor_of_zeros_has_a_range() -> None:
    for method in METHODS.values():
        assert method(_seen(np.zeros((2, 3))), 8) == (0.0, 0.0)
    assert (fake_quantize(np.zeros(3), (0.0, 0.0), 8) == 0).all()


@given(_values, st.sampled_from([8, 16]))
def test_rounding_is_within_half_a_step(values: Array, bits: int) -> None:
    ends = min_max(_seen(values), bits)
    step = (ends[1] - ends[0]) / 255 if bits == 8 else max(-ends[0], ends[1]) / 32767
    error = np.abs(fake_quantize(values.astype(np.float64), ends, bits) - values)
    # With the zero point rounded, the outermost values of 8 bits may be clipped by half a step more.
    assert (error <= step * (1.01 if bits == 8 else 0.51)).all()
