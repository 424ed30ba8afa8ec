"""The whole way of a public model to emulated devices, through the command line: a Pi over ssh, a phone over adb."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from devicelab.command_line import CommandLine
from devicelab.debian_root import cache_folder

pytestmark = [pytest.mark.acceptance, pytest.mark.devicelab]

_SAMPLES = 500


@dataclass(frozen=True)
class Public:
    """The public files that these tests use."""

    folder: Path

    @property
    def int8(self) -> Path:
        """MLPerf Tiny's image classifier, quantized; its inputs and outputs are int8."""
        return self.folder / "mlperf-tiny-ic/pretrainedResnet_quant.tflite"

    @property
    def other(self) -> Path:
        """The larger one, with another interface between the same pictures and classes."""
        return self.folder / "mlperf-tiny-ic/pretrainedResnet_large_int8.tflite"

    @property
    def pictures(self) -> Path:
        return self.folder / "data/cifar10_test5k.npz"


@pytest.fixture(scope="module")
def public(assets) -> Public:
    return Public(assets)


@pytest.fixture(scope="module")
def pi(make_fake_pi):
    """A Pi of this file's own, so that what is set up on it stays."""
    return make_fake_pi(alias="acceptpi")


@pytest.fixture(scope="module")
def user(tmp_path_factory, pi):
    """The user of this file, to whom the Pi is known."""
    user = CommandLine(tmp_path_factory.mktemp("user"))
    user.run("device", "add", "pi", pi.access.url, "--ssh-config", pi.access.config)
    yield user
    if "EDGEKIT_LAB_TRANSCRIPT" in os.environ:
        with Path(os.environ["EDGEKIT_LAB_TRANSCRIPT"]).open("a", encoding="utf-8") as file:
            file.write("\n".join(user.transcript))


@pytest.fixture(scope="module")
def set_up(user):
    """Set a runtime up on a device, once; its packages are fetched once for all runs of the lab."""
    done = set()
    wheels = cache_folder() / "wheels"

    def set_up(device: str, runtime: str) -> None:
        if (device, runtime) not in done:
            user.run("device", "setup", device, "--runtime", runtime, "--wheels", wheels, "--fetch-only")
            found = user.run("device", "setup", device, "--runtime", runtime, "--wheels", wheels)["result"]
            assert found["installed"]["runtime"]["name"] == runtime
            done.add((device, runtime))

    return set_up


@dataclass(frozen=True)
class Ready:
    """A device that a runtime was set up on, and the words that choose them."""

    name: str
    runtime: str

    @property
    def words(self) -> tuple[str, ...]:
        return ("--device", self.name, "--runtime", self.runtime)


@pytest.fixture(params=["pi-litert"])
def ready(request, set_up) -> Ready:
    name, runtime = request.param.split("-")
    set_up(name, runtime)
    return Ready(name, runtime)


def answers_of_host(model: Path, pictures: np.ndarray) -> np.ndarray:
    """The model's outputs for raw pictures, by LiteRT alone: (n, 10) of real numbers."""
    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = source["quantization"]
    found = []
    for picture in pictures.astype(np.float32):
        units = np.clip(np.round(picture / scale) + zero_point, -128, 127).astype(np.int8)
        interpreter.set_tensor(source["index"], units[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(result["index"])[0])
    scale, zero_point = result["quantization"]
    return (np.array(found).astype(np.float32) - zero_point) * np.float32(scale)


def evaluated(user: CommandLine, public: Public, *words: str | Path, samples: int = _SAMPLES) -> tuple:
    return ("evaluate", public.int8, "--data", public.pictures, "--samples", str(samples), *words)


def test_the_device_says_what_it_is(ready, user):
    facts = user.run("device", "probe", ready.name)["result"]["facts"]
    assert ready.runtime in [runtime["name"] for runtime in facts["installed_runtimes"]]
    assert facts["userland"] == "aarch64"
    if ready.name == "pi":
        assert facts["model"] == "Raspberry Pi 4 Model B Rev 1.5"
        assert facts["throttle_flags"] == 0


def test_accuracy_there_is_that_of_here(ready, user, public, tmp_path):
    saved = tmp_path / "there.npz"
    words = evaluated(user, public, *ready.words, "--save-predictions", saved)
    found = user.run(*words)["result"]
    assert (found["device"], found["runtime"], found["n"]) == (ready.name, ready.runtime, _SAMPLES)
    agreement = found["agreement"]
    assert agreement["n"] == _SAMPLES
    assert agreement["value"] >= 0.995

    with np.load(saved) as rows:
        there, labels = rows["output_0"], rows["label"]
    with np.load(public.pictures) as archive:
        chosen = np.arange(_SAMPLES) * (len(archive["x"]) // _SAMPLES)
        assert np.array_equal(archive["y"][chosen], labels)
        here = answers_of_host(public.int8, archive["x"][chosen])
    assert found["value"] == pytest.approx(np.mean(there.argmax(axis=1) == labels))
    differing = np.flatnonzero(there.argmax(axis=1) != here.argmax(axis=1))
    assert [item["sample"] for item in agreement["differing"]] == differing.tolist()
    assert agreement["max_abs"] == pytest.approx(np.abs(there - here).max(), abs=1e-6)
    assert agreement["identical"] == np.sum((there == here).all(axis=1))


def test_latency_is_measured_there(ready, user, public):
    found = user.run("benchmark", public.int8, *ready.words, "--runs", "10", "--max-seconds", "3")
    result = found["result"]
    assert (result["device"], result["runtime"], result["latency_ms"]["runs"]) == (
        ready.name,
        ready.runtime,
        10,
    )
    # An emulator's time means nothing; that there is one does.
    assert 0 < result["latency_ms"]["min"] <= result["latency_ms"]["median"] <= result["latency_ms"]["p99"]
    assert result["load_ms"] > 0
    assert result["model_size_bytes"] == public.int8.stat().st_size
    assert result["conditions"]["before"]["temperature_c"] == pytest.approx(48.3)


def test_models_are_deployed_replaced_and_brought_back(ready, user, public):
    words = (*ready.words, "--health-check", public.pictures)
    first = user.run("deploy", public.int8, *words)["result"]
    assert first["health"]["ok"]
    assert first["health"]["runtime"] == ready.runtime
    second = user.run("deploy", public.other, *words)["result"]
    assert (second["previous"], second["health"]["ok"]) == (first["release"], True)
    assert user.run("status", "--device", ready.name)["result"]["current"] == second["release"]

    back = user.run("rollback", *words)["result"]
    assert (back["release"], back["model"], back["health"]["ok"]) == (
        first["release"],
        public.int8.name,
        True,
    )
    status = user.run("status", "--device", ready.name)["result"]
    assert status["ok"]
    assert (status["current"], status["previous"]) == (first["release"], second["release"])
    assert all(release["ok"] for release in status["releases"])
