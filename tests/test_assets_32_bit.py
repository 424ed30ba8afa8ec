"""A 32-bit Arm device through the command line: what runs on an emulated Pi Zero 2 W, what cannot, and why."""

from pathlib import Path

import numpy as np
import pytest
from devicelab.boards import PI_ZERO_2_W
from devicelab.command_line import CommandLine, codes
from devicelab.debian_root import cache_folder

import edgekit
from edgekit.devices import model_limits, trial
from edgekit.devices.device import Device
from edgekit.devices.session import DeviceSession
from edgekit.devices.shell import Shell
from edgekit.errors import ModelError
from edgekit.runtimes import open_session

pytestmark = pytest.mark.devicelab

_SAMPLES = 200
_ON_ZERO = ("--device", "zero")


@pytest.fixture(scope="module")
def zero(make_fake_pi):
    """The one 32-bit Pi: what is set up on it stays."""
    return make_fake_pi(alias="zero", board=PI_ZERO_2_W)


@pytest.fixture(scope="module")
def wheels() -> Path:
    """The packages that were fetched for it, kept for later runs."""
    return cache_folder() / "wheels"


@pytest.fixture(scope="module")
def user(tmp_path_factory, zero, wheels):
    user = CommandLine(tmp_path_factory.mktemp("user"))
    user.share_wheels(wheels)
    user.run("device", "add", "zero", zero.access.url, "--ssh-config", zero.access.config)
    return user


@pytest.fixture(scope="module")
def set_up(user) -> dict:
    """What the set-up of the runtime said."""
    return user.run("device", "setup", "zero", "--runtime", "tflite_runtime")["result"]


@pytest.fixture
def small(tmp_path):
    """An int8 model of one layer without a bias; it has as many outputs as asked for."""

    def make(outputs: int) -> Path:
        made = tmp_path / f"{outputs}.tflite"
        if made.exists():
            return made
        source, data = tmp_path / "float.tflite", tmp_path / "data.npz"
        source.write_bytes(trial.tflite(outputs))
        np.savez(data, x=np.random.default_rng(0).random((32, 4), dtype=np.float32))
        edgekit.quantize(source, made, recipe="int8", calibration=str(data), engine="ai-edge-quantizer")
        return made

    return make


def test_it_says_what_it_is_and_why_the_others_cannot_run(user):
    found = user.run("device", "probe", "zero")["result"]
    facts = found["facts"]
    assert (facts["model"], facts["machine"], facts["userland"]) == (PI_ZERO_2_W.model, "armv7l", "armv7l")
    assert facts["processor"]["cores"] == [{"name": "Cortex-A53", "count": 4}]
    assert facts["processor"]["features"] == ["neon", "vfpv4"]
    assert found["platform_tags"][0] == "manylinux_2_36_armv7l"
    answers = {runtime["name"]: (runtime["possible"], runtime["reason"]) for runtime in found["runtimes"]}
    assert answers.pop("tflite_runtime") == (True, "")
    assert not any(possible for possible, _ in answers.values())
    for name in ("litert", "onnxruntime"):
        assert answers[name][1].endswith("exists for aarch64, x86_64 alone")
    assert "the device is armv7l with glibc 2.36" in answers["native"][1]


def test_what_cannot_run_is_refused_with_what_can(user):
    error = user.run("device", "setup", "zero", "--runtime", "litert", expect=5)["error"]
    assert (error["code"], error["hint"]) == ("EK830", "Use --runtime tflite_runtime.")
    error = user.run("device", "setup", "zero", "--native", expect=4)["error"]
    assert (error["code"], error["message"]) == ("EK592", "There is no native runner for Linux on armv7l.")
    assert error["hint"].endswith("use --runtime tflite_runtime.")


def test_without_a_numpy_of_its_own_it_is_told_how_to_get_one(zero, user, tmp_path):
    theirs = zero.machine.root / "usr/lib/python3/dist-packages/numpy"
    theirs.rename(theirs.with_name("hidden"))
    try:
        words = ("device", "setup", "zero", "--runtime", "tflite_runtime", "--wheels", tmp_path)
        error = user.run(*words, expect=3)["error"]
    finally:
        theirs.with_name("hidden").rename(theirs)
    assert error["code"] == "EK831"
    assert "numpy<2" in error["message"]
    assert "sudo apt install python3-numpy" in error["hint"]


