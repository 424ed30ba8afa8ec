"""Fold factors and summands of channels that stand behind a convolution of a float ``.tflite`` into its weights.

A batch norm becomes ``x * a + b`` when it is exported. Converters fold it into the layer in front; where they do not,
it stays as MUL and ADD with one number for each channel, and a quantizer rounds the layer's output twice more.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from edgekit import flatbuffer
from edgekit.passes import _graph
from edgekit.passes._layers_tflite import constant
from edgekit.passes._scaling_groups import Floats, Graph, Weighted, write_layer

_KINDS = frozenset({"MUL", "ADD", "SUB", "DIV"})
# These ask for their arguments in this order.
_ORDERED = frozenset({"SUB", "DIV"})


def fold_batch_norm(model: bytes) -> bytes:
    """Fold MUL, DIV, ADD and SUB by constants into the convolution or fully connected layer in front.

    Args:
        model: The bytes of a float file.

    Returns:
        The new file's bytes, or ``model`` itself where nothing is folded: what else reads the layer's output, or an
        activation function between, forbids it; ReLU lets positive factors through. Outputs differ by float rounding
        alone.

    Raises:
        ModelError: The file is unreadable or too large.
    """
    folded = 0

    def change(tree: flatbuffer.Model) -> None:
        nonlocal folded
        folded = _fold(tree)

    result = flatbuffer.rewrite(model, change)
    return result if folded else model


def _fold(tree: flatbuffer.Model) -> int:
    """Change the first subgraph; gives how many operators are gone."""
    graph = Graph(tree)
    layers = {layer.made: layer for layer in graph.layers.values()}
    outputs = set(_graph.numbers(graph.graph.outputs))
    gone: list[int] = []
    for position, source, number in [] if _graph.has_fixed_order(tree) else _by_constants(graph):
        layer = layers.get(source)
        if layer is None or source in outputs or len(graph.readers[source]) > 1:
            continue
        kind, function = graph.kinds[position], _joined(layer.activation, graph.activation(position), number)
        if function is None or (layer.activation != "NONE" and kind in {"ADD", "SUB"}):
            continue
        del layers[source]
        made = int(graph.operators[position].outputs[0])
        layers[made] = replace(_with(layer, kind, number), made=made, activation=function)
        gone.append(position)
    for layer in layers.values():
        if layer is not graph.layers[layer.position]:
            write_layer(tree, layer)
    _graph.remove_operators(tree, 0, [graph.operators[position] for position in gone])
    return len(gone)


def _joined(first: str, second: str, factors: Floats) -> str | None:
    """The activation function that does what two do with factors between them; None where no single one does."""
    if first == "NONE":
        return None if second == "unknown" else second
    return first if first == "RELU" and second in {"NONE", "RELU"} and (factors > 0).all() else None


def _by_constants(graph: Graph) -> Iterator[tuple[int, int, Floats]]:
    """Operators that do the same to every value of a channel: position, the tensor read, and a number for each."""
    for position, (operator, kind) in enumerate(zip(graph.operators, graph.kinds, strict=True)):
        if kind not in _KINDS:
            continue
        first, second = _graph.numbers(operator.inputs)
        pairs = [(first, second)] if kind in _ORDERED else [(first, second), (second, first)]
        for source, other in pairs:
            values = constant(graph.tree, other)
            if values is None or not graph.is_real(source):
                continue
            shape = graph.shape(source)
            is_per_channel = values.size == 1 or (values.size == shape[-1] == values.shape[-1])
            if kind == "DIV" and not values.all():
                continue
            if is_per_channel and shape == graph.shape(operator.outputs[0]):
                yield position, source, np.broadcast_to(values.ravel(), shape[-1:])


def _with(layer: Weighted, kind: str, number: Floats) -> Weighted:
    bias = np.zeros(layer.weights.shape[-1]) if layer.bias is None else layer.bias
    if kind in {"ADD", "SUB"}:
        return replace(layer, bias=bias + number if kind == "ADD" else bias - number)
    factor = number if kind == "MUL" else 1 / number
    return replace(layer, weights=layer.weights * factor, bias=bias * factor)
