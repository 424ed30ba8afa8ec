"""Deployments to this machine as a device: what is in service, what is kept, and what a failure leaves."""

import json
import os
import shutil
import threading
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import served_release
from served_release import residue, served

from edgekit import health_check
from edgekit.cli._group import run
from edgekit.devices import device_lock, release_folders
from edgekit.devices.device import Device
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError, EdgekitError, TargetError, UsageError
from edgekit.runtimes import open_session
from edgekit.verbs.deploy import Deployment, deploy, planned
from edgekit.verbs.rollback import rollback
from edgekit.verbs.schema import schema
from edgekit.verbs.status import status

_DIGITS = Path(__file__).parents[2] / "examples" / "digits"
_AWKWARD = 'it\'s a "model" $(touch HACKED) ;&.tflite'


@pytest.fixture
def device(tmp_path):
    return Device("box", "local", folder=str(tmp_path / 'a device\'s "folder" $HOME'))


@pytest.fixture
def make_model(tmp_path):
    """Models that differ in their name or by their padding."""
    return lambda name="model.tflite", padding=0: served_release.make_model(tmp_path, padding, name)


def _put(model: Path, device: Device, **options) -> Deployment:
    """Deploy without the health check, which takes the longest."""
    return deploy(model, device, health_check=False, **options)


def _served(device: Device) -> Path:
    found = served(Path(device.folder))
    assert found
    return found


def _names(device: Device) -> list[str]:
    return sorted(path.name for path in Path(device.folder, "releases").iterdir())


def test_a_model_is_in_service_as_it_is_here(device, make_model):
    model = make_model(_AWKWARD)
    done = deploy(model, device)
    served = _served(device)
    assert served.name == _AWKWARD
    assert served.read_bytes() == model.read_bytes()
    assert done.previous is None
    assert done.bytes_sent >= model.stat().st_size
    assert done.health.ok is True
    assert done.health.samples == 8


def test_lineage_and_contract_go_along(device, make_model):
    model = make_model()
    contract = {"name": "digits", "scale": 0.5, "labels": ["zero", "one"]}
    Path(f"{model}.json").write_text(
        json.dumps({"recipe": "none", "preprocessing": contract}), encoding="utf-8"
    )
    _put(model, device)
    folder = _served(device).parent
    assert json.loads((folder / "model.tflite.json").read_text(encoding="utf-8"))["recipe"] == "none"
    found = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
    assert (found["name"], found["scale"], found["labels"]) == ("digits", 0.5, ["zero", "one"])


def test_the_same_release_again_changes_nothing(device, make_model):
    first = _put(make_model(), device)
    before = Path(device.folder, "switch.json").read_bytes()
    again = _put(make_model(), device)
    assert (again.release, again.switched, again.bytes_sent) == (first.release, False, 0)
    assert Path(device.folder, "switch.json").read_bytes() == before


def test_a_damaged_release_is_repaired(device, make_model):
    _put(make_model(), device)
    served = _served(device)
    served.write_bytes(b"rust")
    found = status(device)
    assert not found.ok
    assert [finding.code for finding in found.findings] == ["EK844"]
    again = _put(make_model(), device)
    assert [finding.code for finding in again.findings] == ["EK844", "EK846"]
    assert again.bytes_sent > 0
    assert _served(device) == served
    assert status(device).ok


def test_old_releases_are_removed_but_never_the_two_that_matter(device, make_model):
    digests = [_put(make_model(padding=n), device, keep=2).release for n in range(4)]
    assert _names(device) == sorted(digests[-2:])
    rollback(device, health_check=False)
    fifth = _put(make_model(padding=9), device, keep=1)
    # What was in service before is kept, not what was deployed before.
    assert _names(device) == sorted([fifth.release, digests[2]])
    assert fifth.removed == (digests[3],)
    assert fifth.previous == digests[2]


def test_rollback_goes_back_and_forward_again(device, make_model):
    first, second = _put(make_model(), device), _put(make_model(padding=1), device)
    assert second.previous == first.release
    back = rollback(device, health_check=False)
    assert (back.release, back.previous) == (first.release, second.release)
    assert _served(device).parent.name == first.release
    assert status(device).previous == second.release
    assert rollback(device, health_check=False).release == second.release
    assert _served(device).parent.name == second.release


