"""Deployments over real links, and with the small programs that boards and phones have."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from devicelab.processes import wait_until
from faulty_links import QUICK, device_of
from served_release import digest_served, make_model, residue, served

from edgekit.devices import installed_runtimes, release_folders, shell
from edgekit.devices.device import Device
from edgekit.devices.device_lock import CLAIM, DONE, DeviceLock
from edgekit.devices.installed_runtimes import InstalledRuntime
from edgekit.devices.shell import Shell
from edgekit.errors import DependencyError, DeviceError
from edgekit.verbs.deploy import deploy
from edgekit.verbs.rollback import rollback
from edgekit.verbs.status import status
from edgekit.worker_process import WORKER

_AWKWARD = 'it\'s a "model" $(touch HACKED) `id` ;&.tflite'


@pytest.fixture
def quick(monkeypatch):
    """Links are given up sooner than users would like."""
    monkeypatch.setattr(shell, "Limits", lambda: QUICK)


@pytest.mark.parametrize("login_shell", ["/bin/sh", "/bin/bash"])
def test_the_whole_story_over_ssh(make_sshd, tmp_path, login_shell):
    sshd = make_sshd(login_shell=login_shell)
    device = device_of(sshd.access)
    folder = sshd.home / ".edgekit"
    with pytest.raises(DependencyError) as caught:
        deploy(make_model(tmp_path), device)
    assert caught.value.code == "EK860"
    assert not (folder / "releases").exists()
    with Shell(device) as connected:
        installed_runtimes.record(
            connected, InstalledRuntime("litert", "2.3.0", (sys.executable, str(WORKER)))
        )
    first = deploy(make_model(tmp_path), device)
    assert (first.health.ok, first.health.runtime) == (True, "litert")
    model = make_model(tmp_path, 1, _AWKWARD)
    second = deploy(model, device)
    found = served(folder)
    assert found.name == _AWKWARD
    assert found.read_bytes() == model.read_bytes()
    back = rollback(device)
    assert back.health.ok
    assert digest_served(folder) == back.release == first.release
    listed = status(device)
    assert [(kept.release, kept.state) for kept in listed.releases] == [
        (first.release, "current"),
        (second.release, "previous"),
    ]
    assert listed.ok
    assert not list(sshd.home.rglob("HACKED"))
    # The session that the health check had is the last that something was left of.
    wait_until(lambda: not sshd.programs(), "the end of all that was started there")


def test_a_folder_with_spaces_and_quotes(sshd, tmp_path):
    folder = sshd.home / 'a device\'s "folder" $HOME'
    device = device_of(sshd.access, str(folder))
    deploy(make_model(tmp_path), device, health_check=False)
    assert served(folder)
    assert status(device).ok


def test_a_link_that_is_cut_while_the_model_is_sent(sshd, tmp_path, quick):
    proxy = sshd.access.through_proxy()
    model = make_model(tmp_path, 3_000_000)
    cut = []

    def advance(done: int, total: int) -> None:
        if not cut and done > 1_000_000:
            cut.append(done)
            proxy.reset_once()

    done = deploy(model, device_of(sshd.access), health_check=False, progress=advance)
    assert cut
    assert digest_served(sshd.home / ".edgekit") == done.release
    # What had arrived was not sent again.
    assert done.bytes_sent < 1.9 * model.stat().st_size
    assert residue(sshd.home / ".edgekit") == []


@pytest.mark.slow
def test_edgekit_is_killed_while_it_sends(sshd, tmp_path):
    proxy = sshd.access.through_proxy()
    folder = sshd.home / ".edgekit"
    old = deploy(make_model(tmp_path), device_of(sshd.access), health_check=False)
    model = make_model(tmp_path, 3_000_000)
    proxy.limit_rate(1_000_000)
    words = ["deploy", str(model), "--device", sshd.access.url, "--no-health-check"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", *words],
        env=os.environ | {"HOME": str(sshd.access.home)},
        stderr=subprocess.DEVNULL,
    )
    wait_until(
        lambda: any(path.stat().st_size for path in folder.glob("releases/.*.new/*")), "the first bytes"
    )
    process.kill()
    process.wait()
    proxy.pass_all()
    assert digest_served(folder) == old.release
    assert status(device_of(sshd.access)).leftovers
    done = deploy(model, device_of(sshd.access), health_check=False)
    assert digest_served(folder) == done.release
    assert residue(folder) == []


def test_who_lost_the_lock_changes_nothing_any_more(sshd, tmp_path, quick):
    device = device_of(sshd.access)
    with Shell(device, QUICK) as slow, DeviceLock(slow) as lock:
        sshd.kill_sessions()
        other = deploy(make_model(tmp_path), device, health_check=False)
        slow.reconnect()
        with pytest.raises(DeviceError) as caught:
            release_folders.tidy(slow, lock.name, remove=[other.release])
        assert caught.value.code == "EK849"
        assert lock.renew()
        release_folders.tidy(slow, lock.name)
    assert digest_served(sshd.home / ".edgekit") == other.release


def test_the_next_waits_for_a_script_that_outlives_its_deployment(tmp_path):
    device = Device("box", "local", folder=str(tmp_path))
    with Shell(device) as first, Shell(device) as second:
        with DeviceLock(first) as lock:
            script = f"{CLAIM}sleep 3; {DONE}"
            running = first.start(["sh", "-c", script, "edgekit", first.folder, lock.name])
            wait_until(lambda: list(tmp_path.glob("busy.*")), "the script's beginning")
        began = time.monotonic()
        with DeviceLock(second):
            assert time.monotonic() - began > 1
            assert not list(tmp_path.glob("busy.*"))
        running.finish(time.monotonic() + 5)
        running.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("programs", "shell_name"),
    [("busybox", "busybox"), ("busybox", "mksh"), ("toybox", "mksh"), (None, "bash")],
)
def test_small_programs(programs, shell_name, tmp_path, monkeypatch):
    """Everything on the device is done by the programs of one box, and by one shell."""
    shell_path = shutil.which(shell_name)
    box = shutil.which(programs) if programs else ""
    if shell_path is None or box is None:
        pytest.skip(f"there is no {programs} with {shell_name} here")
    folder, bin_folder = tmp_path / "a 'device'", tmp_path / "bin"
    bin_folder.mkdir()
    if programs:
        listed = [box, *(["--list"] if programs == "busybox" else [])]
        names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
        for name in names:
            (bin_folder / name).symlink_to(box)
    (bin_folder / "sh").unlink(missing_ok=True)
    (bin_folder / "sh").symlink_to(shell_path)
    monkeypatch.setenv("PATH", str(bin_folder) if programs else f"{bin_folder}:{os.environ['PATH']}")
    device = Device("box", "local", folder=str(folder))
    models = tmp_path / "models"
    digests = []
    for padding in range(3):
        done = deploy(make_model(models, padding, _AWKWARD), device, health_check=False, keep=2)
        digests.append(done.release)
        assert digest_served(folder) == done.release
    assert sorted(path.name for path in (folder / "releases").iterdir()) == sorted(digests[1:])
    assert rollback(device, health_check=False).release == digests[1] == digest_served(folder)
    found = status(device)
    assert found.ok
    assert found.free_bytes > 0
    with Shell(device) as connected, DeviceLock(connected), pytest.raises(DeviceError) as caught:
        deploy(make_model(models), device, health_check=False)
    assert caught.value.code == "EK841"
    (folder / "releases" / digests[1] / _AWKWARD).write_bytes(b"rust")
    assert not status(device).ok
    deploy(make_model(models, 1, _AWKWARD), device, health_check=False)
    assert digest_served(folder) == digests[1]
    assert residue(folder) == []
