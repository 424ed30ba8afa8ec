"""The rules, on sums that were worked out by hand."""

import math

import numpy as np
import pytest

from edgekit.debugging.graph import Value, Weight
from edgekit.debugging.pairing import Pair, Pairing
from edgekit.debugging.sums import Seen, Sums
from edgekit.debugging.verdict import Verdict, judged, overall
from edgekit.tensor import Quantization

_RANDOM = np.random.default_rng(0)
_EXACT = _RANDOM.uniform(-10, 10, (1, 4000)).astype(np.float32)
_STEP = 0.1


def value(key, quantization=None, **options):
    return Value(
        key, key, "CONV_2D", (1, 4000), "int8" if quantization else "float32", quantization, (), {}, **options
    )


def report(measured, *, a=None, b=None, reference=_EXACT, exact=_EXACT):
    """The report on a pair of tensors with one sample; by default a float tensor and one with a step of 0.1."""
    grid = Quantization((_STEP,), (0,))
    pair = Pair(a or value("a"), b or value("b", grid), "place")
    seen = Seen()
    seen.whole.add(reference, measured)
    seen.add_clipping(reference, pair.b)
    seen.add_own(exact, exact, measured, pair.b)
    seen.has_rounded_weights = True
    return judged(Pairing((pair,), (), ()), {"b": seen}, {}, ())[0]


def test_sums_over_two_samples():
    sums = Sums()
    sums.add(np.array([3.0]), np.array([3.0]))
    sums.add(np.array([4.0]), np.array([4.5]))
    assert (sums.signal, sums.noise, sums.largest, sums.count) == (25.0, 0.25, 0.5, 2)
    assert sums.snr_db == pytest.approx(20.0)
    assert sums.cosine == pytest.approx((9 + 18) / math.sqrt(25 * (9 + 20.25)))


def test_nearest_rounding_is_rounding_and_meets_what_is_expected():
    found = report(np.rint(_EXACT / _STEP) * _STEP)
    assert found.verdict is Verdict.ROUNDING
    # step^2 / 12 against the mean square of a uniform distribution, 100 / 3.
    assert found.expected_db == pytest.approx(10 * math.log10(100 / 3 / (_STEP**2 / 12)), abs=0.1)
    assert found.own_db == pytest.approx(found.expected_db, abs=0.3)


def test_ten_db_more_than_expected_and_below_thirty_is_a_defect():
    noise = _RANDOM.normal(0, 1, _EXACT.shape) * np.sqrt(np.mean(_EXACT**2))
    assert report(_EXACT + noise * 10 ** (-25 / 20)).verdict is Verdict.DEFECT
    assert report(_EXACT + noise * 10 ** (-32 / 20)).verdict is Verdict.DEGRADES
    assert report(_EXACT + noise * 10 ** (-43 / 20)).verdict is Verdict.ROUNDING


def test_two_steps_on_one_grid_are_rounding_and_three_are_not():
    grid = Quantization((_STEP,), (0,))
    exact = np.rint(_EXACT / _STEP) * _STEP
    off = np.zeros_like(exact)
    off[0, 0] = 2 * _STEP
    assert report(exact + off, a=value("a", grid), exact=exact, reference=exact).verdict is Verdict.ROUNDING
    signs = np.where(np.arange(exact.size) % 2, 3 * _STEP, -3 * _STEP).reshape(exact.shape)
    found = report(exact + signs, a=value("a", grid), exact=exact, reference=exact)
    assert found.verdict is not Verdict.ROUNDING
    assert found.describe()["own_max_steps"] == pytest.approx(3, abs=0.01)


def test_a_range_that_is_too_narrow_degrades_and_one_that_holds_little_is_a_defect():
    # int8 with these steps reaches to 8.9 and to 1.3 of 10.
    for step, verdict in ((0.07, Verdict.DEGRADES), (0.01, Verdict.DEFECT)):
        grid = Quantization((step,), (0,))
        measured = np.clip(np.rint(_EXACT / step), -128, 127) * step
        found = report(measured, b=value("b", grid))
        assert found.verdict is verdict
        share = np.mean((127.5 * step < _EXACT) | (-128.5 * step > _EXACT))
        assert found.seen.saturated_share == pytest.approx(share)


def test_float_kernels_that_add_up_in_another_order_are_rounding():
    measured = _EXACT * np.float32(1 + 1e-7)
    assert report(measured, b=value("b")).verdict is Verdict.ROUNDING
    assert report(_EXACT, b=value("b")).verdict is Verdict.IDENTICAL


def test_nan_is_a_defect():
    measured = _EXACT.copy()
    measured[0, 0] = np.nan
    assert report(measured).verdict is Verdict.DEFECT


def test_the_noise_of_rounded_weights_is_expected():
    measured = _EXACT * 1.05
    plain = report(measured, b=value("b"))
    assert plain.verdict is Verdict.DEFECT
    pair = Pair(value("a"), value("b"), "place")
    coarse = Weight("w", (4, 4), np.float32(0.5), noise=0.01)
    pair = Pair(pair.a, Value("b", "b", "CONV_2D", (1, 4000), "float32", None, (), {1: coarse}), "place")
    seen = Seen()
    seen.whole.add(_EXACT, measured)
    seen.add_own(_EXACT, _EXACT, measured, pair.b)
    assert judged(Pairing((pair,), (), ()), {"b": seen}, {}, ())[0].verdict is Verdict.ROUNDING


def test_outputs_that_are_of_no_use_degrade_without_a_guilty_operator():
    rounded = np.rint(_EXACT / _STEP) * _STEP
    far = np.clip(_EXACT + _RANDOM.normal(0, 4, _EXACT.shape), -12, 12).astype(np.float32)
    found = report(rounded, reference=far)
    assert found.verdict is Verdict.ROUNDING
    assert found.seen.whole.snr_db < 10
    assert overall([found], ["b"]) is Verdict.DEGRADES
    assert overall([found], []) is Verdict.ROUNDING
