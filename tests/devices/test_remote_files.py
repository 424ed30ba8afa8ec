"""Files sent to a device over links that break and onto disks that are full: whole there, or not at all."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from devicelab.processes import is_alive, wait_until
from faulty_links import QUICK, device_of, failing

from edgekit.devices import remote_files
from edgekit.devices.device import Device
from edgekit.devices.installed_runtimes import InstalledRuntime, installed, record
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError, UsageError


@pytest.fixture
def source(tmp_path) -> Path:
    """A file that no byte may be lost of."""
    file = tmp_path / "model's source"
    file.write_bytes(b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(100_000)))
    return file


@pytest.fixture
def shell(sshd):
    with Shell(device_of(sshd.access), QUICK) as shell:
        yield shell


def in_folder(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def fake_program(monkeypatch, folder: Path, name: str, does: str) -> None:
    """Put a program before the one of that name in the PATH of the device that is this machine."""
    program = folder / "programs" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    program.chmod(0o755)
    if str(program.parent) not in os.environ["PATH"]:
        monkeypatch.setenv("PATH", str(program.parent), prepend=":")


def free_bytes(shell: Shell, path: str) -> int | None:
    """What an upload would find free."""
    upload = remote_files._Upload(shell, path, io.BytesIO(), 0)
    running = shell.start(["sh", "-c", remote_files._TAKE, "edgekit", str(Path(path).parent), path, "0"])
    try:
        return upload._look(running).free_bytes
    finally:
        running.close()


def test_a_file_arrives_and_is_not_sent_twice(sshd, shell, source):
    path = f'{sshd.home}/a folder\'s "name" $(touch x)/model.tflite'
    seen = []
    assert remote_files.upload(shell, source, path, progress=lambda *now: seen.append(now)) == 3_200_000
    assert Path(path).read_bytes() == source.read_bytes()
    assert seen[0] == (0, 3_200_000)
    assert seen[-1] == (3_200_000, 3_200_000)
    assert seen == sorted(seen)
    assert remote_files.upload(shell, source, path) == 0
    assert in_folder(Path(path).parent) == ["model.tflite"]
    assert not (sshd.home / "x").exists()


def test_a_file_that_was_there_is_replaced_whole(sshd, shell, source):
    path = sshd.home / "model"
    path.write_bytes(b"old")
    remote_files.write(shell, b"new", str(path))
    assert remote_files.read(shell, str(path)) == b"new"
    remote_files.upload(shell, source, str(path))
    assert path.read_bytes() == source.read_bytes()
    assert remote_files.sha256(shell, str(path)) == hashlib.sha256(source.read_bytes()).hexdigest()
    assert remote_files.sha256(shell, f"{path}.none") is None
    remote_files.write(shell, b"", str(path))
    assert path.read_bytes() == b""


def test_what_is_read_is_bounded(sshd, shell):
    (sshd.home / "large").write_bytes(bytes(1000))
    with failing("EK806", within_s=5):
        remote_files.read(shell, f"{sshd.home}/large", most_bytes=999)
    with failing("EK806", within_s=5) as errors:
        remote_files.read(shell, f"{sshd.home}/none")
    assert "No such file" in errors[0].message


def test_an_upload_goes_on_where_the_link_was_cut(sshd, source):
    proxy, path, cuts = sshd.access.through_proxy(), sshd.home / "model", []

    def cut(done: int, _total: int) -> None:
        if done > 2_000_000 and not cuts:
            wait_until(
                lambda: any(part.stat().st_size > 1_000_000 for part in sshd.home.glob("*.part")),
                "the arrival of a part",
            )
            cuts.append(done)
            proxy.reset_once()

    with Shell(device_of(sshd.access), QUICK) as shell:
        before = proxy.bytes_up
        sent = remote_files.upload(shell, source, str(path), progress=cut)
        passed = proxy.bytes_up - before
    assert len(cuts) == 1
    assert path.read_bytes() == source.read_bytes()
    assert in_folder(sshd.home) == ["model"]
    # What had arrived by then was not sent again.
    assert 3_200_000 <= sent <= 3_200_000 + 3_200_000 - 1_000_000
    assert 3_200_000 < passed < sent + 100_000


def test_an_upload_goes_on_in_a_later_run(sshd, source):
    proxy = sshd.access.through_proxy()
    path = sshd.home / "model"

    def break_off(done: int, _total: int) -> None:
        if done > 2_000_000:
            proxy.refuse()

    with Shell(device_of(sshd.access), replace(QUICK, patience_s=0)) as shell, failing("EK800", within_s=10):
        remote_files.upload(shell, source, str(path), progress=break_off)
    proxy.pass_all()
    wait_until(lambda: sshd.programs() == [], "the end of what was running there")
    [part] = sshd.home.iterdir()
    there = part.stat().st_size
    assert part.name.endswith(".part")
    assert there > 0
    with Shell(device_of(sshd.access), QUICK) as shell:
        assert remote_files.upload(shell, source, str(path)) == 3_200_000 - there
    assert path.read_bytes() == source.read_bytes()
    assert in_folder(sshd.home) == ["model"]


@pytest.mark.slow
def test_an_upload_over_a_link_that_is_cut_again_and_again(sshd, source):
    proxy = sshd.access.through_proxy()
    with Shell(device_of(sshd.access), replace(QUICK, patience_s=1)) as shell:
        stop = threading.Event()

        def cut() -> None:
            while not stop.wait(0.05):
                if proxy._bytes_left is None:
                    proxy.cut_after(700_000)

        cutter = threading.Thread(target=cut)
        cutter.start()
        remote_files.upload(shell, source, f"{sshd.home}/model")
        stop.set()
        cutter.join(10)
    assert (sshd.home / "model").read_bytes() == source.read_bytes()


@pytest.mark.slow
def test_an_upload_over_a_link_that_stalls_for_good(sshd, source):
    proxy = sshd.access.through_proxy()
    with Shell(device_of(sshd.access), replace(QUICK, login_s=1.5, patience_s=1)) as shell:
        timer = threading.Timer(0.3, proxy.stall)
        proxy.limit_rate(2_000_000)
        timer.start()
        with failing("EK800", within_s=20):
            remote_files.upload(shell, source, f"{sshd.home}/model")
        timer.join(10)
    proxy.reset_once()
    wait_until(lambda: sshd.programs() == [], "the end of what was running there")
    assert all(name.endswith(".part") for name in in_folder(sshd.home))


@pytest.mark.slow
def test_an_upload_over_a_slow_link_is_waited_for(sshd, source):
    proxy = sshd.access.through_proxy()
    with Shell(device_of(sshd.access), replace(QUICK, idle_s=1, keepalive_s=2)) as shell:
        proxy.limit_rate(1_000_000)
        assert remote_files.upload(shell, source, f"{sshd.home}/model") == 3_200_000
    assert (sshd.home / "model").read_bytes() == source.read_bytes()


@pytest.mark.slow
def test_a_device_that_freezes_in_an_upload(sshd, source):
    with Shell(device_of(sshd.access), replace(QUICK, patience_s=1)) as shell:
        seen = []

        def freeze(done: int, _total: int) -> None:
            if done > 300_000 and not seen:
                seen.append(done)
                sshd.freeze()

        with failing("EK800", within_s=25):
            remote_files.upload(shell, source, f"{sshd.home}/model", progress=freeze)
        sshd.thaw()
    wait_until(lambda: sshd.programs() == [], "the end of what was running there")


def test_sessions_killed_in_an_upload_are_made_anew(sshd, shell, source):
    seen = []

    def kill(done: int, _total: int) -> None:
        if done > 300_000 and not seen:
            seen.append(done)
            sshd.kill_sessions()

    remote_files.upload(shell, source, f"{sshd.home}/model", progress=kill)
    assert (sshd.home / "model").read_bytes() == source.read_bytes()
    assert in_folder(sshd.home) == ["model"]
    wait_until(lambda: sshd.programs() == [], "the end of what was running there")


def test_an_upload_of_which_nothing_arrives_is_given_up(tmp_path, monkeypatch):
    # Whatever was handed over is lost with the shell that should have written it, each time anew.
    fake_program(monkeypatch, tmp_path, "cat", "kill -9 $(cut -d ' ' -f 4 /proc/$PPID/stat)")
    source = tmp_path / "model"
    source.write_bytes(bytes(10_000))
    device = Device("box", "local", folder=str(tmp_path))
    with Shell(device, replace(QUICK, patience_s=1)) as shell, failing("EK804", within_s=10):
        remote_files.upload(shell, source, str(tmp_path / "sent"))


def test_a_disk_that_fills_up_while_data_arrive(tmp_path, monkeypatch):
    fake_program(monkeypatch, tmp_path, "cat", "echo 'cat: write error: No space left on device' >&2; exit 1")
    source = tmp_path / "model"
    source.write_bytes(bytes(100_000))
    with Shell(Device("box", "local", folder=str(tmp_path))) as shell, failing("EK807", within_s=10):
        remote_files.upload(shell, source, str(tmp_path / "sent" / "model"))
    assert in_folder(tmp_path / "sent") == []


def test_a_file_that_arrives_damaged(tmp_path, monkeypatch):
    fake_program(monkeypatch, tmp_path, "cat", "/bin/cat | tr a b")
    with Shell(Device("box", "local", folder=str(tmp_path))) as shell, failing("EK809", within_s=10):
        remote_files.write(shell, b"banana", str(tmp_path / "sent" / "fruit"))
    assert in_folder(tmp_path / "sent") == []


@pytest.mark.parametrize("openssl", [None, "exit 1", "echo 0123 *stdin; exit 0"])
def test_a_large_file_is_checked_whatever_openssl_says(tmp_path, monkeypatch, openssl):
    if openssl:
        fake_program(monkeypatch, tmp_path, "openssl", openssl)
    content = os.urandom(5_000_000)
    with Shell(Device("box", "local", folder=str(tmp_path))) as shell:
        remote_files.write(shell, content, str(tmp_path / "sent" / "model"))
        assert (tmp_path / "sent" / "model").read_bytes() == content
        fake_program(monkeypatch, tmp_path, "cat", "/bin/cat | tr '[:cntrl:]' x")
        with failing("EK809", within_s=20):
            remote_files.write(shell, content[::-1], str(tmp_path / "sent" / "model"))
    assert (tmp_path / "sent" / "model").read_bytes() == content
    assert in_folder(tmp_path / "sent") == ["model"]


def test_a_device_without_sha256sum_says_so(tmp_path, monkeypatch):
    fake_program(monkeypatch, tmp_path, "sha256sum", "echo 'sha256sum: applet not found' >&2; exit 127")
    with (
        Shell(Device("box", "local", folder=str(tmp_path))) as shell,
        failing("EK806", within_s=10) as errors,
    ):
        remote_files.write(shell, b"banana", str(tmp_path / "sent" / "fruit"))
    assert "sha256sum" in errors[0].message


@pytest.mark.parametrize(("tools", "sh"), [("busybox", "busybox"), ("toybox", "mksh"), ("busybox", "bash")])
def test_small_systems_have_all_that_is_needed(make_sshd, tmp_path, source, tools, sh):
    """What Android and small images have: other shells, and fewer and smaller programs than Debian's."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for program in (tools, sh):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    listed = subprocess.run(
        [tools, "--list"] if tools == "busybox" else [tools], capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split():
        (folder / name).symlink_to(shutil.which(tools))
    if sh != "busybox":
        (folder / "sh").unlink(missing_ok=True)
        (folder / "sh").symlink_to(shutil.which(sh))
    sshd = make_sshd(environment={"PATH": str(folder)}, login_shell=str(folder / "sh"))
    with Shell(device_of(sshd.access), QUICK) as shell:
        path = f"{shell.folder}/a folder/model's"
        assert shell.run("cat", stdin=b"\0x").output == b"\0x"
        assert remote_files.upload(shell, source, path) == 3_200_000
        assert remote_files.sha256(shell, path) == hashlib.sha256(source.read_bytes()).hexdigest()
        assert free_bytes(shell, path) > 1_000_000
        assert remote_files.read(shell, path) == source.read_bytes()
        record(shell, InstalledRuntime("native", "1", ("/bin/true",), {"A": "b c"}))
        assert installed(shell)["native"].environment == {"A": "b c"}
        with failing("EK805", within_s=5):
            shell.run("sh", "-c", "sleep 1000 & sleep 1000; true", deadline_s=0.5)
        wait_until(lambda: sshd.programs() == [], "the end of the command")
        running = shell.start(["sh", "-c", "kill -SEGV $$"])
        assert running.exit_status() == -11
        running.close()


