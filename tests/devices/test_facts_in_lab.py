"""Facts of emulated devices: a Raspberry Pi behind its own sshd, and a phone behind Android's own adbd."""

import pytest
from devicelab.processes import LabError

from edgekit.devices.cautions import findings
from edgekit.devices.device import Device
from edgekit.devices.facts import DeviceFacts, probe
from edgekit.devices.processor import Cores
from edgekit.devices.shell import Shell
from edgekit.devices.support import support

pytestmark = pytest.mark.devicelab

_MIB = 1 << 20


def probed(pi, folder: str | None = None) -> DeviceFacts:
    with Shell(Device("pi", pi.access.url, folder, str(pi.access.config))) as shell:
        return probe(shell)


def codes(facts: DeviceFacts) -> set[str]:
    return {finding.code for finding in findings(facts)}


def test_a_pi(fake_pi):
    fake_pi.set_throttled(0x50005)
    fake_pi.set_temperature(71.5)
    found = probed(fake_pi)
    assert found.model.startswith("Raspberry Pi 4 Model B")
    assert found.processor.cores == (Cores("Cortex-A72", 4),)
    assert not found.has_lse
    assert (found.machine, found.userland) == ("aarch64", "aarch64")
    assert str(found.libc) == "glibc 2.36"
    assert found.python is not None
    assert found.python.version.startswith("3.11.")
    assert found.temperature_c == 71.5
    assert found.throttle_flags == 0x50005
    assert (found.clocks.governors, found.clocks.max_mhz) == (("ondemand",), 1800.0)
    assert (found.disk.path, found.disk.executable) == ("/home/pi", True)
    assert codes(found) == {"EK820", "EK821"}
    assert [(runtime.name, runtime.possible) for runtime in support(found)] == [
        ("litert", True),
        ("onnxruntime", True),
        ("tflite_runtime", True),
        ("native", True),
    ]
    assert [path.name for path in fake_pi.home.iterdir()] == [".ssh"], "nothing is left behind"


def test_an_old_pi_runs_an_older_litert(old_pi):
    found = probed(old_pi)
    assert str(found.libc) == "glibc 2.31"
    assert found.python is not None
    assert found.python.version.startswith("3.9.")
    assert {runtime.name: runtime.version for runtime in support(found)}["litert"] == "1.4.0"


def test_a_pi_without_python_with_a_wrong_clock(fake_pi):
    fake_pi.hide_python()
    fake_pi.set_clock("-365d")
    fake_pi.set_governor("powersave")
    found = probed(fake_pi)
    assert found.python is None
    assert found.clock_skew_s == pytest.approx(-365 * 86400, abs=60)
    assert codes(found) == {"EK822", "EK825"}
    assert [runtime.name for runtime in support(found) if runtime.possible] == ["native"]


def test_a_pi_whose_disks_are_of_little_use(fake_pi):
    fake_pi.hide_python()  # which takes long to start in an emulator
    fake_pi.mount_small_disk("/mnt", size_mb=8)
    small = probed(fake_pi, "/mnt/edge kit's")
    assert small.disk.path == "/mnt"
    assert small.disk.free_bytes == 8 * _MIB
    assert codes(small) == {"EK826"}
    with pytest.raises(LabError):
        fake_pi.machine.run("sh", "-c", "cat /dev/zero > /mnt/everything")
    full = probed(fake_pi, "/mnt/edgekit")
    assert (full.disk.free_bytes, full.disk.writable) == (0, False)
    assert codes(full) == {"EK826", "EK827"}
    assert fake_pi.machine.run("ls", "-A", "/mnt").split() == ["everything"]
    fake_pi.machine.run("rm", "/mnt/everything")
    fake_pi.machine.mount("-o", "remount,noexec", "tmpfs", at="/mnt")
    noexec = probed(fake_pi, "/mnt/edgekit")
    assert (noexec.disk.writable, noexec.disk.executable) == (True, False)
    assert codes(noexec) == {"EK826", "EK827"}
    assert not any(runtime.possible for runtime in support(noexec))
    fake_pi.mount_read_only("/home/pi")
    read_only = probed(fake_pi)
    assert (read_only.disk.writable, read_only.disk.problem) == (False, "Read-only file system")


def test_a_phone(fake_phone):
    fake_phone.set_battery(level=12, celsius=38.1, powered=False)
    fake_phone.set_thermal_status(3, celsius=44.5)
    with Shell(Device("phone", fake_phone.url)) as shell:
        found = probe(shell)
    assert (found.model, found.soc, found.os) == ("Edgekit Fake Phone", "Nobody FAKE1", "Android 14")
    assert found.android is not None
    assert found.android.sdk == 34
    assert found.processor.cores[0].name == "Cortex-A76"
    assert found.has_lse
    assert found.battery is not None
    assert (found.battery.level_pct, found.battery.temperature_c, found.battery.powered) == (
        12.0,
        38.1,
        False,
    )
    assert found.thermal_status == 3
    assert found.disk.path == "/data/local/tmp"
    assert {"EK823", "EK824"} <= codes(found)
    assert fake_phone.output("ls -A /data/local/tmp") == ""
