"""Devices with faults of their own, on an emulated Raspberry Pi: disks, clocks, power, and old or no Python."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from devicelab.processes import wait_until
from faulty_links import acting_after, check_ctrl_c, check_full_disk, device_of, failing

from edgekit.devices import remote_files
from edgekit.devices.channel import Ended
from edgekit.devices.device import Device
from edgekit.devices.installed_runtimes import InstalledRuntime, record, start_worker
from edgekit.devices.session import DeviceSession
from edgekit.devices.shell import Shell
from edgekit.errors import DependencyError
from edgekit.formats import open_artifact
from edgekit.transports import Limits
from edgekit.worker_process import WORKER, WorkerProcess

pytestmark = pytest.mark.devicelab

# Emulation takes its time.
LIMITS = Limits(connect_s=5, login_s=10, command_s=20, idle_s=10, keepalive_s=1, patience_s=20)


def device(pi, folder: str | None = None) -> Device:
    return replace(device_of(pi.access, folder), name="pi")


@pytest.fixture
def shell(fake_pi):
    with Shell(device(fake_pi), LIMITS) as shell:
        yield shell


@pytest.fixture
def source(tmp_path) -> Path:
    file = tmp_path / "model"
    file.write_bytes(os.urandom(6_000_000))
    return file


def ask(shell: Shell, words: tuple[str, ...], verb: str, **options):
    """One answer of a worker on the device."""
    runtime = InstalledRuntime("onnxruntime", "1", words)
    with WorkerProcess("model.onnx", start_worker(shell, runtime), place="on pi") as worker:
        return worker.ask(verb, deadline_s=60, **options)


def sleepers(pi) -> list[int]:
    """The processes of the device that have to do with sleep."""
    found = []
    for pid in pi.programs():
        try:
            if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:  # it has just ended
            continue
    return found


def test_a_full_disk(fake_pi, source):
    fake_pi.mount_small_disk("/home/pi/small", size_mb=4)
    with Shell(device(fake_pi, "/home/pi/small"), LIMITS) as shell:
        check_full_disk(shell, source)


def test_a_read_only_card(fake_pi, shell, source):
    remote_files.write(shell, b"old", "/home/pi/model")
    fake_pi.mount_read_only("/home/pi")
    for path in ("/home/pi/model", "/home/pi/new/model"):
        with failing("EK808", within_s=20) as errors:
            remote_files.upload(shell, source, path)
        assert "Read-only file system" in errors[0].message
    assert remote_files.read(shell, "/home/pi/model") == b"old"


def test_a_clock_that_is_wrong_by_a_year(fake_pi, source):
    fake_pi.set_clock("-365d")
    with Shell(device(fake_pi), LIMITS) as shell:
        assert abs(int(shell.run("date", "+%s").text) - time.time() + 365 * 86400) < 3600
        assert remote_files.upload(shell, source, f"{shell.folder}/model") == 6_000_000
        remote_files.write(shell, WORKER.read_bytes(), f"{shell.folder}/tools/worker.py")
        words = ("python3", f"{shell.folder}/tools/worker.py")
        with failing("EK533", within_s=40, kind=DependencyError):
            ask(shell, words, "open", model="/none", runtime="litert", threads=1, xnnpack=True, seed=0)
        with failing("EK805", within_s=25):
            shell.run("sleep", "1000", deadline_s=2)
        wait_until(lambda: sleepers(fake_pi) == [], "the end of the command")


def test_power_lost_in_an_upload_and_in_a_command(fake_pi, shell, source):
    lost = []

    def cut_power(done: int, _total: int) -> None:
        if done > 3_000_000 and not lost:
            lost.append(done)
            fake_pi.switch_off()
            switching_on.start()

    with acting_after(1, fake_pi.switch_on) as switching_on:
        remote_files.upload(shell, source, "/home/pi/model", progress=cut_power)
        assert (fake_pi.home / "model").read_bytes() == source.read_bytes()
        assert [entry.name for entry in fake_pi.home.iterdir() if not entry.name.startswith(".")] == ["model"]
    fake_pi.reboot()
    shell.reconnect()
    running = shell.start(["sleep", "1000"])
    fake_pi.reboot()
    began = time.monotonic()
    with pytest.raises(Ended):
        running.read_line(began + 20)
    running.close()
    assert time.monotonic() - began < 30
    assert shell.run("echo", "back").text == "back"
    assert sleepers(fake_pi) == []


def test_a_pi_that_freezes_is_given_up_in_time(fake_pi):
    with Shell(device(fake_pi), LIMITS) as shell:
        shell.limits = replace(LIMITS, connect_s=2, login_s=2, patience_s=2)
        running = shell.start(["sleep", "1000"])
        fake_pi.freeze()
        began = time.monotonic()
        with pytest.raises(Ended):
            running.read_line(began + 20)
        running.close()
        with failing("EK800", within_s=20):
            shell.reconnect()
        assert time.monotonic() - began < 40
        fake_pi.thaw()


def test_no_python(fake_pi, shell, dense_onnx):
    path = f"{shell.folder}/tools/worker.py"
    remote_files.write(shell, WORKER.read_bytes(), path)
    record(shell, InstalledRuntime("onnxruntime", "1", ("/usr/bin/python3", path)))
    fake_pi.hide_python()
    with failing("EK533", within_s=40, kind=DependencyError) as errors:
        DeviceSession(shell, open_artifact(dense_onnx))
    assert "/usr/bin/python3" in errors[0].message
    assert "edgekit device setup" in errors[0].hint


def test_python_3_9_without_any_package(old_pi):
    with Shell(device(old_pi), LIMITS) as shell:
        path = f"{shell.folder}/tools/worker.py"
        remote_files.write(shell, WORKER.read_bytes(), path)
        assert shell.run("python3", "-V").text.startswith("Python 3.9")
        assert ask(shell, ("python3", path), "conditions")["cores"] >= 1
        for runtime in ("litert", "tflite_runtime", "onnxruntime"):
            options = {"model": "/none", "runtime": runtime, "threads": 1, "xnnpack": True, "seed": 0}
            with failing("EK533", within_s=40, kind=DependencyError) as errors:
                ask(shell, ("python3", path), "open", **options)
            assert "cannot be imported: No module named" in errors[0].message


def test_ctrl_c_leaves_nothing_running_on_the_pi(fake_pi):
    check_ctrl_c(device(fake_pi), lambda: sleepers(fake_pi))
