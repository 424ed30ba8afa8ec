"""Affine quantization by hand and by property, and how far two tensors are apart."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.tensor import Difference, Quantization, dequantize, difference, element_count, quantize

_DTYPES = st.sampled_from(["int8", "uint8", "int16"])
_SCALES = st.floats(2.0**-20, 2.0**10, width=32)


def test_quantize_rounds_half_to_even_and_clips():
    values = np.array([-200.0, -1.25, -0.75, 0.0, 0.25, 0.75, 1.25, 200.0], np.float32)
    # Divided by 0.5: -400, -2.5, -1.5, 0, 0.5, 1.5, 2.5, 400; then 3 is added.
    assert quantize(values, Quantization((0.5,), (3,)), "int8").tolist() == [-128, 1, 1, 3, 3, 5, 5, 127]


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("int8", -128, 127), ("uint8", 0, 255), ("int16", -32768, 32767)]
)
def test_the_range_of_each_type(dtype, low, high):
    values = np.array([-1e9, 1e9], np.float32)
    integers = quantize(values, Quantization((1.0,), (0,)), dtype)
    assert integers.tolist() == [low, high]
    assert integers.dtype == dtype


def test_dequantize_by_hand():
    real = dequantize(np.array([-128, 0, 127], np.int8), Quantization((0.25,), (-128,)))
    assert real.tolist() == [0.0, 32.0, 63.75]
    assert real.dtype == np.float32


def test_each_channel_has_its_scale_along_the_axis():
    values = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]], np.float32)
    columns = Quantization((1.0, 0.5, 0.25), (0, 1, -1), axis=1)
    assert quantize(values, columns, "int8").tolist() == [[1, 3, 3], [2, 5, 7]]
    rows = Quantization((1.0, 0.5), (0, 0), axis=0)
    assert quantize(values, rows, "int8").tolist() == [[1, 1, 1], [4, 4, 4]]
    last = Quantization((1.0, 0.5, 0.25), (0, 1, -1), axis=-1)
    assert quantize(values, last, "int8").tolist() == quantize(values, columns, "int8").tolist()


@given(scale=_SCALES, zero_point=st.integers(-20, 20), dtype=_DTYPES, data=st.data())
def test_there_and_back_is_within_half_a_scale(scale, zero_point, dtype, data):
    quantization = Quantization((scale,), (zero_point,))
    limits = np.iinfo(dtype)
    low, high = scale * (limits.min - zero_point), scale * (limits.max - zero_point)
    values = data.draw(hnp.arrays(np.float64, 8, elements=st.floats(low, high)))
    back = dequantize(quantize(values, quantization, dtype), quantization)
    # float32 carries 24 bits, and an int16 uses 16 of them.
    assert np.abs(back - values).max() <= scale * (0.5 + 2**-6)


@given(scale=_SCALES, zero_point=st.integers(-128, 127), data=st.data())
def test_integers_survive_there_and_back(scale, zero_point, data):
    integers = data.draw(hnp.arrays(np.int8, 8))
    quantization = Quantization((scale,), (zero_point,))
    assert quantize(dequantize(integers, quantization), quantization, "int8").tolist() == integers.tolist()


@given(
    scales=st.lists(_SCALES, min_size=2, max_size=4),
    axis=st.integers(0, 2),
    data=st.data(),
)
def test_per_channel_is_per_tensor_on_every_slice(scales, axis, data):
    shape = [2, 3, 2]
    shape[axis] = len(scales)
    values = data.draw(hnp.arrays(np.float32, tuple(shape), elements=st.floats(-1000, 1000, width=32)))
    zero_points = tuple(range(len(scales)))
    whole = quantize(values, Quantization(tuple(scales), zero_points, axis), "int8")
    back = dequantize(whole, Quantization(tuple(scales), zero_points, axis))
    for channel, (scale, zero_point) in enumerate(zip(scales, zero_points, strict=True)):
        one = Quantization((scale,), (zero_point,))
        part = quantize(values.take(channel, axis), one, "int8")
        assert np.array_equal(whole.take(channel, axis), part)
        assert np.array_equal(back.take(channel, axis), dequantize(part, one))


@pytest.mark.parametrize(
    ("scales", "zero_points"),
    [((), ()), ((1.0,), (0, 1)), ((-1.0,), (0,)), ((math.nan,), (0,)), ((1.0, math.inf), (0, 0))],
)
def test_an_impossible_quantization_is_refused(scales, zero_points):
    with pytest.raises(ValueError, match="scale"):
        Quantization(scales, zero_points)


def test_difference_by_hand():
    # Signal 9 + 16 = 25, noise 0.25: 100 times, which is 20 dB.
    assert difference(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == Difference(20.0, 0.5)


def test_equal_tensors_differ_by_nothing():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert difference(values, values) == Difference(math.inf, 0.0)
    assert difference(np.zeros(3), np.zeros(3)) == Difference(math.inf, 0.0)
    assert difference(np.zeros(0), np.zeros(0)) == Difference(math.inf, 0.0)


def test_noise_on_silence():
    assert difference(np.zeros(2), np.array([0.0, 1.0])) == Difference(-math.inf, 1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_candidate_that_is_not_finite_is_infinitely_far(bad):
    assert difference(np.ones(2), np.array([1.0, bad])) == Difference(-math.inf, math.inf)


def test_integers_are_subtracted_without_wrapping():
    assert difference(np.array([-128], np.int8), np.array([127], np.int8)).max_abs == 255.0


@given(
    reference=hnp.arrays(np.float64, 16, elements=st.floats(1.0, 100.0)),
    error=hnp.arrays(np.float64, 16, elements=st.floats(0.01, 1.0)),
)
def test_ten_times_smaller_errors_are_twenty_decibels(reference, error):
    far = difference(reference, reference + error)
    near = difference(reference, reference + error / 10)
    assert near.snr_db - far.snr_db == pytest.approx(20.0, abs=1e-6)
    assert far.max_abs == pytest.approx(error.max())


def test_element_count():
    assert element_count((None, 32, 32, 3)) == 3072
    assert element_count(()) == 1
    assert element_count((4, 0)) == 0