def test_two_who_send_the_same_file_at_once_both_succeed(sshd, source):
    failures, path = [], f"{sshd.home}/model"

    def send() -> None:
        try:
            with Shell(device_of(sshd.access), QUICK) as shell:
                remote_files.upload(shell, source, path)
        except DeviceError as error:
            failures.append(error)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert (sshd.home / "model").read_bytes() == source.read_bytes()
    assert in_folder(sshd.home) == ["model"]


@pytest.mark.parametrize("what", ["file", "folder", "locked", "without new files"])
def test_a_place_that_cannot_be_written(tmp_path, what):
    place = tmp_path / "place"
    if what == "file":
        place.write_bytes(b"kept")
    elif what == "folder":
        (place / "model").mkdir(parents=True)
    else:
        place = Path("/proc/edgekit" if what == "locked" else "/proc/sys")
    with (
        Shell(Device("box", "local", folder=str(tmp_path))) as shell,
        failing("EK808", within_s=10) as errors,
    ):
        remote_files.write(shell, b"new", f"{place}/model")
    assert str(place) in errors[0].message
    if what == "file":
        assert place.read_bytes() == b"kept"


@pytest.mark.parametrize("folder", ["relative", "/two\nlines", "/nul\0", "~"])
def test_folders_that_no_device_can_have(folder):
    with failing("EK810", within_s=1, kind=UsageError):
        Device("box", "local", folder)


