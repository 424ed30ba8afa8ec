import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import DataError
from edgekit.measurement import (
    BusyProcess,
    Conditions,
    Disturbance,
    Measurement,
    Record,
    latency_ms,
    ratio,
    throttled,
    throughput_per_s,
)

OLD = Path(__file__).parent / "data" / "benchmark_v1.json"

blocks = st.lists(
    st.lists(st.integers(1, 10**12), min_size=1, max_size=6).map(tuple), min_size=1, max_size=12
).map(tuple)


def test_summary_is_computed_from_all_values():
    latency = Measurement("latency", "ns", ((1e6, 3e6), (2e6, 10e6, 4e6)), warmups=(99e6,))
    summary = latency_ms(latency)
    assert summary["median"] == 3.0
    assert summary["mean"] == 4.0
    assert summary["stdev"] == pytest.approx(12.5**0.5)  # deviations -3 -1 -2 6 0: squares 50 over 4
    assert summary["min"] == 1.0
    assert summary["p90"] == pytest.approx(7.6)  # between 4 and 10, at 0.9 * 4 = 3.6
    assert summary["runs"] == 5
    assert summary["warmup_runs"] == 1
    assert summary["ci95_median"] is None  # two blocks are too few
    assert throughput_per_s(latency, batch=8) == pytest.approx(8 / 4e-3)


def test_one_value_has_no_deviation():
    assert latency_ms(Measurement("latency", "ns", ((5,),)))["stdev"] is None


def test_a_block_without_values_is_refused():
    with pytest.raises(ValueError, match="without values"):
        Measurement("latency", "ns", ((1.0,), ()))


def test_interval_of_the_median_knows_that_neighbours_resemble_each_other():
    draws = np.random.default_rng(1)
    levels = draws.normal(100, 5, 30)
    correlated = Measurement("latency", "ns", tuple(tuple(draws.normal(level, 0.1, 200)) for level in levels))
    low, high = correlated.median_ci95()
    assert low <= correlated.median <= high
    # 30 independent levels of spread 5: the standard error of their median is 1.25 * 5 / sqrt(30) = 1.1.
    # Resampling the 6,000 values one by one would give an interval 15 times narrower.
    assert 2.5 < high - low < 9


def test_interval_of_the_median_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        draws = np.random.default_rng(seed)
        measured = Measurement("latency", "ns", tuple(tuple(draws.normal(100, 1, 20)) for _ in range(30)))
        low, high = measured.median_ci95(seed)
        covered += low <= 100 <= high
    assert 88 <= covered <= 100


@given(blocks)
def test_interval_holds_the_median_and_stays_inside_the_values(raw):
    latency = Measurement("latency", "ns", raw)
    interval = latency.median_ci95()
    if len(raw) < 5:
        assert interval is None
    else:
        assert latency.values.min() <= interval[0] <= interval[1] <= latency.values.max()


def test_ratio_holds_when_the_machine_drifts():
    draws = np.random.default_rng(2)
    drift = np.linspace(1, 3, 30)  # three times slower at the end
    slow = Measurement(
        "latency", "ns", tuple(tuple(200 * level * draws.normal(1, 0.02, 15)) for level in drift)
    )
    fast = Measurement(
        "latency", "ns", tuple(tuple(100 * level * draws.normal(1, 0.02, 15)) for level in drift)
    )
    estimate, (low, high) = ratio(fast, slow)
    assert estimate == pytest.approx(0.5, rel=0.01)
    assert low < 0.5 < high
    assert high - low < 0.02
    assert np.ptp([slow.percentile(2), slow.percentile(98)]) > 300  # while the latencies span a factor


def test_ratio_of_hand_worked_rounds():
    candidate = Measurement("latency", "ns", ((2, 4, 6), (9,)))
    baseline = Measurement("latency", "ns", ((8, 8), (12,)))
    assert ratio(candidate, baseline) == (0.625, None)  # of 4/8 and 9/12; two rounds give no interval


