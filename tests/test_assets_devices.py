"""The whole way of a public model to emulated devices, through the command line: a Pi over ssh, a phone over adb."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from devicelab.command_line import CommandLine, codes
from devicelab.debian_root import cache_folder
from devicelab.fake_phone import FakePhone
from devicelab.fake_pi import FakePi
from devicelab.processes import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.devicelab]

_SAMPLES = 500
_FIRST_MEASUREMENT_S = 40


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
    def digits(self) -> Path:
        """A float network for handwritten digits, with a fully connected layer."""
        return self.folder / "mnist-models/conv_fc_mnist.tflite"

    @property
    def digits_onnx(self) -> Path:
        """One more; takes (1, 1, 28, 28) in 0..255."""
        return self.folder / "mnist-models/mnist-8.onnx"

    @property
    def pictures(self) -> Path:
        return self.folder / "data/cifar10_test5k.npz"


@pytest.fixture(scope="module")
def public(assets) -> Public:
    return Public(assets)


@pytest.fixture(scope="module")
def pi(make_fake_pi) -> FakePi:
    """A Pi of this file's own, so that what is set up on it stays."""
    return make_fake_pi(alias="acceptpi")


@pytest.fixture(scope="module")
def phone(make_fake_phone) -> FakePhone:
    return make_fake_phone(5615)


@pytest.fixture(scope="module")
def user(tmp_path_factory, session_adb):
    """The one user of this file."""
    path = f"{session_adb.programs}:{os.environ['PATH']}"
    user = CommandLine(tmp_path_factory.mktemp("user"), {"PATH": path})
    user.share_wheels(cache_folder() / "wheels")
    return user


@pytest.fixture(scope="module")
def added(user, request):
    """Add a device to the user's inventory, once, and return the name that it has there."""
    names = set()

    def add(name: str) -> str:
        device = request.getfixturevalue(name)
        if name not in names:
            config = () if name == "phone" else ("--ssh-config", device.access.config)
            url = device.url if name == "phone" else device.access.url
            user.run("device", "add", name, url, *config)
            names.add(name)
        if name == "phone" and device.network.states().get(device.serial) != "device":
            device.connect()
        return name

    return add


@pytest.fixture(scope="module")
def set_up(user, added):
    """Set a runtime up on a device, once."""
    done = set()

    def set_up(name: str, runtime: str) -> None:
        if (added(name), runtime) not in done:
            words = ("--native",) if runtime == "native" else ("--runtime", runtime)
            found = user.run("device", "setup", name, *words)["result"]
            assert found["installed"]["runtime"]["name"] == runtime
            done.add((name, runtime))

    return set_up


@dataclass(frozen=True)
class Ready:
    """A device that a runtime was set up on, and the words that choose them."""

    name: str
    runtime: str

    @property
    def words(self) -> tuple[str, ...]:
        return ("--device", self.name, "--runtime", self.runtime)


@pytest.fixture(params=["pi-litert", "pi-native", "phone-native"])
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


def evaluation(public: Public, *words: str | Path, samples: int = _SAMPLES) -> tuple[str | Path, ...]:
    """The words of an evaluation of the int8 classifier."""
    return ("evaluate", public.int8, "--data", public.pictures, "--samples", str(samples), *words)


def test_the_device_says_what_it_is(ready, user):
    facts = user.run("device", "probe", ready.name)["result"]["facts"]
    assert ready.runtime in [runtime["name"] for runtime in facts["installed_runtimes"]]
    assert facts["userland"] == "aarch64"
    model = {"pi": "Raspberry Pi 4 Model B Rev 1.5", "phone": "Edgekit Fake Phone"}
    assert facts["model"] == model[ready.name]