_PROGRAM = """
import sys, time
from pathlib import Path
from edgekit.devices import remote_files
from edgekit.devices.device import Device
from edgekit.devices.installed_runtimes import InstalledRuntime, installed, record
from edgekit.devices.shell import Shell
with Shell(Device("lab", "ssh://lab", None, sys.argv[1])) as shell:
    if sys.argv[2] == "upload":
        show = lambda *now: print(*now, flush=True)
        remote_files.upload(shell, Path(sys.argv[3]), shell.folder + "/model", progress=show)
    else:
        running = shell.start(["sh", "-c", "trap '' INT HUP TERM; sleep 1000 & sleep 1000; true"])
        try:
            print("running", flush=True)
            running.read_line(time.monotonic() + 100)
        finally:
            running.close()
"""


@pytest.mark.parametrize("doing", ["upload", "run"])
def test_ctrl_c_leaves_nothing_running_on_the_device(sshd, source, doing):
    proxy = sshd.access.through_proxy()
    proxy.limit_rate(3_000_000)
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(sshd.access.config), doing, str(source)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as program:  # fmt: skip
        assert program.stdout.readline()
        wait_until(lambda: len(sshd.programs()) >= 2, "programs on the device")
        running = sshd.programs()
        began = time.monotonic()
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=30)
    assert program.returncode == -signal.SIGINT
    assert time.monotonic() - began < 15
    assert said.count("Traceback") == 1
    assert "Warning" not in said
    assert said.rstrip().endswith("KeyboardInterrupt")
    wait_until(lambda: not any(map(is_alive, running)), "the end of what was running there", timeout_s=5)
