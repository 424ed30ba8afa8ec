import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ModelError
from edgekit.passes.set_layout_onnx import set_layout_onnx

_TO_NHWC, _TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


def model(nodes, x=(1, 2, 4, 6), y=(1, 3, 4, 6), constants=()):
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", x), ("y", y))
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], list(constants))
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()


def run(content, x):
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def kinds(content):
    return [node.op_type for node in onnx.load_from_string(content).graph.node]


_WEIGHTS = numpy_helper.from_array(np.random.default_rng(0).normal(size=(3, 2, 1, 1)).astype(np.float32), "w")
_CHANNELS_FIRST = model(
    [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Conv", ["r", "w"], ["y"])],
    constants=[_WEIGHTS],
)
_CHANNELS_LAST = model(
    [
        helper.make_node("Transpose", ["x"], ["t"], perm=_TO_NCHW),
        helper.make_node("Conv", ["t", "w"], ["c"]),
        helper.make_node("Transpose", ["c"], ["y"], perm=_TO_NHWC),
    ],
    x=(1, 4, 6, 2),
    y=(1, 4, 6, 3),
    constants=[_WEIGHTS],
)


def test_images_lie_channels_last():
    change = set_layout_onnx(_CHANNELS_FIRST, "nhwc")
    assert change.moved == ("x", "y")
    x = np.random.default_rng(1).normal(size=(1, 2, 4, 6)).astype(np.float32)
    np.testing.assert_array_equal(
        run(change.model, x.transpose(_TO_NHWC)), run(_CHANNELS_FIRST, x).transpose(_TO_NHWC)
    )
    shapes = [[size.dim_value for size in value.type.tensor_type.shape.dim] for value in _ends(change.model)]
    assert shapes == [[1, 4, 6, 2], [1, 4, 6, 3]]


def _ends(content):
    graph = onnx.load_from_string(content).graph
    return [*graph.input, *graph.output]


def test_transpositions_of_the_converter_go():
    change = set_layout_onnx(_CHANNELS_LAST, "nchw")
    assert kinds(change.model) == ["Conv"]
    x = np.random.default_rng(1).normal(size=(1, 4, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(
        run(change.model, x.transpose(_TO_NCHW)), run(_CHANNELS_LAST, x).transpose(_TO_NCHW)
    )


def test_there_and_back_leaves_nothing_behind():
    there = set_layout_onnx(_CHANNELS_FIRST, "nhwc").model
    assert kinds(set_layout_onnx(there, "nchw").model) == ["Relu", "Conv"]


@pytest.mark.parametrize(("content", "layout"), [(_CHANNELS_FIRST, "nchw"), (_CHANNELS_LAST, "nhwc")])
def test_what_lies_so_already_is_returned_as_it_is(content, layout):
    assert set_layout_onnx(content, layout).model is content


def test_what_no_operator_tells_is_left_and_named():
    content = model([helper.make_node("Relu", ["x"], ["y"])], y=(1, 2, 4, 6))
    change = set_layout_onnx(content, "nhwc")
    assert (change.model, change.unknown) == (content, ("x", "y"))


def test_inner_graphs_are_refused():
    inner = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["z"])], "i", [], [helper.make_tensor_value_info("z", 1, None)]
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("If", ["b"], ["y"], then_branch=inner, else_branch=inner),
    ]
    condition = numpy_helper.from_array(np.array(True), "b")
    with pytest.raises(ModelError, match="conditions or loops") as caught:
        set_layout_onnx(model(nodes, constants=[_WEIGHTS, condition]), "nhwc")
    assert caught.value.code == "EK386"


def test_a_real_network(models):
    content = models.onnx_cnn.read_bytes()
    change = set_layout_onnx(content, "nchw")
    # tf2onnx writes the transposition of images of one channel as a reshape, which tells nothing.
    assert change.moved or change.unknown
