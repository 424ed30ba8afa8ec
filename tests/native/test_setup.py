"""``edgekit device setup --native``: this machine, sshd, and emulated Pis without Python as devices."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import edgekit
from edgekit.devices import installed_runtimes, native_library, native_runner, native_setup
from edgekit.devices.device import Device
from edgekit.devices.native_runner import NativePlatform
from edgekit.devices.session import DeviceSession
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError, UsageError
from edgekit.formats import open_artifact
from edgekit.runtimes import open_session
from edgekit.verbs.device_setup_native import plan_native_setup


@pytest.fixture
def device(tmp_path):
    """This machine, with a folder whose name needs quoting."""
    return Device("here", "local", folder=str(tmp_path / "edge kit's $folder"))


@pytest.fixture
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    target = NativePlatform("linux", platform.machine())
    return native_runner.build(target, cache=tmp_path_factory.mktemp("built"))


def command(arguments):
    return subprocess.run(
        [sys.executable, "-m", "edgekit", *arguments], capture_output=True, text=True, check=False
    )


def files(device):
    folder = Path(device.folder) / "runtimes"
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_it_is_sent_once_tried_and_known(device, built, host_library):
    with Shell(device) as shell:
        first = native_setup.set_up_native(shell, built, host_library, "unknown")
        assert installed_runtimes.installed(shell) == {"native": first.runtime}
        again = native_setup.set_up_native(shell, built, host_library, "unknown")
    assert first.bytes_sent == built.stat().st_size + host_library.stat().st_size == first.unpacked_bytes
    assert (first.replaced, again.replaced) == (None, first.runtime.version)
    assert again.bytes_sent == 0
    assert first.trial["delegate"] == "xnnpack"
    assert Path(first.runtime.words[1]).read_bytes() == host_library.read_bytes()
    assert len(files(device)) == 3


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("__attribute__((constructor)) static void f(void) { __builtin_trap(); }", "SIG"),
        ("int nothing;", "lacks TfLiteVersion"),
    ],
)
def test_what_fails_is_removed_and_what_worked_stays(device, built, host_library, tmp_path, source, reason):
    (tmp_path / "bad.c").write_text(source + "\n")
    bad = tmp_path / "libbad.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", bad, tmp_path / "bad.c"], check=True)
    with Shell(device) as shell:
        first = native_setup.set_up_native(shell, built, host_library, "unknown")
        before = files(device)
        with pytest.raises(DeviceError, match=reason) as caught:
            native_setup.set_up_native(shell, built, bad, "bad")
        assert caught.value.code == "EK837"
        assert installed_runtimes.installed(shell) == {"native": first.runtime}
    assert files(device) == before


def test_a_new_library_takes_the_place_of_the_old_one(device, built, host_library, tmp_path):
    changed = tmp_path / host_library.name
    changed.write_bytes(host_library.read_bytes() + b"\0")
    with Shell(device) as shell:
        first = native_setup.set_up_native(shell, built, host_library, "old")
        second = native_setup.set_up_native(shell, built, changed, "new")
        assert installed_runtimes.installed(shell) == {"native": second.runtime}
    assert not Path(first.runtime.words[0]).exists()
    assert len(files(device)) == 3


@pytest.mark.usefixtures("_own_cache")
def test_over_ssh_a_model_runs_in_it(sshd, host_library, models, tmp_path):
    device = Device("lab", sshd.access.url, ssh_config=str(sshd.access.config))
    edgekit.device_add(device, connect=False)
    plan, done = edgekit.device_setup_native("lab", library=host_library)
    assert plan.library == host_library
    x = np.load(models.test_data)["x"][:30].astype(np.float32)
    with (
        Shell(device) as shell,
        DeviceSession(shell, open_artifact(models.tflite_cnn), runtime="native") as session,
    ):
        assert session.runtime == done.runtime
        found = session.run({"image": x})
    expected = open_session(open_artifact(models.tflite_cnn)).run({"image": x})
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--native", "--runtime", "litert"],
        ["--native", "--with-webgpu"],
        ["--runtime", "litert", "--library", __file__],
    ],
)
def test_options_that_do_not_go_together(arguments):
    done = command(["--json", "device", "setup", "local", *arguments])
    assert done.returncode == 2
    assert json.loads(done.stdout)["status"] == "error"


@pytest.mark.usefixtures("_own_cache")
def test_the_command_sets_it_up_and_its_document_follows_the_schema(host_library, tmp_path):
    edgekit.device_add(Device("here", "local", folder=str(tmp_path / "there")), connect=False)
    setup = ["--json", "device", "setup", "here", "--native", "--library", str(host_library)]
    for arguments in ([*setup, "--dry-run"], setup):
        done = command(arguments)
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        jsonschema.validate(document, edgekit.schema("device"))
        assert ("installed" in document["result"]) == ("--dry-run" not in arguments)


@pytest.mark.usefixtures("_own_cache")
def test_a_device_without_a_library_in_the_wheels_needs_one_named():
    if platform.machine() == "aarch64":
        pytest.skip("there is one for this machine")
    with pytest.raises(UsageError, match="No package has") as caught:
        plan_native_setup("local")
    assert caught.value.code == "EK593"


@pytest.mark.devicelab
@pytest.mark.usefixtures("_own_cache")
@pytest.mark.parametrize("which", ["fake_pi", "old_pi"])
def test_a_pi_without_python_gets_it_and_predicts_what_the_host_predicts(
    request, which, litert_wheel, models
):
    pi = request.getfixturevalue(which)
    pi.hide_python()
    device = Device("pi", pi.access.url, ssh_config=str(pi.access.config))
    edgekit.device_add(device, connect=False)
    plan, done = edgekit.device_setup_native("pi", wheels=litert_wheel.parent)
    assert plan.platform == NativePlatform("linux", "aarch64")
    assert plan.wheel == litert_wheel
    assert done.runtime.version == native_library.WHEEL_VERSION
    assert done.trial["delegate"] == "xnnpack"
    assert edgekit.device_setup_native("pi", wheels=litert_wheel.parent)[1].bytes_sent == 0
    x = np.load(models.test_data)["x"][:20].astype(np.float32)
    artifact = open_artifact(models.tflite_cnn_int8)
    with Shell(device) as shell, DeviceSession(shell, artifact) as session:
        assert session.runtime.name == "native"
        found = session.run({"image": x})
    expected = open_session(artifact).run({"image": x})
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1.01 / 256)
