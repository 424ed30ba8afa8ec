"""Edited files: every tensor visible with its right values, and operators that compute from what they are given."""

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper

import edgekit
from edgekit import flatbuffer
from edgekit.debugging.graph import fed
from edgekit.debugging.onnx import OnnxGraph
from edgekit.debugging.tflite import TfliteGraph
from edgekit.runtimes import open_session
from edgekit.tensor import Quantization, dequantize


def run(content, path, inputs):
    path.write_bytes(content)
    return open_session(edgekit.open_artifact(path)).run(inputs)


def samples(path, count):
    with np.load(path) as arrays:
        return arrays["x"][:count]


@pytest.mark.parametrize("version", ["float", "named", "nameless"])
def test_an_exposed_tflite_file_gives_what_the_interpreter_keeps(digits, int8, tmp_path, version):
    path = {"float": digits[0], "named": int8[0], "nameless": int8[1]}[version]
    graph = TfliteGraph(path)
    keys = [value.key for value in graph.values if not value.is_input]
    assert len(keys) == len(flatbuffer.read(path.read_bytes()).subgraphs[0].operators)
    x = samples(digits[2], 1)
    found = run(
        graph.expose(keys), tmp_path / "exposed.tflite", {edgekit.open_artifact(path).inputs[0].name: x}
    )

    with pytest.warns(UserWarning, match="memory"):
        kept = Interpreter(str(path), experimental_preserve_all_tensors=True, num_threads=1)
    kept.allocate_tensors()
    detail = kept.get_input_details()[0]
    kept.set_tensor(detail["index"], x.astype(detail["dtype"]))
    kept.invoke()
    for value in graph.values[1:]:
        expected = kept.get_tensor(int(value.key))
        if value.quantization is not None:
            expected = dequantize(expected, value.quantization)
        # Kernels that are fused in one file and not in the other may round differently.
        limit = 1e-5 if value.quantization is None else 1.001 * value.quantization.scales[0]
        np.testing.assert_allclose(found[value.key], expected, atol=limit)


def test_weights_are_not_stored_twice(digits):
    graph = TfliteGraph(digits[0])
    exposed = graph.expose([value.key for value in graph.values if not value.is_input])
    assert len(exposed) < digits[0].stat().st_size + 3000


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_a_cut_file_computes_from_what_it_is_given(digits, onnx_pair, tmp_path, kind):
    path, data = (digits[0], digits[2]) if kind == "tflite" else (onnx_pair[0], onnx_pair[2])
    graph = TfliteGraph(path) if kind == "tflite" else OnnxGraph(path)
    keys = [value.key for value in graph.values if not value.is_input]
    inputs = {edgekit.open_artifact(path).inputs[0].name: samples(data, 1)}
    whole = run(graph.expose(keys), tmp_path / f"whole.{kind}", inputs)
    cut = graph.cut(keys, [], {})
    given = inputs | {fed(key): whole[key] for key in keys}
    same = run(cut, tmp_path / f"cut.{kind}", given)
    for key in keys:
        np.testing.assert_allclose(same[key], whole[key], rtol=1e-4, atol=1e-5)
    # With zeros in place of the second tensor, what reads it changes, and nothing behind that.
    other = run(cut, tmp_path / f"cut.{kind}", given | {fed(keys[1]): np.zeros_like(whole[keys[1]])})
    readers = {value.key for value in graph.values if keys[1] in value.inputs}
    changed = {key for key in keys if not np.allclose(other[key], same[key], atol=1e-5)}
    assert changed
    assert changed <= readers


def test_integers_of_onnx_are_shown_and_fed_as_real_numbers(onnx_pair, tmp_path):
    _, path, data = onnx_pair
    graph = OnnxGraph(path)
    keys = [value.key for value in graph.values if not value.is_input]
    inputs = {"x": samples(data, 1)}
    whole = run(graph.expose(keys), tmp_path / "whole.onnx", inputs)
    integers = [value for value in graph.values if value.kind == "QuantizeLinear"]
    assert len(integers) >= 5
    for value in integers:
        assert isinstance(value.quantization, Quantization)
        steps = whole[value.key] / value.quantization.scales[0]
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    same = run(
        graph.cut(keys, [], {}), tmp_path / "cut.onnx", inputs | {fed(key): whole[key] for key in keys}
    )
    for value in integers:
        np.testing.assert_allclose(
            same[value.key], whole[value.key], atol=1.001 * value.quantization.scales[0]
        )


def test_what_cannot_be_seen_is_said(tmp_path):
    def branch(name, kind):
        node = helper.make_node(kind, ["x"], [name])
        return helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])]
        )

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["chosen"], name="choice",
                         then_branch=branch("yes", "Relu"), else_branch=branch("no", "Neg")),
        helper.make_node("Sigmoid", ["chosen"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "control",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])],
    )
    path = tmp_path / "control.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(0, 1, (8, 4)).astype(np.float32))
    found = edgekit.debug(path, None, tmp_path / "x.npz", runtime_b="onnxruntime_unoptimized")
    assert [(item.name, item.reason) for item in found.hidden[0]] == [
        ("choice", "what is inside is control flow")
    ]
    assert "EK704" in [finding.code for finding in found.findings]
    assert [report.pair.b.key for report in found.tensors] == ["x", "total", "positive", "chosen", "y"]


def test_constants_are_no_tensors_of_interest(digits, tmp_path):
    """A float16 file turns its weights into float32 at every start: those are not shown."""
    edgekit.quantize(digits[0], tmp_path / "half.tflite", recipe="float16")
    graph = TfliteGraph(tmp_path / "half.tflite")
    operators = flatbuffer.read((tmp_path / "half.tflite").read_bytes()).subgraphs[0].operators
    assert {value.kind for value in graph.values if not value.is_input}.isdisjoint({"DEQUANTIZE"})
    assert len(graph.values) < len(operators)
    halves = [weight for value in graph.values for weight in value.weights.values() if weight.is_half]
    assert halves
