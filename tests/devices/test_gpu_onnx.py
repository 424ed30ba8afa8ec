"""ONNX Runtime's WebGPU provider, run for real on a GPU that the processor plays, by the Python of its toolchain."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from devicelab.command_line import CommandLine, codes
from devicelab.software_gpu import NO_GPU
from faulty_links import QUICK, device_of, failing
from onnx import TensorProto, helper

import edgekit
from edgekit import placement
from edgekit.devices.device import Device
from edgekit.devices.installed_runtimes import InstalledRuntime, record
from edgekit.devices.session import DeviceSession
from edgekit.devices.shell import Shell
from edgekit.errors import DependencyError, ModelError, TargetError, UsageError
from edgekit.formats import open_artifact
from edgekit.interleaved import BenchmarkOptions, Delegate
from edgekit.runtimes import open_session

_GPU = Delegate.parse("gpu")


@pytest.fixture
def shell():
    with Shell(Device("here", "local"), replace(QUICK, patience_s=5)) as shell:
        yield shell


def chain(path, *kinds, dtype=TensorProto.FLOAT, opset=13):
    """Operators of one input, one after the other, on four numbers."""
    nodes = [helper.make_node(kind, [f"t{place}"], [f"t{place + 1}"]) for place, kind in enumerate(kinds)]
    ends = [helper.make_tensor_value_info(name, dtype, [1, 4]) for name in ("t0", f"t{len(kinds)}")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def looping(path, times):
    """An operator that runs several times in a loop."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["more"]), helper.make_node("Sin", ["old"], ["new"])],
        "body",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("old", TensorProto.FLOAT, [1, 4]),
        ],
        [
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            helper.make_tensor_value_info("new", TensorProto.FLOAT, [1, 4]),
        ],
    )
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Loop", ["times", "", "x"], ["y"], body=body)],
        "looping",
        ends[:1],
        ends[1:],
        [helper.make_tensor("times", TensorProto.INT64, [], [times])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def told(path, opened):
    return {found.code: found for found in placement.findings(opened, path.name, "onnxruntime", _GPU)}


def opened_with(shell, path):
    """What a session said when it was opened."""
    with DeviceSession(shell, open_artifact(path), delegate=_GPU) as session:
        session.close()
    return session.opened


def test_without_the_toolchain_its_installation_is_named(shell, dense_onnx, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tries = (
        lambda: edgekit.benchmark([dense_onnx], BenchmarkOptions(delegate=_GPU)),
        lambda: DeviceSession(shell, open_artifact(dense_onnx), delegate=_GPU),
    )
    for attempt in tries:
        with pytest.raises(DependencyError) as missing:
            attempt()
        assert (missing.value.code, missing.value.exit_code) == ("EK630", 3)
        assert "edgekit toolchain install onnxruntime-webgpu" in missing.value.hint


def test_it_is_for_this_machine_alone(sshd, dense_onnx):
    with Shell(device_of(sshd.access), QUICK) as shell:
        record(shell, InstalledRuntime("onnxruntime", "1", ("/bin/false",)))
        with failing("EK542", within_s=5, kind=UsageError) as caught:
            DeviceSession(shell, open_artifact(dense_onnx), delegate=_GPU)
    assert "onnxruntime has no GPU of its own on a device" in caught[0].message
    assert not (sshd.home / ".edgekit/models").exists()


@pytest.mark.devicelab
def test_vulkan_is_asked_for_its_devices(gpu):
    # In other processes: this one may have loaded Vulkan before.
    code = "from edgekit.worker import _vulkan_devices; print(_vulkan_devices())"

    def devices(environment):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert devices(dict(os.environ)) == "[('SwiftShader Device (Subzero)', 'CPU')]"
    assert devices({**os.environ, **NO_GPU}) == "[]"


@pytest.mark.slow
@pytest.mark.devicelab
@pytest.mark.parametrize(("recipe", "share"), [(None, 100), ("int8", None)])
def test_outputs_are_those_of_the_processor(onnx_gpu, shell, models, tmp_path, recipe, share):
    path = models.onnx_cnn
    if recipe is not None:
        path = tmp_path / "quantized.onnx"
        edgekit.quantize(models.onnx_cnn, path, recipe=recipe, calibration=str(models.train_data))
    artifact = open_artifact(path)
    generator = np.random.default_rng(0)
    inputs = {s.name: generator.random((20, *s.shape[1:]), np.float32) for s in artifact.inputs}
    expected = open_session(artifact).run(inputs)
    with DeviceSession(shell, artifact, delegate=_GPU) as session:
        found = session.run(inputs)
        session.close()
    assert session.opened["delegate"] == "gpu"
    assert session.opened["runtime_version"] == session.runtime.version == "1.27.0"
    for name, values in found.items():
        limit = 1e-5 if recipe is None else 0.02
        assert np.all(np.abs(values - expected[name]) <= limit * np.abs(expected[name]).max())
    findings = told(path, session.opened)
    assert "SwiftShader" in findings["EK543"].message
    if share == 100:
        # They are not the CPU's, or the test would compare it with itself.
        assert any(np.any(found[key] != expected[key]) for key in found)
        assert session.opened["placement"]["accelerated_pct"] == 100
        assert "EK512" not in findings
    else:
        # The provider of 1.27.0 has a kernel for DequantizeLinear, and none for QuantizeLinear.
        assert 0 < session.opened["placement"]["accelerated_pct"] < 100
        assert "QuantizeLinear" in findings["EK512"].message


@pytest.mark.slow
@pytest.mark.devicelab
def test_what_the_gpu_leaves_is_named(onnx_gpu, shell, tmp_path):
    path = chain(tmp_path / "partial.onnx", "Sin", "Hardmax", "Cos")
    opened = opened_with(shell, path)
    assert opened["delegate"] == "gpu"
    assert {op["op"]: op["accelerated"] for op in opened["placement"]["ops"]} == {
        "Sin": True,
        "Hardmax": False,
        "Cos": True,
    }
    assert opened["placement"]["accelerated_pct"] == 66.7
    assert told(path, opened)["EK512"].message.endswith("took 66.7% of the operators; outside: 1 Hardmax.")


@pytest.mark.slow
@pytest.mark.devicelab
@pytest.mark.parametrize(("opset", "taken"), [(21, 100), (22, 50)])
def test_a_later_opset_is_named_as_a_reason(onnx_gpu, shell, tmp_path, opset, taken):
    path = chain(tmp_path / "later.onnx", "Sin", "Sigmoid", opset=opset)
    opened = opened_with(shell, path)
    assert opened["placement"]["accelerated_pct"] == taken
    hints = [finding.hint for finding in told(path, opened).values() if finding.code == "EK512"]
    assert [("opset 21" in hint) for hint in hints] == [True] * (taken < 100)


@pytest.mark.slow
@pytest.mark.devicelab
def test_nothing_on_the_gpu_is_said(onnx_gpu, shell, tmp_path):
    path = chain(tmp_path / "none.onnx", "Hardmax")
    opened = opened_with(shell, path)
    assert (opened["delegate"], opened["placement"]["accelerated_pct"]) == ("none", 0)
    assert "took no operator: 1 Hardmax" in told(path, opened)["EK511"].message


@pytest.mark.slow
@pytest.mark.devicelab
def test_an_operator_in_a_loop_counts_once(onnx_gpu, shell, tmp_path):
    opened = opened_with(shell, looping(tmp_path / "loop.onnx", 5))
    assert [op["op"] for op in opened["placement"]["ops"]].count("Sin") == 1


@pytest.mark.slow
@pytest.mark.devicelab
def test_a_damaged_file_and_one_that_the_gpu_cannot_compute(onnx_gpu, shell, tmp_path, dense_onnx):
    artifact = open_artifact(dense_onnx)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(dense_onnx.read_bytes()[:50])
    with failing("EK531", within_s=20, kind=ModelError):
        DeviceSession(shell, artifact, path=str(damaged), delegate=_GPU)
    # SwiftShader has no float16.
    half = chain(tmp_path / "half.onnx", "Sin", dtype=TensorProto.FLOAT16)
    with failing("EK536", within_s=20, kind=TargetError) as caught:
        DeviceSession(shell, open_artifact(half), delegate=_GPU)
    assert "requires f16 but the device does not support it" in caught[0].message


@pytest.mark.slow
@pytest.mark.devicelab
def test_a_benchmark_says_what_it_measured_or_why_not(onnx_gpu, gpu, models, tmp_path):
    def user(name, environment):
        (tmp_path / name).mkdir()
        user = CommandLine(tmp_path / name, environment)
        user.share_toolchains(onnx_gpu)
        return user

    common = (models.onnx_cnn, "--delegate", "gpu", "--runs", "5", "--warmup", "2")
    for device in ((), ("--device", "local")):
        document = user(f"with{len(device)}", gpu).run(
            "benchmark", *common, *device, "--require-placement", "100"
        )
        result = document["result"]
        assert (result["runtime"], result["delegate"]) == ("onnxruntime", "gpu")
        assert result["accelerator"]["type"] == "CPU"
        assert result["latency_ms"]["median"] > 0.1
        assert "EK543" in codes(document)
        # The provider would print that it falls back to the CPU, and go on.
        failed = user(f"without{len(device)}", NO_GPU).run("benchmark", *common, *device, expect=4)
        assert failed["error"]["code"] == "EK536"
        assert "ONNX Runtime finds no GPU" in failed["error"]["message"]
        assert "LiteRT" not in failed["error"]["hint"]
