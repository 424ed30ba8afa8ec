"""Take conversions of numbers that change nothing out of a quantized ``.tflite``.

Quantizers put a DEQUANTIZE behind one layer and a QUANTIZE in front of the next, or requantize a tensor, where both
sides turn out to have the same scale and zero point.
"""

from typing import Any

import numpy as np

from edgekit import flatbuffer
from edgekit.passes import _graph


def drop_conversions(model: bytes) -> bytes:
    """Take out QUANTIZE of what has the wanted scale already, directly or through a DEQUANTIZE.

    A float number that is quantized and made float again is left alone: that rounds it.

    Args:
        model: The file's bytes.

    Returns:
        The new file's bytes, or ``model`` itself where nothing is to be dropped. Outputs are the same bit for bit.

    Raises:
        ModelError: The file is unreadable or too large.
    """
    dropped = 0

    def change(tree: flatbuffer.Model) -> None:
        nonlocal dropped
        if not _graph.has_fixed_order(tree):
            dropped = sum(_drop(tree, index) for index in range(len(tree.subgraphs)))

    result = flatbuffer.rewrite(model, change)
    return result if dropped else model


def _drop(tree: flatbuffer.Model, graph_index: int) -> int:
    from ai_edge_litert import schema_py_generated as schema

    graph = tree.subgraphs[graph_index]
    operators = list(graph.operators if graph.operators is not None else ())
    kinds = [_graph.builtin_of(tree.operatorCodes[operator.opcodeIndex]) for operator in operators]
    widened = {
        int(operator.outputs[0]): int(operator.inputs[0])
        for operator, kind in zip(operators, kinds, strict=True)
        if kind == schema.BuiltinOperator.DEQUANTIZE
    }
    ends = {*_graph.numbers(graph.inputs), *_graph.numbers(graph.outputs)}
    same: dict[int, int] = {}
    gone = []
    for operator, kind in zip(operators, kinds, strict=True):
        operator.inputs = [same.get(index, index) for index in _graph.numbers(operator.inputs)]
        if kind != schema.BuiltinOperator.QUANTIZE:
            continue
        source, made = int(operator.inputs[0]), int(operator.outputs[0])
        source = same.get(widened.get(source, source), widened.get(source, source))
        if made not in ends and _is_alike(graph.tensors[source], graph.tensors[made]):
            same[made] = source
            gone.append(operator)
    kept = [operator for operator in operators if not any(operator is one for one in gone)]
    read = {index for operator in kept for index in _graph.numbers(operator.inputs)}
    idle = [
        operator
        for operator, kind in zip(operators, kinds, strict=True)
        if kind == schema.BuiltinOperator.DEQUANTIZE and operator.outputs[0] not in read | ends
    ]
    if gone:
        _graph.remove_operators(tree, graph_index, [*gone, *idle])
    return len(gone)


def _is_alike(one: Any, other: Any) -> bool:
    """Whether equal integers in both tensors stand for equal numbers."""
    tables = [tensor.quantization for tensor in (one, other)]
    if one.type != other.type or any(table is None or table.scale is None for table in tables):
        return False
    return all(
        np.array_equal(getattr(tables[0], name), getattr(tables[1], name)) for name in ("scale", "zeroPoint")
    )
