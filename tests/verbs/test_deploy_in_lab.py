"""Deployments to an emulated Raspberry Pi and to an emulated phone behind the real adb."""

from pathlib import Path

import pytest
from devicelab.processes import wait_until
from faulty_links import QUICK, device_of, failing
from served_release import digest_served, make_model, residue, served

from edgekit.devices import shell
from edgekit.devices.device import Device
from edgekit.devices.device_lock import DeviceLock
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError
from edgekit.verbs.deploy import deploy
from edgekit.verbs.rollback import rollback
from edgekit.verbs.status import status

pytestmark = pytest.mark.devicelab


def _whole_story(device: Device, folder: Path, models: Path) -> None:
    digests = []
    for padding in range(3):
        name = f'it\'s "model" {padding}.tflite'
        done = deploy(make_model(models, padding, name), device, health_check=False, keep=2)
        digests.append(done.release)
        assert served(folder).name == name
    assert rollback(device, health_check=False).release == digests[1] == digest_served(folder)
    found = status(device)
    assert found.ok
    assert found.free_bytes > 0
    assert [kept.release for kept in found.releases] == [digests[1], digests[2]]
    with Shell(device) as connected, DeviceLock(connected), failing("EK841", within_s=30):
        deploy(make_model(models), device, health_check=False)
    served(folder).write_bytes(b"rust")
    assert not status(device).ok
    deploy(make_model(models, 1, 'it\'s "model" 1.tflite'), device, health_check=False)
    assert digest_served(folder) == digests[1]
    assert residue(folder) == []


def test_the_whole_story_on_a_pi_with_a_wrong_clock(fake_pi, tmp_path):
    fake_pi.set_clock("-365d")
    _whole_story(device_of(fake_pi.access), fake_pi.home / ".edgekit", tmp_path)


def test_the_whole_story_on_a_phone(fake_phone, tmp_path):
    folder = fake_phone.machine.root / "data/local/tmp/edgekit"
    _whole_story(Device("phone", fake_phone.url), folder, tmp_path)
    wait_until(lambda: not fake_phone.programs(), "the end of all that was started there")


@pytest.mark.parametrize("bytes_sent", [1, 1_500_000])
def test_a_pi_that_loses_power_while_the_model_is_sent(fake_pi, tmp_path, monkeypatch, bytes_sent):
    monkeypatch.setattr(shell, "Limits", lambda: QUICK)
    device, folder = device_of(fake_pi.access), fake_pi.home / ".edgekit"
    old = deploy(make_model(tmp_path), device, health_check=False)
    model = make_model(tmp_path, 3_000_000)

    def advance(done: int, _total: int) -> None:
        if done > bytes_sent:
            fake_pi.switch_off()

    with pytest.raises(DeviceError):
        deploy(model, device, health_check=False, progress=advance)
    fake_pi.switch_on()
    assert digest_served(folder) == old.release
    new = deploy(model, device, health_check=False)
    assert digest_served(folder) == new.release
    assert residue(folder) == []


def test_a_disk_that_is_too_small(fake_pi, tmp_path):
    fake_pi.mount_small_disk("/home/pi/small", size_mb=2)
    device = device_of(fake_pi.access, "/home/pi/small/edgekit")
    old = deploy(make_model(tmp_path), device, health_check=False)
    with failing("EK807", within_s=60):
        deploy(make_model(tmp_path, 3_000_000), device, health_check=False)
    found = status(device)
    assert (found.current, found.ok, found.leftovers) == (old.release, True, ())


def test_a_card_that_became_read_only(fake_pi, tmp_path):
    device = device_of(fake_pi.access)
    old = deploy(make_model(tmp_path), device, health_check=False)
    fake_pi.mount_read_only("/home/pi")
    with failing("EK842", within_s=60):
        deploy(make_model(tmp_path, 1), device, health_check=False)
    found = status(device)
    assert (found.current, found.ok) == (old.release, True)
