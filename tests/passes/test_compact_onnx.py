"""Compacting ONNX files: smaller, and the same numbers."""

from itertools import islice

import numpy as np
import onnx
import onnxruntime

from edgekit.passes.compact_onnx import _short_names, compact_onnx


def run(content, x):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def test_outputs_are_the_same_and_inner_names_gone(models):
    content = models.onnx_cnn.read_bytes()
    small = compact_onnx(content)
    x = np.random.default_rng(0).random((5, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(run(small, x), run(content, x))
    before, after = onnx.load_from_string(content).graph, onnx.load_from_string(small).graph
    assert len(small) < len(content)
    assert [value.name for value in after.input] == [value.name for value in before.input]
    assert [value.name for value in after.output] == [value.name for value in before.output]
    assert all(len(tensor.name) <= 2 for tensor in after.initializer)


def test_names_are_kept_where_wanted(models):
    content = models.onnx_cnn.read_bytes()
    before = onnx.load_from_string(content).graph
    after = onnx.load_from_string(compact_onnx(content, keep_names=True)).graph
    assert [list(node.output) for node in after.node] == [list(node.output) for node in before.node]


def test_inner_graphs_keep_their_names():
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    branch = helper.make_graph(
        [helper.make_node("Identity", ["outer_value"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", real, [1])],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Neg", ["x"], ["outer_value"]),
            helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch),
        ],
        "graph",
        [
            helper.make_tensor_value_info("x", real, [1]),
            helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", real, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(compact_onnx(model.SerializeToString()))
    values = session.run(None, {"x": np.float32([3]), "flag": np.array(True)})
    assert values[0].tolist() == [-3]


def test_short_names_are_short_and_never_twice():
    names = list(islice(_short_names(), 5000))
    assert len(set(names)) == 5000
    assert max(map(len, names)) == 3
    assert len(names[3000]) == 2
