"""Batch norms that ONNX Runtime leaves standing are folded, and the outputs stay."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.passes.fold_batch_norm_onnx import fold_batch_norm_onnx as fold

_GENERATOR = np.random.default_rng(0)


def constant(name, *shape, low=-1.0):
    return numpy_helper.from_array(_GENERATOR.uniform(low, 2, shape).astype(np.float32), name)


def norm(source, made, channels):
    names = [f"{made}_{part}" for part in ("gamma", "beta", "mean", "variance")]
    constants = [constant(name, channels, low=0.5) for name in names]
    return helper.make_node("BatchNormalization", [source, *names], [made], epsilon=0.01), constants


def model(nodes, constants, shape, outputs=("y",)):
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "graph", values, results, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return proto.SerializeToString()


def run(content, shape):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return session.run(None, {"x": x})


def fold_batch_norm_onnx(content):
    proto = onnx.load_from_string(content)
    before = len(proto.graph.node)
    assert fold(proto) == before - len(proto.graph.node)
    return proto.SerializeToString()


def kinds(content):
    return [node.op_type for node in onnx.load_from_string(content).graph.node]


def layer(kind, *, bias=True, **attributes):
    """A layer from 3 to 4 channels, and its constants."""
    shape = (4, 3, 2, 2) if kind == "Conv" else (4, 3) if attributes.get("transB") else (3, 4)
    constants = [constant("w", *shape), *([constant("b", 4)] if bias else [])]
    return lambda source, made: helper.make_node(
        kind, [source, "w", *(["b"] if bias else [])], [made], **attributes
    ), constants


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("first", ["norm", "layer"])
def test_batch_norms_beside_a_gemm_are_folded(first, transposed, bias):
    make, constants = layer("Gemm", bias=bias, transB=transposed)
    if first == "layer":
        batch_norm, own = norm("t", "y", 4)
        nodes = [make("x", "t"), batch_norm]
    else:
        batch_norm, own = norm("x", "t", 3)
        nodes = [batch_norm, make("t", "y")]
    content = model(nodes, [*constants, *own], (5, 3))
    folded = fold_batch_norm_onnx(content)
    assert kinds(folded) == ["Gemm"]
    assert len(onnx.load_from_string(folded).graph.initializer) == 2
    np.testing.assert_allclose(run(folded, (5, 3))[0], run(content, (5, 3))[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_a_batch_norm_in_front_of_a_convolution_is_folded(bias):
    make, constants = layer("Conv", bias=bias)
    batch_norm, own = norm("x", "t", 3)
    content = model([batch_norm, make("t", "y")], [*constants, *own], (1, 3, 6, 6))
    folded = fold_batch_norm_onnx(content)
    assert kinds(folded) == ["Conv"]
    shape = (1, 3, 6, 6)
    np.testing.assert_allclose(run(folded, shape)[0], run(content, shape)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attributes", [{"pads": [1, 1, 1, 1]}, {"auto_pad": "SAME_UPPER"}])
def test_padding_stands_in_the_way(attributes):
    make, constants = layer("Conv", **attributes)
    batch_norm, own = norm("x", "t", 3)
    content = model([batch_norm, make("t", "y")], [*constants, *own], (1, 3, 6, 6))
    assert fold_batch_norm_onnx(content) == content


def test_what_else_is_read_stays():
    make, constants = layer("Gemm")
    batch_norm, own = norm("x", "t", 3)
    content = model([batch_norm, make("t", "y")], [*constants, *own], (5, 3), outputs=("y", "t"))
    assert fold_batch_norm_onnx(content) == content


def test_onnxruntime_folds_those_behind_convolutions_itself(tmp_path):
    """This pass has nothing to do there: the engine's basic optimizations do it."""
    make, constants = layer("Conv")
    batch_norm, own = norm("t", "y", 4)
    content = model([make("x", "t"), batch_norm], [*constants, *own], (1, 3, 6, 6))
    assert fold_batch_norm_onnx(content) == content
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "basic.onnx")
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    assert kinds((tmp_path / "basic.onnx").read_bytes()) == ["Conv"]
