"""LiteRT's GPU accelerator on devices, run for real on a GPU that the processor plays."""

import sys
from dataclasses import replace
from pathlib import Path

import ai_edge_litert
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from devicelab.command_line import CommandLine, codes
from devicelab.software_gpu import NO_GPU
from faulty_links import QUICK, device_of, failing
from handmade import Made
from wheel_files import bare_python, installed_wheel

from edgekit import placement, worker
from edgekit.devices import python_facts, runtime_bundle, runtime_setup
from edgekit.devices.device import Device
from edgekit.devices.installed_runtimes import InstalledRuntime, record
from edgekit.devices.session import DeviceSession
from edgekit.devices.shell import Shell
from edgekit.errors import ModelError, TargetError, UsageError
from edgekit.formats import open_artifact
from edgekit.interleaved import Delegate
from edgekit.runtimes import open_session
from edgekit.verbs.device_setup import plan_setup
from edgekit.worker_process import WORKER

_GPU = Delegate.parse("gpu")
_PACKAGE = Path(ai_edge_litert.__file__).parent

needs_accelerator = pytest.mark.skipif(
    not list(_PACKAGE.glob("libLiteRtWebGpuAccelerator.so")), reason="this LiteRT has no WebGPU accelerator"
)


@pytest.fixture
def shell():
    with Shell(Device("here", "local"), replace(QUICK, patience_s=5)) as shell:
        yield shell


@pytest.fixture
def user(tmp_path):
    return CommandLine(tmp_path)


def written(made: Made, path: Path) -> Path:
    path.write_bytes(made.bytes())
    return path


def unary(path: Path, *operators: str) -> Path:
    """Operators of one input, one after the other, on four numbers."""
    model = Made()
    names = ["x", *(f"t{number}" for number in range(1, len(operators))), "y"]
    tensors = [model.tensor(name, "float32", (1, 4)) for name in names]
    model.graph.inputs, model.graph.outputs = tensors[:1], tensors[-1:]
    for number, name in enumerate(operators):
        model.operator(name, [tensors[number]], [tensors[number + 1]])
    return written(model, path)


def swapped_sum(path: Path) -> Path:
    """``difference = left - right``; the graph and the signature have the inputs in different orders."""
    model = Made()
    left, right, y = (model.tensor(name, "float32", (1, 4)) for name in ("l", "r", "y"))
    model.graph.inputs, model.graph.outputs = [right, left], [y]
    model.operator("SUB", [left, right], [y], schema.SubOptionsT())
    model.signature({"left": left, "right": right}, {"difference": y})
    return written(model, path)


def strided(path: Path) -> Path:
    """A convolution in int8 that LiteRT 2.3.0 computes wrong on a GPU: of one pixel, and every second one."""
    model, generator = Made(), np.random.default_rng(0)
    x = model.tensor("x", "int8", (1, 8, 8, 4), scale=0.05)
    weights = model.tensor("w", "int8", (4, 1, 1, 4), scale=0.01, values=generator.integers(-99, 99, (4, 4)))
    bias = model.tensor("b", "int32", (4,), scale=0.0005, values=[0, 0, 0, 0])
    y, z = (model.tensor(name, "int8", (1, 4, 4, 4), scale=0.1) for name in "yz")
    model.graph.inputs, model.graph.outputs = [x], [z]
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 2
    options.dilationHFactor = options.dilationWFactor = 1
    model.operator("CONV_2D", [x, weights, bias], [y], options, version=3)
    model.operator("RELU", [y], [z], version=2)
    return written(model, path)


def samples(artifact, count):
    generator = np.random.default_rng(0)
    return {
        spec.name: generator.random((count, *[size or 1 for size in spec.shape[1:]]), np.float32)
        for spec in artifact.inputs
    }


def opened_with(shell, path, delegate=_GPU):
    """What a session said when it was opened."""
    with DeviceSession(shell, open_artifact(path), delegate=delegate) as session:
        session.close()
    return session.opened


@pytest.mark.parametrize(
    ("text", "options"), [("gpu", {}), ("gpu,precision=float32", {"precision": "float32"})]
)
def test_gpu_is_no_library(text, options):
    delegate = Delegate.parse(text)
    assert (delegate.is_gpu, delegate.name, delegate.options) == (True, "the GPU", options)
    assert not Delegate.parse("./gpu").is_gpu


@pytest.mark.parametrize("text", ["gpu,precision=float16", "gpu,cache=/tmp", "gpu,precision"])
def test_the_gpu_has_one_option(text):
    with pytest.raises(UsageError) as refused:
        Delegate.parse(text)
    assert refused.value.code == "EK523"


