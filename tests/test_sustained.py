"""The first minute against the last, with numbers worked by hand."""

import numpy as np
import pytest

from edgekit.measurement import Measurement
from edgekit.sustained import first_against_last

MS = 1e6


def under_load(levels_ms, period_s=2.0):
    blocks = tuple((level * MS,) * 3 for level in levels_ms)
    return Measurement("latency", "ns", blocks, (), tuple(period_s * i for i in range(len(blocks))))


def test_ten_minutes_compare_minute_one_with_the_last():
    found = first_against_last(under_load([10.0] * 150 + [13.0] * 150))
    assert found.window_s == 60.0
    assert found.seconds == pytest.approx(598.039)
    assert (found.first_ms, found.last_ms, found.ratio) == (10.0, 13.0, 1.3)
    assert tuple(found.ci95) == pytest.approx((1.3, 1.3))


def test_a_short_run_compares_its_thirds():
    found = first_against_last(under_load([10.0] * 5 + [20.0] * 5 + [11.0] * 5))
    assert found.window_s == pytest.approx(28.033 / 3)
    assert found.ratio == pytest.approx(1.1)


def test_noise_is_no_slowing_down():
    level = np.random.default_rng(1).normal(10, 0.5, 300)
    found = first_against_last(under_load(level.tolist()))
    assert found.ci95.low < 1 < found.ci95.high


def test_few_blocks_have_no_interval():
    assert first_against_last(under_load([10.0, 11.0, 12.0])).ci95 is None