def test_rollback_to_a_release_by_its_digest(device, make_model):
    digests = [_put(make_model(padding=n), device).release for n in range(3)]
    assert rollback(device, health_check=False, to=digests[0][:10]).release == digests[0]
    assert [release.release for release in status(device).releases] == [digests[0], digests[2], digests[1]]
    with pytest.raises(UsageError) as caught:
        rollback(device, health_check=False, to="xyz")
    assert caught.value.code == "EK850"


def test_nothing_to_roll_back_to(device, make_model):
    _put(make_model(), device)
    with pytest.raises(DeviceError) as caught:
        rollback(device, health_check=False)
    assert caught.value.code == "EK847"


def test_a_damaged_release_is_not_rolled_back_to(device, make_model):
    _put(make_model(), device)
    _served(device).write_bytes(b"rust")
    second = _put(make_model(padding=1), device)
    with pytest.raises(DeviceError) as caught:
        rollback(device, health_check=False)
    assert caught.value.code == "EK844"
    assert _served(device).parent.name == second.release


class _Wrong:
    """A device whose kernels are off by a factor: no machine at hand has such."""

    def __init__(self, artifact, factor):
        self._session, self._factor = open_session(artifact), factor

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self, inputs):
        return {name: values * self._factor for name, values in self._session.run(inputs).items()}

    def close(self):
        self._session.close()


@pytest.mark.parametrize(("factor", "passes"), [(1.001, True), (3.0, False), (np.nan, False)])
def test_the_health_check_decides(device, make_model, monkeypatch, factor, passes):
    old = deploy(make_model(), device)
    monkeypatch.setattr(health_check, "DeviceSession", lambda *args, **_: _Wrong(args[1], factor))
    model = make_model(padding=1)
    if passes:
        assert deploy(model, device).health.snr_db == pytest.approx(60, abs=0.1)
        return
    with pytest.raises(DeviceError) as caught:
        deploy(model, device, health_check=str(_DIGITS / "test.npz"))
    assert caught.value.code == "EK845"
    assert caught.value.exit_code == 5
    assert _served(device).parent.name == old.release
    assert _names(device) == [old.release]


def test_a_runtime_that_fails_leaves_the_old_release(device, make_model, monkeypatch):
    old = deploy(make_model(), device)

    def crash(*_, **__):
        raise DeviceError("EK806", "The worker crashed.")

    monkeypatch.setattr(health_check, "DeviceSession", crash)
    with pytest.raises(DeviceError):
        deploy(make_model(padding=1), device)
    assert _served(device).parent.name == old.release
    assert _names(device) == [old.release]


def test_a_disk_without_room_is_left_as_it_was(device, make_model, tmp_path, monkeypatch):
    old = _put(make_model(), device)
    df = tmp_path / "bin" / "df"
    df.parent.mkdir()
    df.write_text("#!/bin/sh\necho '/dev/root 8 8 0 100% /'\n", encoding="utf-8")
    df.chmod(0o755)
    monkeypatch.setenv("PATH", str(df.parent), prepend=":")
    with pytest.raises(DeviceError) as caught:
        _put(make_model(padding=1), device)
    assert caught.value.code == "EK807"
    assert _served(device).parent.name == old.release
    assert residue(Path(device.folder)) == []


def test_without_a_check_it_says_so(device, make_model):
    done = deploy(make_model(), device, health_check=False)
    assert done.health.ok is None
    assert [finding.code for finding in done.findings] == ["EK846"]


def test_two_deployments_at_once(device, make_model):
    model = make_model()
    with Shell(device) as shell, device_lock.DeviceLock(shell):
        with pytest.raises(DeviceError) as caught:
            deploy(model, device)
        assert caught.value.code == "EK841"
        assert f"(process {os.getpid()})" in caught.value.message
        assert status(device).deploying.pid == os.getpid()
        waiting = threading.Thread(target=lambda: deploy(model, device, wait_s=30))
        waiting.start()
        waiting.join(1)
        assert waiting.is_alive()
        assert not Path(device.folder, "current").exists()
    waiting.join(30)
    assert _served(device)
    assert status(device).deploying is None


def test_a_dry_run_changes_nothing(device, make_model):
    plan = planned(make_model(), device)
    assert plan.bytes_to_send > make_model().stat().st_size
    assert not Path(device.folder).exists()


