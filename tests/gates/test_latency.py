"""Verdicts on latencies whose ratio is known, without a clock."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edgekit.gates import latency_ms, latency_ratio
from edgekit.latency_evidence import LatencyEvidence, floor_of, interleaved_ratio
from edgekit.measurement import Measurement
from edgekit.statistics import bootstrap


def measured(*medians):
    """A measurement whose blocks have these medians, in microseconds."""
    return Measurement("latency", "ns", tuple((1000.0 * m,) * 3 for m in medians))


def trial(**evidence):
    return SimpleNamespace(latency=LatencyEvidence(reason="", **evidence), alpha=0.05)


def ratios(value, noise=0.01, rounds=30):
    rng = np.random.default_rng(5)
    return bootstrap(np.log(value) + noise * rng.normal(size=rounds), np.median)


@pytest.mark.parametrize(
    ("ratio", "floor", "verdict"),
    [
        (1.30, 1.01, "fail"),
        (1.30, 1.50, "inconclusive"),  # equal models differ by more than that
        (0.80, 1.01, "pass"),
        (0.80, 1.50, "inconclusive"),
        (1.10, 1.01, "inconclusive"),
        (1.12, 1.001, "fail"),
        (1.08, 1.001, "pass"),
    ],
)
def test_the_noise_floor_stands_between_a_ratio_and_its_verdict(ratio, floor, verdict):
    gate = latency_ratio.decide(trial(ratio=ratios(ratio), noise_floor=floor), 1.10)
    assert gate.verdict == verdict
    assert gate.candidate == pytest.approx(ratio, rel=0.01)
    assert gate.ci95.low < gate.candidate < gate.ci95.high


def test_without_a_ratio_the_reason_is_given():
    evidence = replace(LatencyEvidence(), reason="No file.")
    gate = latency_ratio.decide(SimpleNamespace(latency=evidence, alpha=0.05), 1.1)
    assert (gate.verdict, gate.reason) == ("inconclusive", "No file.")


def test_a_ratio_is_taken_round_by_round():
    """The machine slows down to a third in between, and the ratio stays."""
    slow = np.array([1, 1, 3, 3, 3, 1, 1, 1, 1, 1.0])
    first, again, candidate = measured(*(100 * slow)), measured(*(104 * slow)), measured(*(204 * slow))
    found = interleaved_ratio(candidate, first, again)
    assert math.exp(found.estimate) == pytest.approx(2.0, rel=0.001)
    assert np.ptp(found.resamples) < 1e-9
    assert floor_of(again, first) == pytest.approx(1.04)
    assert floor_of(first, again) == pytest.approx(1.04)


@pytest.mark.parametrize(("limit", "verdict"), [(0.2, "pass"), (0.1, "inconclusive"), (0.05, "fail")])
def test_a_median_is_judged_by_its_interval(limit, verdict):
    latency = Measurement("latency", "ns", tuple((60_000.0 + 5000 * i,) * 5 for i in range(20)))
    candidate = SimpleNamespace(latency=latency)
    gate = latency_ms.decide(trial(candidate=candidate), limit)
    assert gate.verdict == verdict
    assert gate.ci95.low < gate.candidate < gate.ci95.high


def test_a_throttled_machine_gives_no_latency():
    candidate = SimpleNamespace(latency=measured(*[50.0] * 10))
    gate = latency_ms.decide(trial(candidate=candidate, disturbance="The machine was throttled: hot."), 1.0)
    assert (gate.verdict, gate.reason) == ("inconclusive", "The machine was throttled: hot.")
