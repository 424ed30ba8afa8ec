"""Multiply-accumulates against numbers worked out by hand from the operators' definitions."""

import pytest

from edgekit.artifact import Format
from edgekit.macs import macs
from edgekit.operators import Operand, Operator


def value(*shape, dtype="float32"):
    return Operand("v", shape, dtype)


def weights(*shape):
    return Operand("w", shape, "float32", is_constant=True)


def operator(kind, inputs, *outputs):
    return Operator(kind, ("n",), tuple(inputs), outputs)


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "expected"),
    [
        # 16 x 16 positions of 8 filters, each 3 x 3 x 4.
        ("CONV_2D", [value(1, 32, 32, 4), weights(8, 3, 3, 4)], value(1, 16, 16, 8), 16 * 16 * 8 * 36),
        # Two groups: each of the 8 filters sees 2 of the 4 channels.
        ("CONV_2D", [value(1, 16, 16, 4), weights(8, 3, 3, 2)], value(1, 16, 16, 8), 16 * 16 * 8 * 18),
        ("DEPTHWISE_CONV_2D", [value(1, 8, 8, 5), weights(1, 3, 3, 5)], value(1, 8, 8, 5), 8 * 8 * 5 * 9),
        # Depth multiplier 2: five channels become ten.
        ("DEPTHWISE_CONV_2D", [value(1, 8, 8, 5), weights(1, 3, 3, 10)], value(1, 8, 8, 10), 8 * 8 * 10 * 9),
        ("FULLY_CONNECTED", [value(1, 64), weights(10, 64)], value(1, 10), 640),
        # Every one of 4 x 4 x 6 inputs is spread over 2 x 2 positions of 3 channels.
        (
            "TRANSPOSE_CONV",
            [Operand("s", (4,), "int32", is_constant=True), weights(3, 2, 2, 6), value(1, 4, 4, 6)],
            value(1, 8, 8, 3),
            4 * 4 * 6 * 4 * 3,
        ),
        # Output 5 x 5 x 5 of 7 channels, each a sum over 2 x 2 x 2 x 3.
        ("CONV_3D", [value(1, 6, 6, 6, 3), weights(2, 2, 2, 3, 7)], value(1, 5, 5, 5, 7), 125 * 7 * 24),
        ("BATCH_MATMUL", [value(4, 5, 7), value(4, 7, 3)], value(4, 5, 3), 4 * 5 * 7 * 3),
        # The same product with its first factor stored transposed.
        ("BATCH_MATMUL", [value(4, 7, 5), value(4, 7, 3)], value(4, 5, 3), 4 * 5 * 7 * 3),
        # 28 steps; input weights (20, 28) and recurrent weights (20, 20), four gates each.
        (
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            [value(1, 28, 28), *[weights(20, 28)] * 4, *[weights(20, 20)] * 4, weights(20), value(1, 20)],
            value(1, 28, 20),
            28 * 4 * (20 * 28 + 20 * 20),
        ),
        ("SVDF", [value(1, 16), weights(8, 16), weights(8, 10), weights(8), value(1, 80)], value(1, 8), 208),
    ],
)
def test_litert_operators(kind, inputs, output, expected):
    assert macs(operator(kind, inputs, output), Format.TFLITE) == expected


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "expected"),
    [
        ("Conv", [value(1, 4, 32, 32), weights(8, 4, 3, 3)], value(1, 8, 16, 16), 16 * 16 * 8 * 36),
        ("Conv", [value(1, 4, 100), weights(4, 1, 5)], value(1, 4, 96), 96 * 4 * 5),
        (
            "QLinearConv",
            [value(1, 4, 8, 8), value(), value(), weights(8, 4, 1, 1), value()],
            value(1, 8, 8, 8),
            64 * 8 * 4,
        ),
        # Weights (in channels, out channels, height, width).
        ("ConvTranspose", [value(1, 6, 4, 4), weights(6, 3, 2, 2)], value(1, 3, 8, 8), 4 * 4 * 6 * 4 * 3),
        ("Gemm", [value(2, 64), weights(64, 10)], value(2, 10), 2 * 640),
        ("Gemm", [value(64, 2), weights(64, 10)], value(2, 10), 2 * 640),
        ("MatMul", [value(2, 5, 7), weights(7, 3)], value(2, 5, 3), 2 * 5 * 7 * 3),
        ("MatMulNBits", [value(1, 9, 64), weights(32, 2, 16)], value(1, 9, 32), 9 * 64 * 32),
        # 28 steps of a batch of 1; W (1, 4 x 20, 28), R (1, 4 x 20, 20).
        ("LSTM", [value(28, 1, 28), weights(1, 80, 28), weights(1, 80, 20)], value(28, 1, 1, 20), 28 * 3840),
        ("GRU", [value(7, 1, 3), weights(2, 12, 3), weights(2, 12, 4)], value(7, 2, 1, 4), 7 * 2 * 12 * 7),
    ],
)
def test_onnx_operators(kind, inputs, output, expected):
    assert macs(operator(kind, inputs, output), Format.ONNX) == expected


def test_a_free_size_counts_as_one():
    dense = operator("FULLY_CONNECTED", [value(None, 64), weights(10, 64)], value(None, 10))
    assert macs(dense, Format.TFLITE) == 640


@pytest.mark.parametrize(("kind", "form"), [("ADD", Format.TFLITE), ("Relu", Format.ONNX)])
def test_elementwise_operators_have_none(kind, form):
    assert macs(operator(kind, [value(1, 8)], value(1, 8)), form) == 0


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("WHILE", Format.TFLITE),
        ("FlexAngle", Format.TFLITE),
        ("STABLEHLO_CONVOLUTION", Format.TFLITE),
        ("Loop", Format.ONNX),
        ("Einsum", Format.ONNX),
        ("SpinGlass", Format.ONNX),
    ],
)
def test_what_is_not_known_is_not_zero(kind, form):
    assert macs(operator(kind, [value(1, 8)], value(1, 8)), form) is None


def test_unknown_shapes_give_no_number():
    lost = operator("Conv", [value(1, 4, 8, 8), weights(8, 4, 3, 3)], value(dtype="unknown"))
    assert macs(lost, Format.ONNX) is None
    scalar = operator("Conv", [value(1, 4, 8, 8), weights(8, 4, 3, 3)], value())
    assert macs(scalar, Format.ONNX) is None