def check_what_differs(found: dict, saved: Path, public: Public) -> None:
    """Hold an evaluation's agreement against the host's answers, worked out here without edgekit."""
    with np.load(saved) as rows:
        there, labels = rows["output_0"], rows["label"]
    with np.load(public.pictures) as archive:
        chosen = np.arange(_SAMPLES) * (len(archive["x"]) // _SAMPLES)
        assert np.array_equal(archive["y"][chosen], labels)
        here = answers_of_host(public.int8, archive["x"][chosen])
    assert found["value"] == pytest.approx(np.mean(there.argmax(axis=1) == labels))
    agreement, there_and_here = found["agreement"], (there.argmax(axis=1), here.argmax(axis=1))
    differing = np.flatnonzero(there_and_here[0] != there_and_here[1])
    listed = [(item["sample"], item["device"], item["host"]) for item in agreement["differing"]]
    assert listed == [(i, there_and_here[0][i], there_and_here[1][i]) for i in differing]
    assert agreement["n"] == _SAMPLES
    assert agreement["value"] == pytest.approx(1 - len(differing) / _SAMPLES)
    assert agreement["max_abs"] == pytest.approx(np.abs(there - here).max(), abs=1e-6)
    assert agreement["identical"] == np.sum((there == here).all(axis=1))


def test_accuracy_there_is_that_of_here(ready, user, public, tmp_path):
    saved = tmp_path / "there.npz"
    found = user.run(*evaluation(public, *ready.words, "--save-predictions", saved))["result"]
    assert (found["device"], found["runtime"], found["n"]) == (ready.name, ready.runtime, _SAMPLES)
    assert found["agreement"]["value"] >= 0.995
    check_what_differs(found, saved, public)


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
    assert result["conditions"]["before"]["temperature_c"] is not None


@pytest.fixture
def nothing_deployed(ready, request):
    """A device that serves nothing; what was set up stays."""
    device = request.getfixturevalue(ready.name)
    folder = (
        device.home / ".edgekit" if ready.name == "pi" else device.machine.root / "data/local/tmp/edgekit"
    )
    for name in ("current", "switch.json"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "releases", ignore_errors=True)


@pytest.mark.usefixtures("nothing_deployed")
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


def test_what_an_old_runtime_answers_differently_is_listed(set_up, user, public, tmp_path):
    """Its kernels for Arm round otherwise than today's, which changes the class of a few samples in 500."""
    set_up("pi", "tflite_runtime")
    saved = tmp_path / "there.npz"
    words = ("--device", "pi", "--runtime", "tflite_runtime", "--save-predictions", saved)
    found = user.run(*evaluation(public, *words))["result"]
    assert found["runtime"] == "tflite_runtime"
    assert 0.97 < found["agreement"]["value"] < 1
    check_what_differs(found, saved, public)


def test_a_model_that_a_runtime_gets_wrong_is_refused(set_up, user, public, tmp_path):
    set_up("pi", "tflite_runtime")
    dynamic = tmp_path / "dynamic.tflite"
    user.run("quantize", public.digits, "-o", dynamic, "-r", "dynamic", "--engine", "ai-edge-quantizer")
    for words in (("benchmark", dynamic), ("deploy", dynamic)):
        found = user.run(*words, "--device", "pi", "--runtime", "tflite_runtime", expect=4)
        assert found["error"]["code"] == "EK839"


def test_an_onnx_model_runs_there(set_up, user, public, tmp_path):
    set_up("pi", "onnxruntime")
    data = tmp_path / "digits.npz"
    with np.load(public.folder / "data/mnist_test5k.npz") as archive:
        np.savez(data, x=archive["x"][:100, None].astype(np.float32), y=archive["y"][:100])
    found = user.run("evaluate", public.digits_onnx, "--data", data, "--device", "pi")["result"]
    assert (found["runtime"], found["n"]) == ("onnxruntime", 100)
    assert found["value"] > 0.95
    assert found["agreement"]["value"] == 1


def rows(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def undisturbed(set_up, user, public, tmp_path_factory):
    """An evaluation on the Pi that nothing disturbs: its result and its rows."""
    set_up("pi", "litert")
    saved = tmp_path_factory.mktemp("undisturbed") / "rows.npz"
    words = evaluation(public, "--device", "pi", "--save-predictions", saved, samples=200)
    return user.run(*words)["result"], rows(saved)


def same(undisturbed: tuple, found: dict, saved: Path) -> None:
    """Check that an evaluation came to what it does without a disturbance."""
    expected, expected_rows = undisturbed
    for name in ("metric", "value", "ci95", "n", "per_class", "confusion", "agreement"):
        assert found[name] == expected[name]
    found_rows = rows(saved)
    assert found_rows.keys() == expected_rows.keys()
    for name, array in found_rows.items():
        np.testing.assert_array_equal(array, expected_rows[name])


def test_a_cut_link_loses_no_sample_and_counts_none_twice(undisturbed, user, public, pi, tmp_path):
    saved = tmp_path / "cut.npz"
    # A sample is 3,072 bytes: this is about half of them.
    pi.access.through_proxy().cut_after(300_000)
    try:
        document = user.run(*evaluation(public, "--device", "pi", "--save-predictions", saved, samples=200))
    finally:
        pi.access.reset()
    assert "EK861" in codes(document)
    assert document["result"]["reconnections"] == 1
    same(undisturbed, document["result"], saved)


@contextlib.contextmanager
def evaluating(user: CommandLine, public: Public, saved: Path) -> Iterator:
    """An evaluation on the Pi of which the first answers are there."""
    answers = user.cache / "edgekit/device-answers"
    words = evaluation(public, "--device", "pi", "--save-predictions", saved, "--json", samples=200)
    process = user.start(*words)
    try:
        wait_until(
            lambda: any(answers.glob("*/*.npz")) or process.poll() is not None,
            "the first answers",
            timeout_s=120,
        )
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)], ids=["killed", "ctrl-C"]
)
def test_an_evaluation_that_breaks_off_is_taken_up_again(
    undisturbed, user, public, pi, tmp_path, number, status
):
    saved = tmp_path / "rows.npz"
    with evaluating(user, public, saved) as process:
        process.send_signal(number)
        process.wait(30)
        assert process.returncode == status
    wait_until(lambda: not pi.programs(), "the end of what ran on the device", timeout_s=60)
    assert not saved.exists()
    document = user.run(*evaluation(public, "--device", "pi", "--save-predictions", saved, samples=200))
    assert "EK862" in codes(document)
    same(undisturbed, document["result"], saved)


