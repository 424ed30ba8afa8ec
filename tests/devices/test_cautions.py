"""What of a device's state is worth a finding, and what is not."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.devices.cautions import findings
from edgekit.devices.facts import DeviceFacts, read, split
from edgekit.devices.probe_texts import Battery, Clocks
from edgekit.findings import Level

_PROBES = Path(__file__).parent / "probes"


@pytest.fixture
def healthy() -> DeviceFacts:
    pi = read(split((_PROBES / "pi4.txt").read_text(encoding="utf-8"), "MARK"))
    return replace(pi, throttle_flags=0, clock_skew_s=0.0)


def found(facts: DeviceFacts) -> list[tuple[str, str]]:
    return [(finding.code, finding.level) for finding in findings(facts)]


def test_a_healthy_device_has_none(healthy):
    assert found(healthy) == []


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (0x1, [("EK821", Level.WARNING)]),
        (0x4, [("EK820", Level.WARNING)]),
        (0x8, [("EK820", Level.WARNING)]),
        (0x50000, [("EK820", Level.NOTE), ("EK821", Level.NOTE)]),
        (0x50005, [("EK820", Level.WARNING), ("EK821", Level.WARNING)]),
        (None, []),
    ],
)
def test_throttling_now_matters_more_than_since_the_start(healthy, flags, expected):
    assert found(replace(healthy, throttle_flags=flags)) == expected


def test_powersave_is_slow_unless_the_driver_means_something_else_by_it(healthy):
    clocks = Clocks(("powersave",), ("cpufreq-dt",), 600.0, 1800.0, 1800.0)
    assert found(replace(healthy, clocks=clocks)) == [("EK822", Level.WARNING)]
    assert found(replace(healthy, clocks=replace(clocks, drivers=("intel_pstate",)))) == []


def test_a_clock_below_what_the_hardware_has(healthy):
    clocks = Clocks(("ondemand",), ("cpufreq-dt",), 600.0, 1500.0, 1800.0)
    (finding,) = findings(replace(healthy, clocks=clocks))
    assert finding.message == "The clock is limited to 1,500 of 1,800 MHz."


@pytest.mark.parametrize(
    ("battery", "low_power", "count"),
    [
        (Battery(29.0, 30.0, powered=False), None, 1),
        (Battery(29.0, 30.0, powered=None), None, 1),
        (Battery(29.0, 30.0, powered=True), None, 0),
        (Battery(30.0, 30.0, powered=False), None, 0),
        (Battery(None, None, powered=False), True, 1),
        (None, True, 1),
        (None, False, 0),
    ],
)
def test_power(healthy, battery, low_power, count):
    assert (
        found(replace(healthy, battery=battery, low_power_mode=low_power))
        == [("EK823", Level.WARNING)] * count
    )


@pytest.mark.parametrize(("status", "word"), [(0, None), (1, "light"), (6, "shutdown"), (9, "shutdown")])
def test_thermal_status(healthy, status, word):
    messages = [finding.message for finding in findings(replace(healthy, thermal_status=status))]
    assert messages == ([f"Android reports the thermal status {word} ({status})."] if word else [])


@pytest.mark.parametrize(
    ("skew_s", "words"),
    [
        (0.0, None),
        (-299.0, None),
        (-31_557_600.0, "365 days behind"),
        (3 * 31_557_600.0, "3 years ahead"),
        (600.0, "10 minutes ahead"),
        (-7 * 3600.0, "7 hours behind"),
        (None, None),
    ],
)
def test_a_clock_that_is_wrong(healthy, skew_s, words):
    messages = [finding.message for finding in findings(replace(healthy, clock_skew_s=skew_s))]
    assert messages == ([f"The device's clock is {words}."] if words else [])


def test_the_disk(healthy):
    little = replace(healthy.disk, free_bytes=200 << 20)
    assert [finding.message for finding in findings(replace(healthy, disk=little))] == [
        "Only 200 MiB are free in /home/pi on the device."
    ]
    read_only = replace(healthy.disk, writable=False, executable=False, problem="Read-only file system")
    assert [finding.message for finding in findings(replace(healthy, disk=read_only))] == [
        "/home/pi on the device cannot be written: Read-only file system."
    ]
    noexec = replace(healthy.disk, executable=False, problem="Permission denied")
    assert [finding.message for finding in findings(replace(healthy, disk=noexec))] == [
        "Programs cannot be run in /home/pi on the device: Permission denied."
    ]


def test_a_damaged_record(healthy):
    assert found(replace(healthy, damaged_record="It is damaged.")) == [("EK815", Level.WARNING)]
