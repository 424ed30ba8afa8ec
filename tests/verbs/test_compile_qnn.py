"""Compilation for Qualcomm's NPU by the real provider: what it wrote is read. No device is involved."""

import onnx
import pytest
from onnx import TensorProto, helper

import edgekit
from edgekit.accelerators import Place, htp
from edgekit.artifact import Format
from edgekit.errors import DependencyError, ModelError, TargetError
from edgekit.operators import operators
from edgekit.target import Target

_TARGET = "qualcomm-htp"


@pytest.fixture(scope="module")
def installed(build_once):
    """ONNX Runtime with Qualcomm's plugin, installed once for all processes in a cache of the tests' own."""

    def install(folder):
        patch.setenv("XDG_CACHE_HOME", str(folder))
        edgekit.toolchain_install("qnn")

    with pytest.MonkeyPatch.context() as patch:
        folder = build_once("qnn", install)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield


@pytest.fixture
def int8(models, tmp_path):
    path = tmp_path / "int8.onnx"
    edgekit.quantize(models.onnx_cnn, path, recipe="int8", calibration=str(models.train_data))
    return path


def hardmax(tmp_path, size=4):
    """Relu, an operator that the provider does not have, and Relu again."""
    kinds = ("Relu", "Hardmax", "Relu")
    nodes = [helper.make_node(kind, [f"t{place}"], [f"t{place + 1}"]) for place, kind in enumerate(kinds)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name in ("t0", "t3")]
    graph = helper.make_graph(nodes, "hardmax", ends[:1], ends[1:])
    path = tmp_path / "hardmax.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def predicted_left(path):
    found = operators(path, Format.ONNX)
    verdicts = htp.judge(found, Target.load(_TARGET))
    return sorted(
        one.kind for one, verdict in zip(found, verdicts, strict=True) if verdict.place is Place.CPU
    )


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_network_becomes_one_program(int8, tmp_path):
    output = tmp_path / "npu.onnx"
    compiled = edgekit.compile(int8, output, target=_TARGET)
    nodes = onnx.load(output).graph.node
    [program] = [node for node in nodes if node.op_type == "EPContext"]
    assert max(len(entry.s) for entry in program.attribute) > 10_000
    left = sorted(one.kind for one in compiled.compilation.left_on_cpu())
    assert left == ["DequantizeLinear", "QuantizeLinear"] == predicted_left(int8)
    assert [finding.code for finding in compiled.findings] == ["EK393"]
    assert 80 < compiled.placed_pct < 100
    assert compiled.compilation.configuration == {"soc_model": "57", "htp_arch": "75"}


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_what_the_provider_does_not_have_stays_and_may_be_too_much(tmp_path):
    path = hardmax(tmp_path)
    compiled = edgekit.compile(path, tmp_path / "npu.onnx", target=_TARGET)
    assert [one.kind for one in compiled.compilation.left_on_cpu()] == ["Hardmax"] == predicted_left(path)
    with pytest.raises(TargetError, match="100% were asked for"):
        edgekit.compile(path, tmp_path / "all.onnx", target=_TARGET, min_placement=100)
    assert not (tmp_path / "all.onnx").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_compiler_that_writes_nothing_is_a_failure(int8, tmp_path, monkeypatch):
    empty = tmp_path / "child.py"
    empty.write_text("import sys; open(sys.argv[2], 'w').close()\n")
    monkeypatch.setattr("edgekit.compilers.qnn._CHILD", empty)
    with pytest.raises(TargetError, match="Nothing of"):
        edgekit.compile(int8, tmp_path / "npu.onnx", target=_TARGET)
    empty.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n")
    with pytest.raises(ModelError, match="made nothing of"):
        edgekit.compile(int8, tmp_path / "npu.onnx", target=_TARGET)
    assert not (tmp_path / "npu.onnx").exists()


def test_bad_input(models, int8, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(TargetError, match=r"reads \.onnx files"):
        edgekit.compile(models.tflite_cnn, tmp_path / "npu.onnx", target=_TARGET)
    with pytest.raises(DependencyError, match="qnn is not installed"):
        edgekit.compile(int8, tmp_path / "npu.onnx", target=_TARGET)
    free = onnx.load(int8)
    free.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(free, tmp_path / "free.onnx")
    with pytest.raises(TargetError, match="are free"):
        edgekit.compile(tmp_path / "free.onnx", tmp_path / "npu.onnx", target=_TARGET)


def test_grouped_convolutions_of_16_bits_are_refused(models, tmp_path):
    path = tmp_path / "wide.onnx"
    edgekit.quantize(models.onnx_cnn, path, recipe="int16x8", calibration=str(models.train_data))
    found = operators(path, Format.ONNX)
    verdicts = htp.judge(found, Target.load(_TARGET))
    grouped = [one.kind == "Conv" and one.options.get("group", 1) > 1 for one in found]
    refused = [verdict.place is Place.UNSUPPORTED for verdict in verdicts]
    assert refused == grouped
    assert any(grouped)