def test_a_folder_named_current_is_left_alone(device, make_model):
    Path(device.folder, "current").mkdir(parents=True)
    with pytest.raises(DeviceError) as caught:
        _put(make_model(), device)
    assert caught.value.code == "EK848"
    assert Path(device.folder, "current").is_dir()


@pytest.mark.parametrize(
    "name", [".hidden.tflite", "manifest.json", "preprocessing.json", "a\nb.tflite", "x" * 201]
)
def test_names_that_would_not_survive(device, make_model, name):
    with pytest.raises(EdgekitError) as caught:
        _put(make_model(name), device)
    assert caught.value.code == "EK840"


def test_formats_that_devices_do_not_run(device):
    with pytest.raises(TargetError) as caught:
        _put(_DIGITS / "model.keras", device)
    assert caught.value.code == "EK843"


def test_a_record_that_makes_no_sense_is_no_obstacle(device, make_model):
    first = _put(make_model(), device)
    Path(device.folder, "switch.json").write_text('{"after": [{"release": 3}]}', encoding="utf-8")
    assert status(device).current == first.release
    second = _put(make_model(padding=1), device)
    assert second.previous == first.release


@pytest.fixture
def document(capsys):
    """Run a command line, and check its document before handing it over."""

    def ask(*words: str, exit_code: int = 0) -> dict:
        assert run([*words, "--json"]) == exit_code
        answer = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator(schema(words[0])).validate(answer)
        return answer

    return ask


def test_the_command_line(make_model, document, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    model, local = str(make_model()), ("--device", "local")
    assert document("status", *local)["result"]["current"] is None
    assert document("deploy", model, *local, "--dry-run")["result"]["current"] is None
    first = document("deploy", model, *local)["result"]
    assert (first["switched"], first["health"]["runtime"]) == (True, "litert")
    assert run(["deploy", model, *local]) == 0
    assert "is in service on local already" in capsys.readouterr().out
    assert run(["status", *local]) == 0
    assert "verified" in capsys.readouterr().out
    assert document("rollback", *local, exit_code=5)["error"]["code"] == "EK847"
    second = document("deploy", str(make_model(padding=1)), *local, "--no-health-check")
    assert [finding["code"] for finding in second["findings"]] == ["EK846"]
    assert document("rollback", *local, "--health-check", str(_DIGITS / "test.npz"))["result"]["health"]["ok"]
    found = document("status", *local)["result"]
    assert found["current"] == first["release"]
    Path(found["path"], "model.tflite").write_bytes(b"")
    assert document("status", *local, exit_code=5)["status"] == "failed"
    assert run(["deploy", model, *local, "--health-check", "x.npz", "--no-health-check"]) == 2


def test_what_lies_there_is_read_with_care(device, make_model):
    digest = _put(make_model(), device).release
    manifest = Path(device.folder, "releases", digest, "manifest.json")
    document = json.loads(manifest.read_text(encoding="utf-8"))
    document["files"].append({"name": "../../../etc/passwd", "size_bytes": 0, "sha256": "0" * 64})
    manifest.write_text(json.dumps(document), encoding="utf-8")
    with Shell(device) as shell, pytest.raises(DeviceError, match="damaged"):
        release_folders.read(shell, digest)


def test_no_control_characters_of_a_device_reach_the_terminal(device, make_model):
    digest = _put(make_model(), device).release
    bell = "\x1b[2Jann@desk\x07"
    entry = {"release": digest, "at": bell, "by": bell}
    record = json.dumps({"before": [], "after": [entry]})
    Path(device.folder, "switch.json").write_text(record, encoding="utf-8")
    assert status(device).releases[0].by == "[2Jann@desk"


def test_a_release_that_vanished_is_brought_back(device, make_model):
    first = _put(make_model(), device)
    second = _put(make_model(padding=1), device)
    shutil.rmtree(Path(device.folder, "releases", second.release))
    found = status(device)
    assert not found.ok
    assert found.releases[0].damage
    again = _put(make_model(padding=1), device)
    assert (again.release, again.previous) == (second.release, first.release)
    assert _served(device)
    assert [kept.release for kept in status(device).releases] == [second.release, first.release]
    assert status(device).releases[0].since