@pytest.mark.parametrize(
    ("runtime", "hint"),
    [
        ("native", "--delegate /PATH/LIBRARY"),
        ("tflite_runtime", "--runtime litert"),
        ("onnxruntime", "--device local"),
    ],
)
def test_other_runtimes_have_no_gpu_on_a_device(runtime, hint):
    with pytest.raises(UsageError) as refused:
        _GPU.require(runtime, is_here=False)
    assert refused.value.code == "EK542"
    assert runtime in refused.value.message
    assert hint in refused.value.hint
    Delegate.parse("libvx.so").require(runtime, is_here=False)


def test_a_device_with_the_native_runner_alone_says_what_to_do(sshd, models):
    with Shell(device_of(sshd.access), QUICK) as shell:
        record(shell, InstalledRuntime("native", "1", ("/bin/false",)))
        with failing("EK542", within_s=5, kind=UsageError):
            DeviceSession(shell, open_artifact(models.tflite_cnn), delegate=_GPU)
    assert not (sshd.home / ".edgekit/models").exists()


@needs_accelerator
def test_without_a_gpu_there_is_one_sentence(shell, models, monkeypatch):
    for name, value in NO_GPU.items():
        monkeypatch.setenv(name, value)
    with failing("EK536", within_s=8, kind=TargetError) as caught:
        DeviceSession(shell, open_artifact(models.tflite_cnn), delegate=_GPU)
    assert "LiteRT finds no GPU" in caught[0].message
    assert "Vulkan driver" in caught[0].hint
    assert caught[0].exit_code == 4


@needs_accelerator
def test_numbers_that_the_interface_does_not_pass(shell, tmp_path):
    model = Made()
    x, y = model.tensor("x", "float32", (1, 4)), model.tensor("y", "int64", (1, 4))
    model.graph.inputs, model.graph.outputs = [x], [y]
    model.operator("CAST", [x], [y])
    path = written(model, tmp_path / "cast.tflite")
    with failing("EK536", within_s=8, kind=TargetError) as caught:
        DeviceSession(shell, open_artifact(path), delegate=_GPU)
    assert "passes no int64" in caught[0].message


def test_without_the_accelerator_the_setup_is_named(sshd, models, tmp_path):
    package = tmp_path / "packages/ai_edge_litert"
    package.mkdir(parents=True)
    for path in _PACKAGE.iterdir():
        if path.name != "libLiteRtWebGpuAccelerator.so":
            (package / path.name).symlink_to(path)
    with Shell(device_of(sshd.access), QUICK) as shell:
        words = (sys.executable, str(WORKER))
        record(shell, InstalledRuntime("litert", "1", words, {"PYTHONPATH": str(package.parent)}))
        with failing("EK536", within_s=8, kind=TargetError) as caught:
            DeviceSession(shell, open_artifact(models.tflite_cnn), delegate=_GPU)
    assert "no WebGPU accelerator" in caught[0].message
    assert "edgekit device setup --with-webgpu" in caught[0].hint


@pytest.mark.parametrize(("features", "refused"), [("fp asimd crc32", True), ("fp asimd atomics", False)])
def test_a_processor_without_lse_is_refused_before_anything_is_loaded(monkeypatch, features, refused):
    monkeypatch.setattr(worker.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(worker, "_text", lambda _path: f"processor\t: 0\nFeatures\t: {features}\n")
    # What comes next is not reached, or says so.
    monkeypatch.setattr(worker.Path, "glob", lambda *_: [])
    with pytest.raises(worker.WorkerError) as caught:
        worker._gpu_interface()
    assert caught.value.kind == "gpu"
    assert ("LSE" in str(caught.value)) is refused


def test_setup_brings_what_the_gpu_needs(tmp_path):
    plan = plan_setup("local", "litert", wheels=tmp_path, python=sys.executable, with_webgpu=True)
    assert [package.package for package in plan.packages] == ["ai-edge-litert", "numpy", "ml-dtypes"]
    with pytest.raises(UsageError) as refused:
        plan_setup("local", "onnxruntime", wheels=tmp_path, python=sys.executable, with_webgpu=True)
    assert refused.value.code == "EK542"


def test_a_share_that_is_not_told_is_no_number():
    opened = {
        "delegate": "gpu",
        "placement": {"accelerated_pct": None, "ops": [{"op": "ADD", "accelerated": None}]},
        "accelerator": {"name": "X", "type": "Integrated GPU", "outside": [], "warnings": []},
    }
    [found] = placement.findings(opened, "m.tflite", "litert", _GPU)
    assert (found.code, found.message) == ("EK512", "m.tflite: the GPU took a part of the operators.")


@pytest.mark.devicelab
@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("tflite_cnn", 1e-5),
        ("tflite_cnn_no_signature", 1e-5),
        ("tflite_cnn_dynamic_batch", 1e-5),
        ("tflite_cnn_int8", 1),
    ],
)
def test_outputs_are_those_of_the_processor(gpu, shell, models, name, limit):
    artifact = open_artifact(getattr(models, name))
    inputs = samples(artifact, 20)
    expected = open_session(artifact).run(inputs)
    with DeviceSession(shell, artifact, delegate=_GPU) as session:
        found = session.run(inputs)
        session.close()
    assert session.opened["delegate"] == "gpu"
    assert session.opened["placement"]["accelerated_pct"] == 100
    assert "SwiftShader" in session.opened["accelerator"]["name"]
    for spec in artifact.outputs:
        off = np.abs(found[spec.name] - expected[spec.name])
        if spec.dtype == "int8":
            # Both were made real again, which costs the last bits.
            assert off.max() <= limit * spec.quantization.scales[0] * 1.001
        else:
            assert np.all(off <= limit * np.abs(expected[spec.name]).max())
    # They are not the CPU's, or the test would compare it with itself.
    assert name == "tflite_cnn_int8" or any(np.any(found[key] != expected[key]) for key in found)