@given(blocks, st.lists(st.floats(0, 1e12), max_size=5))
def test_measurement_survives_json(raw, warmups):
    latency = Measurement("latency", "ns", raw, tuple(warmups), tuple(float(i) for i in range(len(raw))))
    assert Measurement.from_document(json.loads(json.dumps(latency.describe()))) == latency


def test_conditions_say_what_could_not_be_read():
    conditions = Conditions(time=1.0, cores=4, busy_processes=())
    document = conditions.describe()
    assert document["temperature_c"] is None
    assert "temperature_c" in document["unreadable"]
    assert "busy_processes" not in document["unreadable"]
    assert "cores" not in document["unreadable"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"throttle_events": 3}, {"throttle_events": 3}, False),
        ({"throttle_events": 3}, {"throttle_events": 4}, True),
        ({"throttle_flags": 0}, {"throttle_flags": 0b0100}, True),  # throttled now
        ({"throttle_flags": 0x50000}, {"throttle_flags": 0x50000}, False),  # earlier, since boot
        ({"throttle_flags": 0x50000}, {"throttle_flags": 0x70000}, True),  # capped since
        ({}, {}, None),
    ],
)
def test_throttling_is_read_never_guessed(before, after, expected):
    assert throttled(Conditions(0.0, **before), Conditions(1.0, **after)) is expected


def test_disturbance_leaves_out_edgekit_itself():
    # 200 ticks passed on each of two cores; 150 were busy, 100 of them with the workers; 10 were withheld.
    before = Conditions(0.0, cores=2, cpu_ticks={"total": 1000, "busy": 500, "steal": 0}, own_ticks=40)
    after = Conditions(2.0, cores=2, cpu_ticks={"total": 1400, "busy": 650, "steal": 10}, own_ticks=140)
    assert Disturbance.between(before, after) == Disturbance(other_cpu_pct=25.0, steal_pct=5.0)
    assert Disturbance.between(Conditions(0.0), after) == Disturbance(None, None)


def test_record_is_read_back_as_it_was_written(tmp_path):
    record = Record(
        "local",
        (
            (
                {"model": "m.onnx", "threads": 2},
                Measurement("latency", "ns", ((5, 6), (7,)), (9,), (0.0, 0.5)),
            ),
        ),
        Conditions(
            1.0, cores=2, load_average=(0.1, 0.2, 0.3), busy_processes=(BusyProcess(7, "make", 99.0),)
        ),
        Conditions(2.0, cores=2),
        "0.1.0",
        seed=4,
    )
    record.save(tmp_path / "m.json")
    assert Record.read(tmp_path / "m.json") == record


def test_a_file_of_the_first_version_is_still_read():
    record = Record.read(OLD)
    (facts, latency), (_, second) = record.models
    assert facts["runtime"] == "litert"
    assert latency.blocks == ((103000, 101000, 102000), (100500, 101500))
    assert latency.warmups == (250000, 104000)
    assert latency.median == 101500
    assert second.values.tolist() == [52000, 51000, 50000]
    assert record.before.governor == "schedutil"
    assert record.before.temperature_c is None
    assert record.before.busy_processes == (BusyProcess(411, "cc1plus", 97.5),)
    assert record.seed == 3


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "EK541"),
        (b"\xff\xfe\x00", "EK541"),
        (b"[1, 2]", "EK541"),
        (b'{"schema_version": 1, "kind": "cookbook"}', "EK541"),
        (b'{"schema_version": 1, "kind": "benchmark"}', "EK541"),
        (b'{"schema_version": "1", "kind": "benchmark"}', "EK541"),
        (b'{"schema_version": 2, "kind": "benchmark"}', "EK540"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path, content, code):
    path = tmp_path / "m.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        Record.read(path)
    assert caught.value.code == code


@given(st.integers(0, 2000))
def test_a_cut_record_is_refused(tmp_path_factory, length):
    content = OLD.read_bytes().rstrip()
    path = tmp_path_factory.mktemp("cut") / "m.json"
    path.write_bytes(content[: min(length, len(content) - 1)])
    with pytest.raises(DataError):
        Record.read(path)
