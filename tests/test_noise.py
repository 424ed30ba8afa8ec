"""The verdict on synthetic series whose nature is known."""

import numpy as np
import pytest

from edgekit.measurement import Conditions, Disturbance, Measurement, Verdict
from edgekit.noise import judge, level_change

CALM = Conditions(0.0, virtualized=False)
BLOCKS, RUNS = 30, 40


def series(levels, *, spread=0.01, seed=0):
    """Blocks of latencies around 1 ms: ``levels`` holds one factor per block."""
    draws = np.random.default_rng(seed)
    blocks = tuple(tuple(1e6 * level * draws.lognormal(0, spread, RUNS)) for level in levels)
    return Measurement("latency", "ns", blocks, starts_s=tuple(0.1 * i for i in range(len(blocks))))


def verdict(latency, before=CALM, after=CALM, disturbance=None):
    return judge(latency, before, after, disturbance)


@pytest.mark.parametrize("seed", range(20))
def test_a_stationary_series_is_stable(seed):
    assert verdict(series(np.ones(BLOCKS), seed=seed)).verdict is Verdict.STABLE


@pytest.mark.parametrize("seed", range(5))
def test_a_machine_that_wanders_a_little_is_stable(seed):
    levels = 1 + 0.01 * np.random.default_rng(seed).standard_normal(BLOCKS)
    assert verdict(series(levels, seed=seed)).verdict is Verdict.STABLE


@pytest.mark.parametrize(("size", "words"), [(0.2, "20% slower"), (-0.2, "20% faster")])
def test_a_slope_is_drifting(size, words):
    found = verdict(series(np.linspace(1, 1 + size, BLOCKS)))
    assert found.verdict is Verdict.DRIFTING
    assert words in found.reason
    assert found.next_step


def test_a_slope_below_the_limit_is_stable():
    assert verdict(series(np.linspace(1, 1.03, BLOCKS))).verdict is Verdict.STABLE


def test_a_step_up_that_stays_is_throttled_and_says_when():
    found = verdict(series(np.repeat([1.0, 1.3], [20, 10])))
    assert found.verdict is Verdict.THROTTLED
    assert "stepped after 2.0 s and stayed 30% slower" in found.reason
    assert found.next_step


def test_a_step_down_is_drifting():
    found = verdict(series(np.repeat([1.3, 1.0], [10, 20])))
    assert found.verdict is Verdict.DRIFTING
    assert "23% faster" in found.reason


def test_a_step_that_another_process_explains_is_not_throttling():
    found = verdict(series(np.repeat([1.0, 1.3], [20, 10])), disturbance=Disturbance(other_cpu_pct=80.0))
    assert found.verdict is Verdict.DRIFTING
    assert "other processes used 80% of a core" in found.reason


def test_a_step_on_a_virtual_machine_is_not_called_throttling():
    virtual = Conditions(0.0, virtualized=True)
    found = verdict(series(np.repeat([1.0, 1.3], [20, 10])), virtual, virtual)
    assert found.verdict is Verdict.DRIFTING
    assert "neighbour" in found.reason


def test_the_machines_own_word_comes_first():
    before, after = Conditions(0.0, throttle_events=1), Conditions(1.0, throttle_events=5)
    found = verdict(series(np.ones(BLOCKS)), before, after)
    assert found.verdict is Verdict.THROTTLED
    assert "reports" in found.reason


def test_a_short_burst_is_no_new_level():
    levels = np.ones(BLOCKS)
    levels[[7, 8]] = 1.6
    assert verdict(series(levels)).verdict is not Verdict.THROTTLED
    assert verdict(series(levels)).verdict is not Verdict.DRIFTING


@pytest.mark.parametrize("seed", range(5))
def test_two_modes_are_noisy(seed):
    draws = np.random.default_rng(seed)
    blocks = tuple(tuple(np.where(draws.random(RUNS) < 0.4, 1.5e6, 1e6)) for _ in range(BLOCKS))
    found = verdict(Measurement("latency", "ns", blocks))
    assert found.verdict is Verdict.NOISY
    assert "middle half spans 50.0%" in found.reason


def test_a_heavy_tail_is_noisy():
    draws = np.random.default_rng(0)
    blocks = tuple(tuple(np.where(draws.random(RUNS) < 0.08, 3e6, 1e6)) for _ in range(BLOCKS))
    found = verdict(Measurement("latency", "ns", blocks))
    assert found.verdict is Verdict.NOISY
    assert "p95 is 3.00 times the median" in found.reason


def test_a_median_that_is_not_known_is_noisy():
    # Two levels that alternate at random: each block is calm, but the median could be either.
    levels = np.random.default_rng(3).permutation(np.repeat([1.0, 1.08], [15, 15]))
    found = verdict(series(levels, spread=0.002))
    assert found.verdict is Verdict.NOISY


def test_few_runs_have_no_verdict():
    found = verdict(Measurement("latency", "ns", ((1.0,),) * 9))
    assert found.verdict is Verdict.UNKNOWN
    assert "9 runs" in found.reason


def test_equal_values_are_stable():
    assert verdict(Measurement("latency", "ns", ((1000.0,),) * 40)).verdict is Verdict.STABLE


def test_chance_is_rarely_called_a_change():
    found = sum(
        level_change(np.random.default_rng(seed).normal(1, 0.05, BLOCKS)) is not None for seed in range(100)
    )
    assert found <= 3


def test_the_place_and_size_of_a_step():
    change = level_change(np.array([10.0] * 8 + [12.0] * 6) + np.tile([0.1, -0.1], 7))
    assert (change.shape, change.at_block) == ("step", 8)
    assert change.size == pytest.approx(0.2, abs=0.02)


def test_the_size_of_a_slope():
    change = level_change(np.linspace(10, 15, 20))
    assert change.shape == "line"
    assert change.size == pytest.approx(0.5)