@pytest.mark.devicelab
def test_inputs_find_their_way_by_name(gpu, shell, tmp_path):
    artifact = open_artifact(swapped_sum(tmp_path / "swapped.tflite"))
    inputs = {"left": np.full((2, 4), 7, np.float32), "right": np.full((2, 4), 2, np.float32)}
    with DeviceSession(shell, artifact, delegate=_GPU) as session:
        found = session.run(inputs)
        session.close()
    np.testing.assert_array_equal(found["difference"], np.full((2, 4), 5, np.float32))


@pytest.mark.devicelab
def test_what_the_gpu_leaves_is_named(gpu, shell, tmp_path):
    path = unary(tmp_path / "partial.tflite", "SQRT", "RELU_0_TO_1", "ABS")
    opened = opened_with(shell, path)
    placed = opened["placement"]
    assert opened["delegate"] == "gpu"
    assert 0 < placed["accelerated_pct"] < 100
    assert {op["op"]: op["accelerated"] for op in placed["ops"]}["RELU_0_TO_1"] is not True
    [told] = [f for f in placement.findings(opened, path.name, "litert", _GPU) if f.code == "EK512"]
    assert "RELU_0_TO_1" in told.message


@pytest.mark.devicelab
def test_what_xnnpack_takes_is_not_the_gpus(gpu, shell, tmp_path):
    # The GPU has four dimensions at most. XNNPACK takes all of it, and LiteRT then calls it fully accelerated.
    model = Made()
    x, y = (model.tensor(name, "float32", (1, 2, 1, 2, 1, 2)) for name in "xy")
    model.graph.inputs, model.graph.outputs = [x], [y]
    model.operator("ADD", [x, x], [y], schema.AddOptionsT())
    path = written(model, tmp_path / "six.tflite")
    opened = opened_with(shell, path)
    assert opened["delegate"] == "none"
    assert opened["placement"] == {"accelerated_pct": 0.0, "ops": [{"op": "ADD", "accelerated": False}]}
    assert "EK511" in [finding.code for finding in placement.findings(opened, path.name, "litert", _GPU)]


