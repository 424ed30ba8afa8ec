"""Tensors paired by what their operators read: whatever a converter did to names and to the order of operators."""

from collections import Counter

import numpy as np

from edgekit.debugging.graph import Graph, Value

# For each tensor of B, by its key, its partner in A and how it was found.
Found = dict[str, tuple[str, str]]

# Converters compute these into the weights of the operator before them, or fuse them with it.
_FOLDED = frozenset({"Add", "Sub", "Mul", "Div", "BatchNormalization"} | {"ADD", "SUB", "MUL", "DIV"})
_FUSED = frozenset({"RELU", "RELU6", "RELU_N1_TO_1"})
# ONNX quantizers leave these out where the range of the QuantizeLinear behind them cuts off the same.
CLIPS = frozenset({"Relu", "Clip"})

# These move values or put zeros around them, and converters replace some of them by others.
_MOVES = frozenset(
    {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Pad"}
    | {"RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "PAD", "PADV2"}
)


def likeness(value: Value) -> tuple[str, tuple[int | None, ...]]:
    """What two versions of an operator have in common; the batch may be free in one alone."""
    return value.kind.removeprefix("QLinear"), value.shape[1:]


def is_passive(value: Value) -> bool:
    """Whether a converter may make an operator a part of the one before it."""
    return value.kind in CLIPS | _FUSED or (value.kind in _FOLDED and len(value.inputs) == 1)


def by_graph(a: Graph, b: Graph, known: Found) -> Found:
    """Pair operators of one kind and shape that read paired tensors, beginning at the pairs that are known.

    What a converter may have made a part of the operator before it is looked through. Of several operators that read
    the same, the one whose constants are most alike is taken: parallel branches may come in another order.
    """
    bases_a, bases_b = _bases(a), _bases(b)
    taken = {partner for partner, _ in known.values()}
    waiting: dict[object, list[Value]] = {}
    for value in a.values:
        if not value.is_conversion and value.key not in taken:
            waiting.setdefault(likeness(value), []).append(value)
    reads = {value.key: Counter(bases_a.get(key, key) for key in value.inputs) for value in a.values}
    partners = {bases_b[key]: bases_a[partner] for key, (partner, _) in known.items()}
    found: Found = {}
    for value in b.values:
        if value.is_conversion or value.key in known:
            continue
        sources = [partners.get(bases_b.get(key, key)) for key in value.inputs]
        certain = Counter(source for source in sources if source is not None)
        alike = waiting.get(likeness(value), [])
        fitting = [
            one for one in alike if reads[one.key].total() == len(sources) and certain <= reads[one.key]
        ]
        # Where a source has no partner, only a single candidate can be trusted.
        if not certain or not fitting or (None in sources and len(fitting) > 1):
            continue
        best = fitting[0] if len(fitting) == 1 else max(fitting, key=lambda one: _alike(a, one, b, value))
        alike.remove(best)
        found[value.key] = (best.key, "graph")
        partners.setdefault(bases_b[value.key], bases_a[best.key])
    return found


def _bases(graph: Graph) -> dict[str, str]:
    """What each tensor comes from, once conversions, moves and passive operators are looked through."""
    bases: dict[str, str] = {}
    hidden = [item.value for item in graph.hidden if item.value is not None]
    # Hidden tensors stand apart from the others, and may come from any of them: they are their own base.
    bases.update({value.key: value.key for value in hidden})
    for value in graph.values:
        looked_through = value.is_conversion or is_passive(value) or value.kind in _MOVES
        bases[value.key] = (
            bases.get(value.inputs[0], value.inputs[0]) if value.inputs and looked_through else value.key
        )
    return bases


def _alike(a: Graph, one: Value, b: Graph, other: Value) -> float:
    """How much the constants of two operators resemble each other, the scales of integers aside."""
    return sum(
        _correlation(a, one.weights[place].key, b, weight.key)
        for place, weight in other.weights.items()
        if place in one.weights and one.weights[place].shape == weight.shape
    )


def _correlation(a: Graph, key_a: str, b: Graph, key_b: str) -> float:
    first, second = (
        np.ravel(graph.constant(key)).astype(np.float64) for graph, key in ((a, key_a), (b, key_b))
    )
    if np.array_equal(first, second):
        return 1.0
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / norm if norm > 0 else 0.0
