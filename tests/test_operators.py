"""One vocabulary for the operators of both formats."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.artifact import Format
from edgekit.operators import Operand, Operator, operators


def by_kind(path, file_format):
    return {operator.kind: operator for operator in operators(path, file_format)}


def test_tflite_operators_with_their_weights(models):
    found = by_kind(models.tflite_cnn, Format.TFLITE)
    dense = found["FULLY_CONNECTED"]
    assert [operand.shape[0] for operand in dense.weights] == [10]
    assert dense.is_float
    assert dense.has_float_weights
    assert not found["SOFTMAX"].weights


def test_quantized_tflite_operators_are_no_float_ones(models):
    for operator in operators(models.tflite_cnn_int8, Format.TFLITE):
        assert not operator.is_float
        assert not operator.has_float_weights


@pytest.fixture
def qdq(tmp_path):
    """MatMul between quantize-dequantize pairs, and an Exp and an Add in float."""
    scale, point = ("scale", "point")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", scale, point], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", scale, point], ["xr"]),
        helper.make_node("DequantizeLinear", ["w", scale, point], ["wr"]),
        helper.make_node("MatMul", ["xr", "wr"], ["h"], name="product"),
        helper.make_node("QuantizeLinear", ["h", scale, point], ["hq"]),
        helper.make_node("DequantizeLinear", ["hq", scale, point], ["hr"]),
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("Add", ["hr", "e"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "qdq",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [
            numpy_helper.from_array(np.ones((4, 4), np.int8), "w"),
            numpy_helper.from_array(np.float32(0.1), scale),
            numpy_helper.from_array(np.int8(0), point),
        ],
    )
    path = tmp_path / "qdq.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_onnx_tensors_between_conversions_count_as_their_integers(qdq):
    found = by_kind(qdq, Format.ONNX)
    product = found["MatMul"]
    assert [operand.dtype for operand in (*product.inputs, *product.outputs)] == ["int8", "int8", "int8"]
    assert product.has_integer_weights
    assert not product.is_float
    assert "product" in product.names
    assert found["Exp"].is_float
    assert found["QuantizeLinear"].is_conversion


def test_constants_of_an_addition_are_no_weights_to_quantize():
    constant = Operand("c", (1, 4), "float32", is_constant=True, size_bytes=16)
    activation = Operand("x", (1, 4), "float32")
    assert not Operator("ADD", ("y",), (activation, constant), (activation,)).has_float_weights
    assert Operator("FULLY_CONNECTED", ("y",), (activation, constant), (activation,)).has_float_weights


def test_formats_without_operators_are_refused(models):
    with pytest.raises(ValueError, match="keras"):
        operators(models.keras_cnn, Format.KERAS)