def test_the_runtime_comes_from_the_index_and_numpy_from_the_device(set_up, zero):
    assert set_up["platform"]["architecture"] == "armv7l"
    assert [package["package"] for package in set_up["packages"]] == ["tflite-runtime"]
    assert set_up["packages"][0]["wheel"].endswith("_armv7l.whl")
    assert set_up["device_numpy"] == "1.24.2"
    assert set_up["installed"]["trial"]["delegate"] == "none"
    assert not list((zero.home / ".edgekit/runtimes").rglob("numpy"))


@pytest.mark.usefixtures("set_up")
def test_models_that_crash_it_are_refused(user, zero, small, monkeypatch):
    """Other than on 64-bit Arm the number of outputs does not matter."""
    for outputs in (3, 8):
        error = user.run("deploy", small(outputs), *_ON_ZERO, expect=4)["error"]
        assert error["code"] == "EK839"
        assert "crashes" in error["message"]
        assert "armv7l" in error["message"]
    # And rightly so.
    monkeypatch.setattr(model_limits, "check", lambda *_: None)
    device = Device("zero", zero.access.url, ssh_config=str(zero.access.config))
    with Shell(device) as shell, pytest.raises(ModelError, match="SIGSEGV"):
        DeviceSession(shell, edgekit.open_artifact(small(8)))


@pytest.fixture(scope="module")
def public(assets):
    """MLPerf Tiny's int8 classifier of pictures, a float network for digits, and pictures."""
    names = ("mlperf-tiny-ic/pretrainedResnet_quant.tflite", "mnist-models/conv_fc_mnist.tflite")
    return (*(assets / name for name in names), assets / "data/cifar10_test5k.npz")


@pytest.mark.acceptance
@pytest.mark.usefixtures("set_up")
def test_accuracy_there_is_that_of_reference_kernels_here(user, public, tmp_path):
    """Not the emulator makes the difference to LiteRT here: LiteRT's reference kernels give the same as the device."""
    model, _, pictures = public
    saved = tmp_path / "there.npz"
    words = ("--data", pictures, "--samples", str(_SAMPLES), "--save-predictions", saved)
    found = user.run("evaluate", model, *words, *_ON_ZERO)["result"]
    assert (found["device"], found["runtime"], found["n"]) == ("zero", "tflite_runtime", _SAMPLES)
    assert found["agreement"]["value"] >= 0.98
    with np.load(saved) as rows, np.load(pictures) as archive:
        there, labels = rows["output_0"], rows["label"]
        chosen = archive["x"][np.arange(_SAMPLES) * (len(archive["x"]) // _SAMPLES)]
    artifact = edgekit.open_artifact(model)
    here = open_session(artifact, "litert_reference").run({artifact.inputs[0].name: chosen})
    expected = here[artifact.outputs[0].name]
    assert found["value"] == pytest.approx(np.mean(there.argmax(axis=1) == labels))
    assert np.mean((there == expected).all(axis=1)) >= 0.9
    assert np.mean(there.argmax(axis=1) == expected.argmax(axis=1)) >= 0.995


@pytest.mark.acceptance
@pytest.mark.usefixtures("set_up")
def test_latency_is_measured_there(user, public):
    words = ("--runs", "10", "--warmup", "2", "--max-seconds", "5")
    result = user.run("benchmark", public[0], *words, *_ON_ZERO)["result"]
    assert (result["device"], result["runtime"]) == ("zero", "tflite_runtime")
    # An emulator's time means nothing; that there is one does.
    assert 0 < result["latency_ms"]["min"] <= result["latency_ms"]["median"]
    assert result["latency_ms"]["runs"] == 10
    assert result["conditions"]["before"]["temperature_c"] is not None


@pytest.mark.acceptance
@pytest.mark.usefixtures("set_up")
def test_models_are_deployed_replaced_and_brought_back(user, public):
    int8, digits, pictures = public
    words = (*_ON_ZERO, "--health-check", pictures)
    first = user.run("deploy", int8, *words)
    assert first["result"]["health"]["ok"]
    # It computes as LiteRT's reference kernels do, which XNNPACK here does not.
    assert "EK817" in codes(first)
    second = user.run("deploy", digits, *_ON_ZERO)["result"]
    assert (second["previous"], second["health"]["ok"]) == (first["result"]["release"], True)
    back = user.run("rollback", *words)["result"]
    assert (back["release"], back["health"]["ok"]) == (first["result"]["release"], True)
    status = user.run("status", *_ON_ZERO)["result"]
    assert (status["ok"], status["current"], status["previous"]) == (True, back["release"], second["release"])
