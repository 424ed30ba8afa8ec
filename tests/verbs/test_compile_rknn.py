"""RKNN-Toolkit2 for real, where its toolchain of 1.5 GB is installed: ``edgekit toolchain install rknn``.

No run of CI installs it: these tests are run by hand.
"""

import json

import onnx
import pytest
from onnx import TensorProto, helper

import edgekit
from edgekit import flatbuffer
from edgekit.artifact import Format
from edgekit.compilers import _copies, rknn
from edgekit.errors import DependencyError, ModelError, TargetError, UsageError
from edgekit.formats import open_artifact
from edgekit.operators import operators
from edgekit.target import Target
from edgekit.toolchain import Toolchain

_TARGET = "rockchip-rk3588"


@pytest.fixture(scope="module")
def installed():
    if not Toolchain.load("rknn").is_installed:
        pytest.skip("needs the toolchain rknn, 1.5 GB, which CI does not install")


@pytest.fixture(params=["onnx", "tflite"])
def int8(request, models, tmp_path):
    path = tmp_path / f"int8.{request.param}"
    edgekit.quantize(models.keras_cnn, path, target=_TARGET, calibration=str(models.train_data))
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_quantized_network_stays_int8_and_computes_the_same(int8, tmp_path):
    output = tmp_path / "model.rknn"
    compiled = edgekit.compile(int8, output, target=_TARGET)
    assert output.read_bytes()[:4] == b"RKNN"
    places = {(one.kind, one.place) for one in compiled.compilation.operators}
    assert any(kind.startswith("Conv") and place == "npu" for kind, place in places)
    assert [one.kind for one in compiled.compilation.left_on_cpu()] == ["Reshape"]
    # Neither EK379, float16 where int8 was asked for, nor EK398, other outputs than the model's.
    assert [finding.code for finding in compiled.findings] == ["EK393"]
    assert compiled.compilation.configuration["optimization_level"] == "2"
    assert compiled.compilation.estimates["cycles_count"] > 0
    assert compiled.compilation.estimates["weight_memory_bytes"] > 0
    lineage = json.loads((tmp_path / "model.rknn.json").read_text())
    assert lineage["engine"] == "rknn 2.5.0"


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_float_network_is_computed_in_float16(models, tmp_path):
    compiled = edgekit.compile(models.tflite_cnn, tmp_path / "model.rknn", target=_TARGET)
    assert compiled.compilation.configuration["optimization_level"] == "3"
    assert "EK379" not in {finding.code for finding in compiled.findings}


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_quantized_weights_that_are_widened_are_no_secret(models, tmp_path):
    path = tmp_path / "dynamic.tflite"
    edgekit.quantize(models.tflite_cnn, path, recipe="dynamic")
    found = edgekit.compile(path, tmp_path / "model.rknn", target=_TARGET).findings
    [wide] = [finding for finding in found if finding.code == "EK379"]
    assert "computed in float16: Conv" in wide.message


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_rule_that_fails_is_left_out_and_named(tmp_path, monkeypatch):
    """Its rule for LayerNormalization asks for PyTorch, which the toolchain does without."""
    nodes = [helper.make_node("LayerNormalization", ["x", "s", "b"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8, 8]) for name in "xy"]
    values = [helper.make_tensor(name, TensorProto.FLOAT, [8], [0.5] * 8) for name in "sb"]
    graph = helper.make_graph(nodes, "norm", ends[:1], ends[1:], values)
    path = tmp_path / "norm.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(TargetError, match="Nothing of"):
        edgekit.compile(path, tmp_path / "model.rknn", target=_TARGET)
    compilation = rknn.compile(open_artifact(path), Target.load(_TARGET), tmp_path, tmp_path / "model.rknn")
    assert compilation.configuration["disable_rules"] == "convert_layernorm_to_exnorm"
    assert [finding.code for finding in compilation.findings] == ["EK378"]


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_what_the_toolkit_refuses_or_does_not_write_is_one_sentence(models, tmp_path, monkeypatch):
    path = tmp_path / "wide.tflite"
    edgekit.quantize(models.tflite_cnn, path, recipe="int16x8", calibration=str(models.train_data))
    with pytest.raises(ModelError, match=r"makes nothing of .*int16") as caught:
        edgekit.compile(path, tmp_path / "model.rknn", target=_TARGET)
    assert caught.value.code == "EK391"
    child = tmp_path / "child.py"
    monkeypatch.setattr(rknn, "_CHILD", child)
    for text in (
        "import sys; open(sys.argv[4], 'w').close()",
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    ):
        child.write_text(text)
        with pytest.raises(ModelError, match="nothing of"):
            edgekit.compile(models.tflite_cnn, tmp_path / "model.rknn", target=_TARGET)
    assert not (tmp_path / "model.rknn").exists()


def test_bad_input(models, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UsageError, match="no file for rockchip-rk3588") as caught:
        edgekit.compile(models.tflite_cnn, tmp_path / "model.bin", target=_TARGET)
    assert caught.value.hint == "End its name with .rknn."
    with pytest.raises(DependencyError, match="rknn is not installed"):
        edgekit.compile(models.tflite_cnn, tmp_path / "model.rknn", target=_TARGET)
    with pytest.raises(TargetError, match="are free"):
        edgekit.compile(models.tflite_cnn_dynamic_batch, tmp_path / "model.rknn", target=_TARGET)


def test_the_table_of_layers_is_read():
    text = (
        "D RKNN: [09:25:05.930] 0    InputOperator  INT8  CPU    \\     (1,32,32,3)   0/0/0  0  InputOperator:input_1\n"
        "D RKNN: [09:25:05.930] 4    ConvAdd        INT8  NPU    (1,16,32,32),(16,16,3,3),(16),...  (1,16,32,32)  "
        "2187/9216/9217  34  Conv:ta_ConvAdd \n"
        "D RKNN: [09:25:05.930] 15   Reshape        FLOAT16  CPU (1,10,1,1),(2)  (1,10)  0/0/0  0  Reshape:ob-rs \n"
        "D RKNN: [09:25:05.931] 4   ConvAdd    pa   INT8   NC1HWC2  (1,16,32,32) (1,2,32,32,16) | 0x00008000\n"
    )
    rows = list(rknn._ROW.finditer(text))
    assert [one.describe() for one in rknn._operators(rows)] == [
        {"op": "ConvAdd", "place": "npu", "cycles": 9217, "macs": 0, "name": "ta_ConvAdd"},
        {"op": "Reshape", "place": "cpu", "cycles": 0, "macs": 0, "name": "ob-rs"},
    ]
    [wide] = rknn._of_types(rows)
    assert wide.message == "1 operators of the quantized model are computed in float16: Reshape."


def test_a_copy_has_names_and_both_codes(models, tmp_path):
    """ai-edge-quantizer gives QUANTIZE in the old field the number of ADD, and compact files have no names."""
    path, copy = tmp_path / "int8.tflite", tmp_path / "copy.tflite"
    edgekit.quantize(models.tflite_cnn, path, recipe="static_wi8_ai8", calibration=str(models.train_data))
    _copies.readable_copy(open_artifact(path), copy)
    tree = flatbuffer.read(copy.read_bytes())
    assert all(tensor.name for graph in tree.subgraphs for tensor in graph.tensors)
    assert all(code.deprecatedBuiltinCode == code.builtinCode for code in tree.operatorCodes)
    kinds = [[one.kind for one in operators(file, Format.TFLITE)] for file in (path, copy)]
    assert kinds[0] == kinds[1]
