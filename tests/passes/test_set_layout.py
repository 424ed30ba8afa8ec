import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit import flatbuffer
from edgekit.passes.set_layout import set_layout

_ORDERS = {"to_nhwc": [0, 2, 3, 1], "to_nchw": [0, 3, 1, 2]}


@pytest.fixture
def image_model(made):
    """``y = pool(relu(x))`` on images (1, 2, 4, 6) that lie channels first, as converters from PyTorch write it."""
    x = made.tensor("x", "float32", (1, 2, 4, 6))
    lying = made.tensor("lying", "float32", (1, 4, 6, 2))
    pooled = made.tensor("pooled", "float32", (1, 2, 3, 2))
    y = made.tensor("y", "float32", (1, 2, 2, 3))
    orders = {name: made.tensor(name, "int32", (4,), values=order) for name, order in _ORDERS.items()}
    made.graph.inputs, made.graph.outputs = [x], [y]
    made.operator("TRANSPOSE", [x, orders["to_nhwc"]], [lying], schema.TransposeOptionsT())
    pool = schema.Pool2DOptionsT(padding=1, strideW=2, strideH=2, filterWidth=2, filterHeight=2)
    made.operator("MAX_POOL_2D", [lying], [pooled], pool)
    made.operator("TRANSPOSE", [pooled, orders["to_nchw"]], [y], schema.TransposeOptionsT())
    made.signature({"image": x}, {"pooled": y})
    return made.bytes()


def kinds(model):
    tree = flatbuffer.read(model)
    return [tree.operatorCodes[operator.opcodeIndex].builtinCode for operator in tree.subgraphs[0].operators]


def test_transpositions_of_the_converter_go(image_model, run_tflite):
    change = set_layout(image_model, "nhwc")
    assert change.moved == ("image", "pooled")
    assert kinds(change.model) == [schema.BuiltinOperator.MAX_POOL_2D]
    x = np.random.default_rng(1).normal(size=(1, 2, 4, 6)).astype(np.float32)
    before = run_tflite(image_model, x)[0]
    after = run_tflite(change.model, x.transpose(_ORDERS["to_nhwc"]))[0]
    np.testing.assert_array_equal(after, before.transpose(_ORDERS["to_nhwc"]))


def test_there_and_back_is_the_same_function(image_model, run_tflite):
    back = set_layout(set_layout(image_model, "nhwc").model, "nchw")
    assert back.moved == ("image", "pooled")
    x = np.random.default_rng(1).normal(size=(1, 2, 4, 6)).astype(np.float32)
    np.testing.assert_array_equal(run_tflite(back.model, x)[0], run_tflite(image_model, x)[0])


def test_what_lies_so_already_is_returned_as_it_is(image_model, models):
    assert set_layout(image_model, "nchw").model is image_model
    content = models.tflite_cnn.read_bytes()
    assert set_layout(content, "nhwc").model is content


@pytest.mark.parametrize("name", ["tflite_cnn", "tflite_cnn_int8", "tflite_cnn_dynamic_batch"])
def test_a_real_network_takes_its_images_channels_first(models, run_tflite, name):
    before = getattr(models, name).read_bytes()
    change = set_layout(before, "nchw")
    assert len(change.moved) == 1
    tensor = (
        flatbuffer.read(change.model)
        .subgraphs[0]
        .tensors[flatbuffer.read(change.model).subgraphs[0].inputs[0]]
    )
    assert list(tensor.shape) == [1, 1, 8, 8]
    dtype = np.int8 if "int8" in name else np.float32
    x = np.random.default_rng(0).integers(0, 2, (1, 8, 8, 1)).astype(dtype)
    np.testing.assert_array_equal(
        run_tflite(change.model, x.transpose(_ORDERS["to_nchw"]))[0], run_tflite(before, x)[0]
    )


def test_what_no_operator_tells_is_left_and_named(made):
    x = made.tensor("x", "float32", (1, 2, 4, 6))
    y = made.tensor("y", "float32", (1, 2, 4, 6))
    made.graph.inputs, made.graph.outputs = [x], [y]
    made.operator("RELU", [x], [y])
    content = made.bytes()
    change = set_layout(content, "nhwc")
    assert change.model is content
    assert change.unknown == ("x", "y")


def test_an_image_that_is_only_transposed(made, run_tflite):
    """Input and output lie in different layouts; afterwards nothing is left to do."""
    x = made.tensor("x", "float32", (1, 2, 4, 6))
    y = made.tensor("y", "float32", (1, 4, 6, 2))
    order = made.tensor("order", "int32", (4,), values=_ORDERS["to_nhwc"])
    made.graph.inputs, made.graph.outputs = [x], [y]
    made.operator("TRANSPOSE", [x, order], [y], schema.TransposeOptionsT())
    change = set_layout(made.bytes(), "nhwc")
    image = np.random.default_rng(1).normal(size=(1, 4, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(run_tflite(change.model, image)[0], image)