@pytest.mark.devicelab
def test_a_damaged_file_is_refused_and_a_crash_is_a_sentence(gpu, shell, models, tmp_path, monkeypatch):
    artifact = open_artifact(models.tflite_cnn)
    content = models.tflite_cnn.read_bytes()
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(content[: len(content) // 2])
    # The interpreter refuses it, before the interface that it would crash.
    with failing("EK531", within_s=20, kind=ModelError):
        DeviceSession(shell, artifact, path=str(damaged), delegate=_GPU)
    program = "import os, signal, sys; sys.stdin.readline(); os.kill(os.getpid(), signal.SIGSEGV)"
    crashing = InstalledRuntime("litert", "1", (sys.executable, "-c", program))
    monkeypatch.setattr("edgekit.devices.session.choose_runtime", lambda *_: crashing)
    with failing("EK530", within_s=20, kind=ModelError) as caught:
        DeviceSession(shell, artifact, delegate=_GPU)
    assert "crashed with SIGSEGV" in caught[0].message


@pytest.mark.devicelab
def test_a_model_with_a_state_is_refused_by_the_gpu(gpu, shell, tmp_path):
    model = Made()
    x = model.tensor("x", "float32", (1, 2))
    weights = model.tensor("w", "float32", (2, 2), values=[[1, 0], [0, 1]])
    bias = model.tensor("b", "float32", (2,), values=[0, 0])
    state = model.tensor("state", "float32", (1, 2))
    model.graph.tensors[state].isVariable = True
    y = model.tensor("y", "float32", (1, 2))
    model.graph.inputs, model.graph.outputs = [x], [y]
    model.operator("RNN", [x, weights, weights, bias, state], [y], schema.RNNOptionsT())
    path = written(model, tmp_path / "rnn.tflite")
    with failing("EK536", within_s=20, kind=TargetError) as caught:
        DeviceSession(shell, open_artifact(path), delegate=_GPU)
    assert "the GPU refuses the model (Variable tensors not yet supported)" in caught[0].message


@pytest.mark.devicelab
def test_a_benchmark_says_what_it_measured(gpu, user, models, tmp_path):
    common = ("--device", "local", "--delegate", "gpu", "--runs", "5", "--warmup", "2")
    document = user.run("benchmark", models.tflite_cnn_int8, *common, "--require-placement", "100")
    result = document["result"]
    assert (result["delegate"], result["placement"]["accelerated_pct"]) == ("gpu", 100)
    assert "SwiftShader" in result["accelerator"]["name"]
    assert len(result["placement"]["ops"]) > 3
    assert result["latency_ms"]["median"] > 0.1
    assert "EK543" in codes(document)
    partial = unary(tmp_path / "partial.tflite", "SQRT", "RELU_0_TO_1", "ABS")
    refused = user.run("benchmark", partial, *common, "--require-placement", "90", expect=4)
    assert {"EK512", "EK515"} <= set(codes(refused))
    (tmp_path / "without").mkdir()
    nothing = CommandLine(tmp_path / "without", NO_GPU)
    failed = nothing.run("benchmark", models.tflite_cnn, *common, expect=4)
    assert failed["error"]["code"] == "EK536"


@pytest.mark.devicelab
def test_wrong_outputs_of_the_gpu_are_seen_warned_of_and_named(gpu, shell, user, tmp_path):
    path, data = strided(tmp_path / "strided.tflite"), tmp_path / "data.npz"
    np.savez(data, x=np.random.default_rng(1).uniform(-5, 5, (4, 8, 8, 4)).astype(np.float32))
    words = (path, "--data", data, "--device", "local", "--delegate", "gpu")
    evaluated = user.run("evaluate", *words, "--reference", path)
    assert "EK545" in codes(evaluated)
    assert evaluated["result"]["agreement"]["max_units"] > 10
    found = user.run("debug", *words, expect=1)
    assert {"EK545", "EK707"} <= set(codes(found))
    [defect] = [tensor for tensor in found["result"]["tensors"] if tensor["verdict"] == "defect"]
    assert (defect["op"], defect["name"]) == ("CONV_2D", "y")


@pytest.mark.devicelab
def test_debug_finds_nothing_but_rounding_in_a_float_model(gpu, user, models, tmp_path):
    data = tmp_path / "data.npz"
    np.savez(data, x=np.random.default_rng(0).random((4, 8, 8, 1), np.float32))
    words = ("--data", data, "--device", "local", "--delegate", "gpu,precision=float32")
    found = user.run("debug", models.tflite_cnn, *words)
    assert found["result"]["b"]["runtime"] == "litert with the GPU on local"
    assert {tensor["verdict"] for tensor in found["result"]["tensors"]} <= {"rounding", "identical"}
    assert any(tensor["verdict"] == "rounding" for tensor in found["result"]["tensors"])


@pytest.mark.devicelab
@needs_accelerator
def test_a_device_that_was_set_up_for_it_runs_on_its_gpu(gpu, make_sshd, models, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime_bundle, "_LEVEL", 1)
    wheels = [installed_wheel(name, tmp_path) for name in ("ai-edge-litert", "numpy", "ml-dtypes")]
    server = make_sshd(environment=gpu)
    artifact = open_artifact(models.tflite_cnn)
    inputs = samples(artifact, 3)
    with Shell(device_of(server.access), QUICK) as shell:
        python = python_facts.find(shell, str(bare_python(tmp_path)))
        for number, with_webgpu in ((2, True), (3, True), (3, False)):
            runtime_setup.set_up(shell, "litert", "2.3.0", python, wheels[:number], with_webgpu=with_webgpu)
            if (number, with_webgpu) == (3, True):
                with DeviceSession(shell, artifact, delegate=_GPU) as session:
                    found = session.run(inputs)
                    session.close()
                continue
            with failing("EK536", within_s=20, kind=TargetError) as caught:
                DeviceSession(shell, artifact, delegate=_GPU)
            reason = "no WebGPU accelerator" if number == 3 else "ml_dtypes"
            assert reason in caught[0].message
    expected = open_session(artifact).run(inputs)
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5)
