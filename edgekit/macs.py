"""Multiply-accumulate operations of an operator, from the shapes of what it reads and writes.

Each formula is the loop nest of the operator's definition: one multiply-accumulate per element of the output
and per element that is summed for it. Additions, comparisons and tables count as none, as is usual.
"""

import functools
import math
from collections.abc import Callable

from edgekit.artifact import Format
from edgekit.operators import Operand, Operator

_Formula = Callable[[Operator], int]


def macs(operator: Operator, format: Format) -> int | None:  # noqa: A002 - the noun's name
    """The number of multiply-accumulates, a free size counted as one; None where it is not known.

    Unknown are custom operators, operators that contain a graph of their own (loops, branches), a few whose
    sum depends on an attribute, and those whose shapes are not known before the model runs.
    """
    formula = _FORMULAS.get(operator.kind)
    if formula is None:
        return 0 if operator.kind in _without_macs(format) else None
    try:
        return formula(operator)
    except (IndexError, ZeroDivisionError, _ShapeUnknownError):
        return None


@functools.cache
def _without_macs(format: Format) -> frozenset[str]:  # noqa: A002
    """The standard operators that multiply and accumulate nothing."""
    if format is Format.TFLITE:
        from ai_edge_litert import schema_py_generated as schema

        names = {name for name in vars(schema.BuiltinOperator) if not name.startswith(("_", "STABLEHLO"))}
    else:
        from onnx import defs

        names = {entry.name for entry in defs.get_all_schemas()} | _OF_ONNX_RUNTIME
    return frozenset(names - _UNKNOWN)


class _ShapeUnknownError(Exception):
    """A shape that the formula needs is not known before the model runs."""


def _elements(operand: Operand) -> int:
    # No operator with a formula takes or gives scalars, and a shape that is not known is empty too.
    if operand.dtype == "unknown" or not operand.shape:
        raise _ShapeUnknownError
    return math.prod(size or 1 for size in operand.shape)


def _size(operand: Operand, axis: int) -> int:
    return operand.shape[axis] or 1


def _convolution(weights: int) -> _Formula:
    """Every output element sums over one filter: weights (out channels, filter..., in channels / groups)."""
    return lambda op: _elements(op.outputs[0]) * _elements(op.inputs[weights]) // _size(op.inputs[weights], 0)


def _transposed(source: int, weights: int, axis: int) -> _Formula:
    """Every input element is spread over one filter; ``axis`` is that of the input's channels."""
    return lambda op: (
        _elements(op.inputs[source]) * _elements(op.inputs[weights]) // _size(op.inputs[weights], axis)
    )


def _depthwise(op: Operator) -> int:
    """Every output element sums over one window: weights (1, height, width, channels)."""
    return _elements(op.outputs[0]) * _elements(op.inputs[1]) // _size(op.inputs[1], -1)


def _convolution_3d(op: Operator) -> int:
    """LiteRT's CONV_3D has weights (depth, height, width, in channels, out channels)."""
    return _elements(op.outputs[0]) * _elements(op.inputs[1]) // _size(op.inputs[1], -1)


def _product(op: Operator) -> int:
    """A matrix product (..., m, k) x (..., k, n), either side transposed or not: m n outputs of k each."""
    first, output = op.inputs[0], op.outputs[0]
    if len(first.shape) == 1:
        return _elements(output) * _elements(first)
    rows, columns = _size(first, -2), _size(first, -1)
    # A transposed first factor is (k, m): only the output tells which of the two is m.
    is_transposed = len(output.shape) >= 2 and _size(output, -2) == columns and columns != rows
    return _elements(output) * (rows if is_transposed else columns)


def _stored_product(activations: int) -> _Formula:
    """A product whose first factor is never transposed, (..., k) x (k, n)."""
    return lambda op: _elements(op.outputs[0]) * _size(op.inputs[activations], -1)


def _fully_connected(op: Operator) -> int:
    """Weights (n, k): every output element sums over k."""
    return _elements(op.outputs[0]) * _size(op.inputs[1], 1)


def _recurrence(op: Operator) -> int:
    """Every step multiplies each weight matrix by a vector.

    LiteRT has up to nine of them, (cells, inputs) or (cells, cells); ONNX has W (directions, gates, inputs)
    and R (directions, gates, cells).
    """
    steps = _elements(op.inputs[0]) // _size(op.inputs[0], -1)
    if len(op.inputs[1].shape) == 3:
        return steps * (_elements(op.inputs[1]) + _elements(op.inputs[2]))
    matrices = [operand for operand in op.inputs[1:] if operand.is_constant and len(operand.shape) == 2]
    return steps * sum(_elements(matrix) for matrix in matrices)


_FORMULAS: dict[str, _Formula] = {
    "CONV_2D": _convolution(1),
    "DEPTHWISE_CONV_2D": _depthwise,
    "CONV_3D": _convolution_3d,
    # Inputs: the output's shape, weights (out channels, height, width, in channels), the input.
    "TRANSPOSE_CONV": _transposed(2, 1, -1),
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _product,
    "LSTM": _recurrence,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _recurrence,
    "BIDIRECTIONAL_SEQUENCE_LSTM": _recurrence,
    "RNN": _recurrence,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _recurrence,
    "BIDIRECTIONAL_SEQUENCE_RNN": _recurrence,
    "SVDF": _recurrence,
    "Conv": _convolution(1),
    "FusedConv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed(0, 1, 0),
    "Gemm": _product,
    "FusedGemm": _product,
    "QGemm": _product,
    "MatMul": _stored_product(0),
    "FusedMatMul": _product,
    "MatMulInteger": _stored_product(0),
    "MatMulIntegerToFloat": _stored_product(0),
    "DynamicQuantizeMatMul": _stored_product(0),
    "QLinearMatMul": _stored_product(0),
    "MatMulNBits": _stored_product(0),
    "GRU": _recurrence,
    "DynamicQuantizeLSTM": _recurrence,
}

# Loops, branches and calls have graphs of their own; the sums of the others depend on attributes.
_UNKNOWN = frozenset(
    {"CUSTOM", "DELEGATE", "CALL", "IF", "WHILE", "RFFT2D", "If", "Loop", "Scan", "SequenceMap", "Einsum"}
    | {"DFT", "STFT", "Attention", "DeformConv", "LinearAttention"}
)

_OF_ONNX_RUNTIME = frozenset(
    {"QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearConcat"}
    | {"QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearReduceMean", "QLinearWhere"}
    | {"FastGelu", "BiasGelu", "QuickGelu", "SkipLayerNormalization", "SimplifiedLayerNormalization"}
)
