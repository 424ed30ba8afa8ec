import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit import flatbuffer
from edgekit.passes.compact import compact
from edgekit.passes.pointwise import pointwise

# (2 outputs, 3 inputs), all within -8..7.
_WEIGHTS = np.array([[1, -2, 3], [7, 0, -8]], np.int8)


def convolution(made, *, stride=1, window=1, scales=1, dtype="int4"):
    """relu(conv(x) + bias) over an image of 2x2 with 3 channels, every number a whole one."""
    x = made.tensor("x", "int8", (1, 2, 2, 3), scale=1.0)
    weights = made.tensor("w", "int8", (2, window, window, 3), scale=1.0, values=np.zeros(6 * window**2))
    data = np.tile(_WEIGHTS.reshape(2, 1, 3), (1, window**2, 1)).ravel()
    if dtype == "int4":
        nibbles = data.view(np.uint8) & 15
        made.graph.tensors[weights].type = schema.TensorType.INT4
        data = nibbles[::2] | (nibbles[1::2] << 4)
    made.tree.buffers[-1].data = data.view(np.uint8)
    made.graph.tensors[weights].quantization.scale = [1.0] * scales
    made.graph.tensors[weights].quantization.zeroPoint = [0] * scales
    bias = made.tensor("b", "int32", (2,), scale=1.0, values=[5, -6])
    made.graph.tensors[bias].quantization.scale = [1.0] * scales
    made.graph.tensors[bias].quantization.zeroPoint = [0] * scales
    side = (2 - window) // stride + 1
    y = made.tensor("y", "int8", (1, side, side, 2), scale=1.0)
    made.graph.inputs, made.graph.outputs = [x], [y]
    options = schema.Conv2DOptionsT(
        padding=schema.Padding.VALID,
        strideH=stride,
        strideW=stride,
        fusedActivationFunction=schema.ActivationFunctionType.RELU,
        dilationHFactor=1,
        dilationWFactor=1,
    )
    made.operator("CONV_2D", [x, weights, bias], [y], options, version=5)
    return made.bytes()


def kinds(model):
    tree = flatbuffer.read(model)
    return [tree.operatorCodes[one.opcodeIndex].builtinCode for one in tree.subgraphs[0].operators]


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("scales", [1, 2])
def test_a_convolution_of_one_pixel_is_a_product_of_the_same_numbers(made, run_tflite, scales, reference):
    before = convolution(made, scales=scales)
    after = pointwise(before)
    assert kinds(after) == [schema.BuiltinOperator.FULLY_CONNECTED]
    tree = flatbuffer.read(compact(after))
    assert [code.version for code in tree.operatorCodes] == [12 if scales > 1 else 10]
    assert next(list(one.shape) for one in tree.subgraphs[0].tensors if one.type == 17) == [2, 3]
    x = np.arange(-6, 6, dtype=np.int8).reshape(1, 2, 2, 3)
    expected = np.clip(x.astype(int) @ _WEIGHTS.T.astype(int) + [5, -6], 0, 127)
    for model in (before, after):
        np.testing.assert_array_equal(run_tflite(model, x, reference=reference)[0], expected)


@pytest.mark.parametrize("fields", [{"stride": 2}, {"window": 2}, {"dtype": "int8"}], ids=str)
def test_other_convolutions_stay(made, fields):
    before = convolution(made, **fields)
    assert pointwise(before) is before


def test_weights_that_another_operator_reads_keep_their_shape(made):
    convolution(made)
    first = made.graph.operators[0]
    made.graph.tensors.append(made.graph.tensors[first.outputs[0]])
    options = schema.Conv2DOptionsT(strideH=2, strideW=2, dilationHFactor=1, dilationWFactor=1)
    made.operator("CONV_2D", first.inputs, [len(made.graph.tensors) - 1], options, version=5)
    before = made.bytes()
    assert pointwise(before) is before
