"""Setups of emulated Raspberry Pis with the real wheels: what is sent, what runs, and what a failure leaves."""

import json
from pathlib import Path

import numpy as np
import pytest
from wheel_files import CACHE, fetched

import edgekit
from edgekit.artifact import Artifact
from edgekit.cli._group import run
from edgekit.devices import installed_runtimes, model_limits, remote_files, trial
from edgekit.devices.device import Device
from edgekit.devices.shell import Shell
from edgekit.devices.wheels import Platform, Wanted, Wheels
from edgekit.errors import DependencyError, DeviceError, EdgekitError, ModelError, TargetError
from edgekit.worker_process import WorkerProcess

pytestmark = pytest.mark.devicelab

_BOOKWORM = Platform((3, 11), "aarch64", (2, 36))
_BULLSEYE = Platform((3, 9), "aarch64", (2, 31))


@pytest.fixture
def inventory(tmp_path, monkeypatch):
    """An inventory of this test alone, and a function that puts an emulated Pi into it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def add(pi, name="pi", folder: str | None = None) -> Device:
        device = Device(name, pi.access.url, folder=folder, ssh_config=str(pi.access.config))
        edgekit.device_add(device, connect=False, overwrite=True)
        return device

    return add


def _files(pi) -> set[str]:
    """What edgekit left on the device, without what lies in the runtimes' own folders."""
    folder = pi.home / ".edgekit"
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and len(path.relative_to(folder).parts) < 3
    }


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_a_pi_is_set_up_and_set_up_again(fake_pi, inventory, runtime, capsys):
    wheels = fetched(runtime, _BOOKWORM)
    device = inventory(fake_pi)
    command = ["device", "setup", "pi", "--runtime", runtime, "--wheels", str(wheels), "--json"]
    results = []
    for _ in range(2):
        assert run(command) == 0
        results.append(json.loads(capsys.readouterr().out)["result"])
    first, again = results
    assert first["platform"] == {
        "architecture": "aarch64",
        "glibc": "2.36",
        "best_tag": "manylinux_2_36_aarch64",
    }
    assert first["installed"]["bytes_sent"] > 5 << 20
    assert first["installed"]["replaced"] is None
    assert again["installed"]["bytes_sent"] == 0
    assert again["installed"]["runtime"] == first["installed"]["runtime"]
    with Shell(device) as shell:
        there = installed_runtimes.installed(shell)
    assert [found.version for found in there.values()] == [first["version"]]
    # The Pi 4 has no LSE.
    assert not list((fake_pi.home / ".edgekit").rglob("libLiteRtWebGpu*"))


def test_an_old_pi_gets_what_its_glibc_can_load(old_pi, inventory):
    wheels = fetched("litert", _BULLSEYE)
    inventory(old_pi)
    plan, done = edgekit.device_setup("pi", "litert", wheels=wheels)
    assert plan.python.version.startswith("3.9.")
    assert (plan.version, done.runtime.version) == ("1.4.0", "1.4.0")


def test_an_old_pi_runs_tflite_runtime_whose_tag_asks_for_more(old_pi, inventory):
    wheels = fetched("tflite_runtime", _BULLSEYE)
    inventory(old_pi)
    _plan, done = edgekit.device_setup("pi", "tflite_runtime", wheels=wheels)
    assert done.trial["delegate"] == "xnnpack"


def test_the_native_runner_needs_no_python(fake_pi, inventory, tmp_path):
    try:
        Wheels(CACHE, _BOOKWORM).fetch([Wanted("ai-edge-litert", "==1.4.0", "")])
    except DependencyError as error:
        pytest.skip(str(error))
    device = inventory(fake_pi)
    fake_pi.hide_python()
    try:
        done = edgekit.device_setup_native("pi", wheels=CACHE)[1]
    except DependencyError as error:
        if error.code != "EK590":
            raise
        pytest.skip(str(error))
    again = edgekit.device_setup_native("pi", wheels=CACHE)[1]
    assert again.bytes_sent == 0
    # A library that the user names replaces LiteRT's, and this one is none.
    (tmp_path / "library.so").write_bytes(b"\x7fELF" + bytes(14) + b"\xb7\0 no symbols")
    with pytest.raises(EdgekitError, match="lacks TFLite's C API"):
        edgekit.device_setup_native("pi", library=tmp_path / "library.so")
    with Shell(device) as shell:
        assert installed_runtimes.installed(shell) == {"native": done.runtime}


