"""What people see of a device's facts, for each kind of device."""

from pathlib import Path

import pytest
from rich.console import Console

from edgekit.cli._device_view import facts_table, runtimes_table
from edgekit.devices.device import Device
from edgekit.devices.facts import read, split
from edgekit.devices.support import support
from edgekit.verbs.device import DeviceProbe

_PROBES = Path(__file__).parent.parent / "probes"
_LINES = {
    "pi4": [
        "model            Raspberry Pi 4 Model B Rev 1.5 / brcm,bcm2711",
        "processor        4 x Cortex-A72",
        "disk             22.7 GiB free in /home/pi, may write and run programs",
        "Python           3.11.2 (/usr/bin/python3), numpy 1.24.2",
        "clock            700 of 1,800 MHz, governor ondemand",
        "throttled        now: under voltage, throttled; since start: under voltage, throttled",
    ],
    "pi5": [
        "disk          18 MiB free in /mnt/usb, nothing can be run there (Permission denied)",
        "2.1.6: ModuleNotFoundError",
    ],
    "pi_zero2_32bit": ["kernel        Linux 6.6.31+rpt-rpi-v8 aarch64, programs are armv7l"],
    "android_phone": [
        "system           Android 14 (SDK 34), patch of 2024-07-05",
        "battery          17%, 38.4 °C, not powered",
        "thermal          moderate",
        "Python           there is no python3",
    ],
    "x86_laptop": ["throttled     54 times since start", "battery       87%, powered"],
    "alpine": [
        "libc          musl 1.2.4_git20230717",
        "disk          1,694 MiB free in /, not writable (Read-only file system)",
    ],
}


@pytest.mark.parametrize("name", sorted(file.stem for file in _PROBES.glob("*.txt")))
def test_every_kind_of_device_has_its_lines(name):
    facts = read(split((_PROBES / f"{name}.txt").read_text(encoding="utf-8"), "MARK"))
    console = Console(width=200, color_system=None)
    with console.capture() as shown:
        console.print(facts_table(facts))
        console.print(runtimes_table(DeviceProbe(Device("d", "null"), facts, support(facts))))
    for line in _LINES[name]:
        assert line in shown.get()
    assert "None" not in shown.get()
