"""Write ``x + (-y)`` as ``x - y``, for NEG has no int8 kernel: quantizers leave it float between two conversions.

LayerNorm is exported so: ``x * inv + (beta - mean * inv)`` begins with NEG(mean). The sign is handed on through
products until a sum or a difference takes it.
"""

from typing import Any

from edgekit import flatbuffer
from edgekit.passes import _graph
from edgekit.passes._scaling_groups import Graph

_PRODUCTS = frozenset({"MUL", "DIV"})
# With another sign of one argument: x + (-y) = x - y, x - (-y) = x + y. (-x) + y = y - x changes their order.
_OPPOSITE = {"ADD": "SUB", "SUB": "ADD"}


def subtract(model: bytes) -> bytes:
    """Take NEG out of a float file where a sum, a difference or a product behind it can take the sign.

    Args:
        model: The bytes of a float file.

    Returns:
        The new file's bytes, or ``model`` itself where there is no such NEG. The outputs are the same bit for bit.

    Raises:
        ModelError: The file is unreadable or too large.
    """
    taken = 0

    def change(tree: flatbuffer.Model) -> None:
        nonlocal taken
        taken = 0 if _graph.has_fixed_order(tree) else _take(tree)

    result = flatbuffer.rewrite(model, change)
    return result if taken else model


def _take(tree: flatbuffer.Model) -> int:
    graph = Graph(tree)
    outputs = set(_graph.numbers(graph.graph.outputs))
    gone = []
    for operator, kind in zip(graph.operators, graph.kinds, strict=True):
        if kind != "NEG" or operator.outputs[0] in outputs:
            continue
        made, source = int(operator.outputs[0]), int(operator.inputs[0])
        last = _taker(graph, made, outputs)
        if last is None:
            continue
        position, argument = last
        readers = graph.readers[made]
        _change_sign(tree, graph.operators[position], graph.kinds[position], argument)
        graph.kinds[position] = _OPPOSITE[graph.kinds[position]]
        for reader in readers:
            inputs = _graph.numbers(graph.operators[reader].inputs)
            graph.operators[reader].inputs = [source if index == made else index for index in inputs]
        graph.readers.setdefault(source, []).extend(readers)
        gone.append(operator)
    _graph.remove_operators(tree, 0, gone)
    return len(gone)


def _taker(graph: Graph, index: int, outputs: set[int]) -> tuple[int, int] | None:
    """The sum or difference that a sign reaches through products, and as which argument."""
    while True:
        readers = graph.readers.get(index, [])
        if len(readers) != 1 or index in outputs:
            return None
        operator, kind = graph.operators[readers[0]], graph.kinds[readers[0]]
        inputs = _graph.numbers(operator.inputs)
        if inputs.count(index) != 1:
            return None
        if kind in _OPPOSITE:
            argument = inputs.index(index)
            # (-x) - y is the opposite of a sum, which nothing takes for nothing.
            return None if kind == "SUB" and argument == 0 else (readers[0], argument)
        if kind not in _PRODUCTS or graph.activation(readers[0]) != "NONE":
            return None
        index = int(operator.outputs[0])


def _change_sign(tree: flatbuffer.Model, operator: Any, kind: str, argument: int) -> None:
    """Make a difference of a sum, or the other way round."""
    from ai_edge_litert import schema_py_generated as schema

    codes = {"ADD": schema.BuiltinOperator.ADD, "SUB": schema.BuiltinOperator.SUB}
    options = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT}[_OPPOSITE[kind]]()
    before = operator.builtinOptions
    options.fusedActivationFunction = getattr(before, "fusedActivationFunction", 0)
    options.potScaleInt16 = bool(getattr(before, "potScaleInt16", False))
    operator.builtinOptions = options
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
    version = tree.operatorCodes[operator.opcodeIndex].version
    operator.opcodeIndex = _graph.operator_code(tree, codes[_OPPOSITE[kind]], version)
    if kind == "ADD" and argument == 0:
        operator.inputs = _graph.numbers(operator.inputs)[::-1]