def test_webgpu_is_refused_on_a_processor_without_lse(fake_pi, inventory):
    inventory(fake_pi)
    with pytest.raises(DeviceError) as refused:
        edgekit.device_setup("pi", "litert", wheels=fetched("litert", _BOOKWORM), with_webgpu=True)
    assert refused.value.code == "EK838"
    assert _files(fake_pi) == set()


def test_without_python_nothing_is_sent(fake_pi, inventory):
    inventory(fake_pi)
    fake_pi.hide_python()
    with pytest.raises(DeviceError) as missing:
        edgekit.device_setup("pi", "litert")
    assert (missing.value.code, missing.value.exit_code) == ("EK836", 5)
    assert _files(fake_pi) == set()


def test_a_disk_that_is_too_small(fake_pi, inventory):
    wheels = fetched("litert", _BOOKWORM)
    fake_pi.mount_small_disk("/mnt", size_mb=60)
    inventory(fake_pi, folder="/mnt/edgekit")
    with pytest.raises(DeviceError) as full:
        edgekit.device_setup("pi", "litert", wheels=wheels)
    assert (full.value.code, full.value.exit_code) == ("EK807", 5)
    device = Device("pi", fake_pi.access.url, ssh_config=str(fake_pi.access.config))
    with Shell(device) as shell:
        assert shell.run("find", "/mnt", "-type", "f").text == ""


def test_a_link_that_is_cut_and_a_setup_that_goes_on(fake_pi, inventory):
    wheels = fetched("litert", _BOOKWORM)
    proxy = fake_pi.access.through_proxy()
    inventory(fake_pi)
    proxy.cut_after(6 << 20)
    _plan, done = edgekit.device_setup("pi", "litert", wheels=wheels)
    assert done.trial["delegate"] == "xnnpack"
    assert {name for name in _files(fake_pi) if name.endswith((".part", ".tar.gz"))} == set()


def test_what_is_refused_for_tflite_runtime_really_goes_wrong(fake_pi, inventory, tmp_path):
    """The trial's model, one layer of three outputs without a bias, in the recipes that its limits speak of."""
    wheels = fetched("tflite_runtime", _BOOKWORM)
    device = inventory(fake_pi)
    edgekit.device_setup("pi", "tflite_runtime", wheels=wheels)
    source, data = tmp_path / "dense.tflite", tmp_path / "data.npz"
    source.write_bytes(trial.tflite())
    np.savez(data, x=np.random.default_rng(0).random((32, 4), dtype=np.float32))
    outcomes = {}
    for recipe in ("int8", "dynamic", "weight_only", "float16"):
        made = tmp_path / f"{recipe}.tflite"
        edgekit.quantize(source, made, recipe=recipe, calibration=str(data), engine="ai-edge-quantizer")
        artifact = edgekit.open_artifact(made)
        outcomes[recipe] = (_is_refused(artifact), _answers_right(device, made))
    assert outcomes == {
        "int8": (True, False),
        "dynamic": (True, False),
        "weight_only": (False, True),
        "float16": (False, True),
    }


def _is_refused(artifact: Artifact) -> bool:
    try:
        model_limits.check(artifact, "tflite_runtime", "aarch64")
    except TargetError:
        return True
    return False


def _answers_right(device: Device, model: Path) -> bool:
    given = np.array([[1, -2, 3, 4]], np.float32)
    with Shell(device) as shell:
        path = f"{shell.folder}/models/{model.name}"
        remote_files.upload(shell, model, path)
        runtime = installed_runtimes.installed(shell)["tflite_runtime"]
        with WorkerProcess(model.name, installed_runtimes.start_worker(shell, runtime)) as worker:
            options = {"model": path, "runtime": "tflite_runtime", "threads": 1, "xnnpack": True, "seed": 0}
            try:
                worker.ask("open", deadline_s=120, delegate=None, **options)
                _, answer = worker.exchange(
                    "predict", deadline_s=60, blob=given.tobytes(), feeds=1, shapes=[[1, 4]]
                )
            except ModelError:  # it crashed
                return False
    expected = given @ trial._WEIGHTS.T
    return bool(np.allclose(np.frombuffer(answer, np.float32), expected, atol=0.2))


def test_the_plan_says_what_would_be_sent(fake_pi, inventory, capsys):
    inventory(fake_pi)
    wheels = fetched("litert", _BOOKWORM)
    assert run(["device", "setup", "pi", "--runtime", "litert", "--wheels", str(wheels), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "ai_edge_litert-2.3.0-cp311-" in shown
    assert "glibc 2.36" in shown
    assert _files(fake_pi) == set()
