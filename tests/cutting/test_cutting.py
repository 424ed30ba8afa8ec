"""Parts of models: run one after the other they compute what the whole computes, wherever it was cut."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.artifact import Format, align
from edgekit.cutting import cutter
from edgekit.errors import ModelError
from edgekit.formats import open_artifact
from edgekit.runtimes import open_session

_MODELS = ["onnx_cnn", "tflite_cnn", "tflite_cnn_int8", "keras_cnn", "keras_two_inputs"]


def run(artifact, inputs):
    session = open_session(artifact)
    try:
        return session.run(inputs)
    finally:
        session.close()


def only(mapping):
    (value,) = mapping.values()
    return value


@pytest.mark.parametrize("name", _MODELS)
def test_all_of_it_is_the_model(models, tmp_path, name):
    artifact = open_artifact(getattr(models, name))
    cutting = cutter(artifact.format)
    last = len(cutting.operators(artifact.path)) - 1
    path = tmp_path / f"whole{cutting.SUFFIX}"
    cutting.cut(artifact.path, 0, last, path)
    whole = open_artifact(path)
    generator = np.random.default_rng(0)
    shape = (3, *artifact.inputs[0].shape[1:])
    samples = {spec.name: generator.random(shape, np.float32) for spec in artifact.inputs}
    names, twins = align(artifact.inputs, whole.inputs), align(artifact.outputs, whole.outputs)
    exact, found = run(artifact, samples), run(whole, {names[key]: v for key, v in samples.items()})
    for key, values in exact.items():
        np.testing.assert_allclose(found[twins[key]], values, atol=1e-6)


@pytest.mark.parametrize("name", ["onnx_cnn", "tflite_cnn", "keras_cnn"])
def test_two_parts_make_the_whole(models, tmp_path, name):
    """The network is a chain: where it is cut, one tensor goes over."""
    artifact = open_artifact(getattr(models, name))
    cutting = cutter(artifact.format)
    count = len(cutting.operators(artifact.path))
    samples = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    exact = only(run(artifact, {artifact.inputs[0].name: samples}))
    for place in (1, count // 2, count - 1):
        values = samples
        for first, last in ((0, place - 1), (place, count - 1)):
            path = tmp_path / f"{place}-{first}{cutting.SUFFIX}"
            cutting.cut(artifact.path, first, last, path)
            part = open_artifact(path)
            values = only(run(part, {part.inputs[0].name: values}))
        np.testing.assert_allclose(values.reshape(exact.shape), exact, atol=1e-5)


def test_one_operator_brings_its_weights_and_no_others(models, tmp_path):
    artifact = open_artifact(models.onnx_cnn)
    cutting = cutter(artifact.format)
    found = cutting.operators(artifact.path)
    place = next(place for place, text in enumerate(found) if text.startswith("Conv "))
    cutting.cut(artifact.path, place, place, tmp_path / "conv.onnx")
    graph = onnx.load(tmp_path / "conv.onnx").graph
    assert [node.op_type for node in graph.node] == ["Conv"]
    assert {tensor.name for tensor in graph.initializer} == set(graph.node[0].input[1:])
    assert [value.name for value in graph.input] == [graph.node[0].input[0]]


def branching(path):
    """A branch that reads a tensor from outside of it."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["doubled", "doubled"], ["sum"])],
        "inner",
        [],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [2])],
    )
    nodes = [
        helper.make_node("Add", ["x", "x"], ["doubled"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=inner),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]),
        helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [2]),
    ]
    graph = helper.make_graph(nodes, "branching", ends[:2], ends[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_what_a_branch_reads_goes_in(tmp_path):
    source = branching(tmp_path / "branching.onnx")
    cutter(Format.ONNX).cut(source, 1, 1, tmp_path / "if.onnx")
    part = open_artifact(tmp_path / "if.onnx")
    assert {spec.name for spec in part.inputs} == {"flag", "doubled"}


def test_an_unknown_shape_cannot_be_cut(tmp_path):
    nodes = [helper.make_node("Odd", ["x"], ["a"], domain="mine"), helper.make_node("Relu", ["a"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    graph = helper.make_graph(nodes, "odd", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match="shape of a is unknown"):
        cutter(Format.ONNX).cut(tmp_path / "odd.onnx", 1, 1, tmp_path / "part.onnx")
