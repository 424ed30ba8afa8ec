"""What a target chooses, and what it says of a file."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

import edgekit
from edgekit.artifact import Artifact, Format
from edgekit.cli._group import run
from edgekit.engines import tensorflow
from edgekit.errors import TargetError, UsageError
from edgekit.operators import Operand, Operator, operators
from edgekit.recipe import Recipe
from edgekit.target import Fact, Target
from edgekit.targeting import choose, judge


def fact(*values, note="Because."):
    return Fact(values, "https://example.com", "2026-11-29", note)


@pytest.fixture
def npu():
    cpu = Target.load("linux-x86-64")
    return replace(
        cpu,
        name="npu",
        formats=fact("tflite"),
        dtypes=fact("int8"),
        recipe=fact("static_wi8_ai8"),
        io=fact("int8"),
        limits={"flash_bytes": fact(1000)},
    )


def codes(findings):
    return [finding.code for finding in findings]


def operator(dtype):
    x = Operand("x", (1, 4), dtype)
    return Operator("ADD", ("y",), (x,), (replace(x, name="y"),))


def artifact(size):
    return Artifact(Path("m.tflite"), Format.TFLITE, (), (), "", size)


def test_what_is_left_open_is_the_targets(npu):
    choice = choose(npu, None, None, Format.TFLITE)
    assert (choice.recipe.name, choice.io) == ("static_wi8_ai8", "int8")
    assert codes(choice.findings) == ["EK380", "EK380"]
    assert "Because." in choice.findings[0].message


def test_what_is_asked_for_counts(npu):
    choice = choose(npu, "int8", "uint8", Format.TFLITE)
    assert (choice.recipe.name, choice.io, choice.findings) == ("static_wi8_ai8", "uint8", ())


def test_without_a_target(npu):
    choice = choose(None, None, None, Format.TFLITE)
    assert (choice.recipe.name, choice.io, choice.findings) == ("static_wi8_ai8", "float32", ())


@pytest.mark.parametrize(
    ("recipe", "needs"),
    [("dynamic", "float32"), ("float16", "float16"), ("int16x8", "int16x8"), ("int4", "int4")],
)
def test_a_recipe_that_it_does_not_compute_is_said(npu, recipe, needs):
    choice = choose(npu, recipe, "float32", Format.TFLITE)
    assert choice.recipe.name != "static_wi8_ai8"
    assert codes(choice.findings) == ["EK382"]
    assert needs in choice.findings[0].message


def test_a_format_that_it_does_not_take_is_refused(npu):
    with pytest.raises(TargetError, match="npu takes tflite files, not onnx") as caught:
        choose(npu, None, None, Format.ONNX)
    assert (caught.value.code, caught.value.exit_code) == ("EK381", 4)


def test_floats_and_bytes_that_have_no_place(npu):
    assert codes(judge(npu, artifact(1000), (operator("int8"),))) == []
    assert codes(judge(npu, artifact(1001), (operator("int8"),))) == ["EK384"]
    assert codes(judge(npu, artifact(10), (operator("int8"), operator("float32")))) == ["EK383"]


def test_a_file_is_quantized_for_its_target(models, tmp_path, npu):
    output = tmp_path / "npu.tflite"
    quantized = edgekit.quantize(models.tflite_cnn, output, target=npu, calibration=models.train_data)
    assert quantized.artifact.inputs[0].dtype == "int8"
    assert quantized.artifact.outputs[0].dtype == "int8"
    assert codes(quantized.findings)[:2] == ["EK380", "EK380"]
    # It has more than 1,000 bytes.
    assert "EK384" in codes(quantized.findings)
    assert "EK383" not in codes(quantized.findings)


def scales_of_weights(path):
    """How many scales each constant of more than one axis has."""
    if path.suffix == ".tflite":
        found = operators(path, Format.TFLITE)
        return [len(operand.scales) for operator in found for operand in operator.weights]
    graph = onnx.load(path).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    return [
        numpy_helper.to_array(stored[node.input[1]]).size
        for node in graph.node
        if node.op_type == "DequantizeLinear" and len(getattr(stored.get(node.input[0]), "dims", ())) > 1
    ]


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_a_target_without_scales_per_channel_gets_one_for_each_tensor(models, tmp_path, npu, suffix):
    target = replace(npu, formats=fact(suffix), granularity=fact("per_tensor"), io=fact("float32"))
    assert "TFLiteConverter" in tensorflow.refuses(choose(target, None, None, Format(suffix)).recipe)
    model, output = getattr(models, f"{suffix}_cnn"), tmp_path / f"npu.{suffix}"
    found = edgekit.quantize(model, output, target=target, calibration=models.train_data, effort="high")
    edgekit.quantize(model, tmp_path / f"usual.{suffix}", recipe="int8", calibration=models.train_data)
    counts, usual = (scales_of_weights(tmp_path / f"{name}.{suffix}") for name in ("npu", "usual"))
    assert len(counts) == len(usual) >= 4
    assert set(counts) == {1}
    assert max(usual) > 1
    assert any("one scale for all weights of a layer" in finding.message for finding in found.findings)
    assert found.read_back.snr_db > 15


def test_a_recipe_file_may_ask_for_one_scale_for_each_tensor(tmp_path):
    recipe = tmp_path / "coarse.toml"
    recipe.write_text('schema = 1\nbase = "int8"\ngranularity = "per_tensor"\n')
    assert Recipe.load(str(recipe)).is_per_tensor
    recipe.write_text('schema = 1\nbase = "int8"\ngranularity = "per_tenser"\n')
    with pytest.raises(UsageError, match="per_tenser") as caught:
        Recipe.load(str(recipe))
    assert "per_tensor" in caught.value.hint


def test_a_target_by_name_on_the_command_line(models, tmp_path, capsys):
    output = tmp_path / "out.tflite"
    data = ["--calibration", str(models.train_data)]
    assert run(["quantize", str(models.tflite_cnn), "-o", str(output), "-t", "linux-x86-64", *data]) == 0
    assert "linux-x86-64 chose the recipe static_wi8_ai8" in capsys.readouterr().err
    onnx = str(tmp_path / "out.onnx")
    assert run(["quantize", str(models.onnx_cnn), "-o", onnx, "-t", "microcontroller-tflm", *data]) == 4


def test_a_runtime_that_needs_names_gets_them(models, tmp_path):
    """OpenVINO reads no ``.tflite`` file whose tensors have lost their names."""
    from edgekit import flatbuffer, quantize

    for target, has_names in (("intel-cpu-openvino", True), ("linux-x86-64", False)):
        path = tmp_path / f"{target}.tflite"
        quantize(models.tflite_cnn, path, target=target, calibration=str(models.train_data))
        tensors = flatbuffer.read(path.read_bytes()).subgraphs[0].tensors
        assert all(tensor.name for tensor in tensors) == has_names
