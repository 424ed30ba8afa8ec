"""Android devices behind the real adb: what it says of them, and what is left when it breaks."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from devicelab.processes import wait_until
from faulty_links import acting_after, check_ctrl_c, check_full_disk, failing

from edgekit.devices import remote_files
from edgekit.devices.channel import Ended
from edgekit.devices.device import Device
from edgekit.devices.installed_runtimes import InstalledRuntime, record
from edgekit.devices.session import DeviceSession
from edgekit.devices.shell import Shell
from edgekit.errors import DependencyError
from edgekit.formats import open_artifact
from edgekit.transports import Limits, connect

# Emulation takes its time.
LIMITS = Limits(connect_s=8, command_s=15, idle_s=8, patience_s=10)


def device_at(serial: str) -> Device:
    return Device("phone", f"adb://{serial}")


@pytest.fixture
def shell(fake_phone):
    with Shell(device_at(fake_phone.serial), LIMITS) as shell:
        yield shell


def started(phone) -> list[str]:
    """The command lines on the phone of what tests start there."""
    lines = []
    for pid in phone.programs():
        try:
            lines.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has just ended
            continue
    return [line for line in lines if "sleep" in line or "cat" in line]


def test_without_adb_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with failing("EK812", within_s=2, kind=DependencyError):
        connect(device_at("emulator-5554"), LIMITS)


def test_an_adb_that_hangs_is_given_up(monkeypatch, tmp_path):
    adb = tmp_path / "adb"
    adb.write_text("#!/bin/sh\nexec sleep 1000\n")
    adb.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with failing("EK800", within_s=4):
        connect(device_at("emulator-5554"), replace(LIMITS, connect_s=0.5))


@pytest.mark.devicelab
def test_commands_words_and_status(shell):
    odd = ["a b", "it's", "$(touch /x)", "a\nb", "\\", "!", "ä", ""]
    assert shell.script('printf "<%s>" "$@"', *odd).output.decode() == "".join(f"<{word}>" for word in odd)
    done = shell.run("sh", "-c", "printf 'a\\nb'; echo no >&2; exit 3", check=False)
    assert (done.output, done.errors, done.status) == (b"a\nb", "no", 3)
    assert shell.run("cat", stdin=bytes(range(256)) * 2000).output == bytes(range(256)) * 2000
    assert shell.folder == "/data/local/tmp/edgekit"


@pytest.mark.devicelab
def test_devices_that_adb_cannot_use(fake_phone):
    network = fake_phone.network
    with failing("EK800", within_s=20):
        connect(device_at("no-such-serial"), LIMITS)
    with failing("EK800", within_s=30):
        connect(device_at("127.0.0.1:5699"), LIMITS)
    with failing("EK813", within_s=30) as errors:
        connect(device_at(network.add_unauthorized(5621)), LIMITS)
    assert "accept the computer's key" in errors[0].hint
    fake_phone.kill_adbd()
    wait_until(lambda: network.states().get(fake_phone.serial) == "offline", "adb's notice")
    with failing("EK800", within_s=30) as errors:
        connect(device_at(fake_phone.serial), LIMITS)
    assert "refused" in errors[0].message
    # Once it is back, edgekit connects by itself.
    fake_phone.start_adbd()
    with Shell(device_at(fake_phone.serial), LIMITS) as shell:
        assert shell.run("echo", "back").text == "back"


@pytest.mark.devicelab
def test_two_devices_are_told_apart(fake_phone, second_phone):
    with (
        Shell(device_at(fake_phone.serial), LIMITS) as one,
        Shell(device_at(second_phone.serial), LIMITS) as two,
    ):
        remote_files.write(one, b"one", f"{one.folder}/name")
        remote_files.write(two, b"two", f"{two.folder}/name")
        assert remote_files.read(one, f"{one.folder}/name") == b"one"
        assert remote_files.read(two, f"{two.folder}/name") == b"two"
    assert (fake_phone.machine.root / "data/local/tmp/edgekit/name").read_bytes() == b"one"


@pytest.mark.devicelab
def test_an_upload_goes_on_after_the_cable_was_pulled(fake_phone, shell, tmp_path):
    source, pulled = tmp_path / "model", []
    source.write_bytes(os.urandom(6_000_000))

    def pull(done: int, _total: int) -> None:
        if done > 3_000_000 and not pulled:
            pulled.append(done)
            fake_phone.kill_adbd()
            plugging_in.start()

    with acting_after(1, fake_phone.start_adbd) as plugging_in:
        sent = remote_files.upload(shell, source, f"{shell.folder}/model", progress=pull)
    folder = fake_phone.machine.root / "data/local/tmp/edgekit"
    assert (folder / "model").read_bytes() == source.read_bytes()
    assert [entry.name for entry in folder.iterdir()] == ["model"]
    assert 6_000_000 <= sent < 11_000_000
    wait_until(lambda: started(fake_phone) == [], "the end of what was running there")


@pytest.mark.devicelab
def test_full_and_read_only_folders(fake_phone, tmp_path):
    fake_phone.mount_small_disk("/data/local/tmp/small", size_mb=4)
    small = Device("phone", fake_phone.url, "/data/local/tmp/small")
    with Shell(small, LIMITS) as shell:
        check_full_disk(shell, tmp_path / "model")
    fake_phone.mount_read_only("/data/local/tmp")
    with (
        Shell(device_at(fake_phone.serial), LIMITS) as shell,
        failing("EK808", within_s=20) as errors,
    ):
        remote_files.write(shell, b"x", f"{shell.folder}/x")
    assert "Read-only file system" in errors[0].message


@pytest.mark.devicelab
def test_a_frozen_phone_and_one_that_loses_power(fake_phone):
    limits = replace(LIMITS, command_s=4, connect_s=4, keepalive_s=1, keepalive_count=2, patience_s=2)
    with Shell(device_at(fake_phone.serial), limits) as shell:
        fake_phone.freeze()
        with failing("EK804", within_s=25):
            shell.run("true")
        with failing("EK814", within_s=25):
            shell.reconnect()
        fake_phone.thaw()
        # A command of which nothing is heard for a while is asked after.
        running = shell.start(["sh", "-c", "sleep 4; echo done"])
        assert running.read_line(time.monotonic() + 20) == b"done"
        running.close()
        running = shell.start(["sleep", "1000"])
        fake_phone.freeze()
        began = time.monotonic()
        with pytest.raises(Ended):
            running.read_line(began + 60)
        assert time.monotonic() - began < 20
        fake_phone.thaw()
        running.close()
        running = shell.start(["sleep", "1000"])
        fake_phone.switch_off()
        began = time.monotonic()
        with pytest.raises(Ended):
            running.read_line(began + 20)
        running.close()
        assert time.monotonic() - began < 40
        with failing("EK800", within_s=40):
            shell.reconnect()
        fake_phone.switch_on()
        shell.reconnect()
        assert shell.run("echo", "back").text == "back"


@pytest.mark.devicelab
def test_a_late_command_is_ended_on_the_phone_with_all_that_it_started(fake_phone, shell):
    with failing("EK805", within_s=25):
        shell.run("sh", "-c", "sleep 1000 & sleep 1000; true", deadline_s=3)
    wait_until(lambda: started(fake_phone) == [], "the end of the command")


@pytest.mark.devicelab
def test_a_runtime_that_needs_python_where_there_is_none(shell, dense_onnx):
    record(shell, InstalledRuntime("onnxruntime", "1", ("python3", "/data/local/tmp/worker.py")))
    with failing("EK533", within_s=40, kind=DependencyError) as errors:
        DeviceSession(shell, open_artifact(dense_onnx))
    assert "python3" in errors[0].message


@pytest.mark.devicelab
def test_ctrl_c_leaves_nothing_running_on_the_phone(fake_phone):
    check_ctrl_c(device_at(fake_phone.serial), lambda: started(fake_phone))