def works(pi: FakePi) -> bool:
    """Whether a model is open on the Pi."""
    for pid in pi.programs():
        with contextlib.suppress(OSError):
            if b"/tools/worker-" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
    return False


@pytest.mark.parametrize("cooldown", [False, True])
def test_a_device_that_throttles_is_no_measure(set_up, user, public, pi, cooldown):
    set_up("pi", "litert")
    words = (
        "benchmark",
        public.int8,
        "--device",
        "pi",
        "--runs",
        "10",
        "--warmup",
        "3",
        "--max-seconds",
        "3",
    )
    process = user.start(*words, *(["--cooldown", "auto"] if cooldown else []), "--json")
    try:
        wait_until(lambda: works(pi) or process.poll() is not None, "a worker on the device", timeout_s=60)
        pi.set_throttled(0x50005)
        if cooldown:
            # Long enough for the first measurement; what follows waits for as long as the Pi throttles.
            time.sleep(_FIRST_MEASUREMENT_S)
            pi.set_throttled(0x50000)
        document = user.document(process, *words, expect=0 if cooldown else 6)
    finally:
        pi.set_throttled(0)
    throttling = [code for code in codes(document) if code in {"EK863", "EK864"}]
    assert throttling == ["EK863" if cooldown else "EK864"]
    assert document["status"] == ("ok" if cooldown else "inconclusive")
    assert document["result"]["conditions"]["throttled"] is not cooldown


def test_two_devices_work_side_by_side_and_fill_one_table(set_up, user, public):
    set_up("pi", "litert")
    set_up("phone", "native")
    both = ("--device", "pi", "--device", "phone")
    found = user.run(*evaluation(public, *both, samples=60))["result"]["devices"]
    assert [(one["device"], one["runtime"]) for one in found] == [("pi", "litert"), ("phone", "native")]
    assert found[0]["value"] == found[1]["value"]
    table = user.read("benchmark", public.int8, *both, "--runs", "5", "--warmup", "1", "--max-seconds", "2")
    lines = [line.split() for line in table.splitlines() if public.int8.name in line.split()]
    assert [line[0] for line in lines] == ["pi", "phone"]


def test_a_device_that_fails_does_not_spoil_the_other(set_up, user, public):
    set_up("pi", "litert")
    found = user.run(
        *evaluation(public, "--device", "adb://127.0.0.1:5999", "--device", "pi", samples=60), expect=5
    )
    failed, right = found["result"]["devices"]
    assert failed["error"]["code"] in codes(found)
    assert (right["device"], right["n"]) == ("pi", 60)
    assert right["agreement"]["value"] >= 0.98
