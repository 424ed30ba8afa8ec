"""Let a maximum pad with the least value that can be there, where a converter pads with the least of all numbers.

Converters write a padded max pooling as PADV2 with -3.4e38 (or minus infinity) and a MAX_POOL_2D. Quantizers take that
number for a value of the tensor: its scale becomes 1e36, and so does that of every tensor that shares it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgekit import flatbuffer
from edgekit.passes import _graph

# What no activation reaches, and every stand-in for minus infinity exceeds: that of float16 is -65504.
_LEAST = -60_000.0
# The least value that an activation gives, rounded down: GELU and SiLU have theirs at -0.751 and -1.278.
_BOUNDS = {
    "RELU": 0.0, "RELU6": 0.0, "RELU_0_TO_1": 0.0, "LOGISTIC": 0.0, "SOFTMAX": 0.0, "ABS": 0.0, "SQUARE": 0.0,
    "RELU_N1_TO_1": -1.0, "TANH": -1.0, "ELU": -1.0, "HARD_SWISH": -0.375, "GELU": -0.171,
}  # fmt: skip
_SILU = -0.279
# What gives only values that it reads, or means of them.
_KEEPING = frozenset({"MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "TRANSPOSE", "CONCATENATION"})


def bound_pads(model: bytes) -> bytes:
    """Pad every MAX_POOL_2D with the bound of what it pools, where the operators before tell one.

    Args:
        model: The bytes of a float file.

    Returns:
        The new file's bytes, or ``model`` itself where nothing is padded so. The outputs are the same bit for bit: a
        window has at least one value of the image, and none is less than what is put beside it.

    Raises:
        ModelError: The file is unreadable or too large.
    """
    found = 0

    def change(tree: flatbuffer.Model) -> None:
        nonlocal found
        for graph in tree.subgraphs:
            found += _rewrite(tree, _Bounds(tree, graph))

    result = flatbuffer.rewrite(model, change)
    return result if found else model


class _Bounds:
    """The least value of tensors of one subgraph, from what writes them."""

    def __init__(self, tree: flatbuffer.Model, graph: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.graph = graph
        kinds = vars(schema.BuiltinOperator).items()
        self._kinds: dict[int, str] = {number: name for name, number in kinds if name.isupper()}
        self._activations = {
            number: name for name, number in vars(schema.ActivationFunctionType).items() if name.isupper()
        }
        self._tree = tree
        self._writers = {
            index: operator for operator in self.operators for index in _graph.numbers(operator.outputs)
        }
        self._known: dict[int, float | None] = {}

    @property
    def operators(self) -> list[Any]:
        """Those of the subgraph."""
        return list(self.graph.operators if self.graph.operators is not None else ())

    def kind(self, operator: Any) -> str:
        """The name of an operator, ``"PADV2"``."""
        return self._kinds[_graph.builtin_of(self._tree.operatorCodes[operator.opcodeIndex])]

    def of(self, index: int) -> float | None:
        """No value of a tensor is less than that; None where nothing tells."""
        if index not in self._known:
            self._known[index] = None  # while it is looked for, and in a loop
            operator = self._writers.get(index)
            self._known[index] = None if operator is None else self._of(operator)
        return self._known[index]

    def _of(self, operator: Any) -> float | None:
        kind = self.kind(operator)
        fused = self._activations.get(getattr(operator.builtinOptions, "fusedActivationFunction", 0), "NONE")
        bound = _BOUNDS.get(kind, _BOUNDS.get(fused))
        if bound is not None:
            return bound
        inputs = _graph.numbers(operator.inputs)
        if kind == "MUL":
            return _SILU if self._is_silu(inputs) else None
        if kind == "PADV2" and self._pads_least(operator):
            return self.of(inputs[0])
        if kind not in _KEEPING:
            return None
        bounds = [self.of(index) for index in inputs if not self._is_stored(index)]
        known = [bound for bound in bounds if bound is not None]
        return min(known) if known and len(known) == len(bounds) else None

    def _is_silu(self, inputs: list[int]) -> bool:
        """Whether one factor is the sigmoid of the other."""
        return any(
            (writer := self._writers.get(one)) is not None
            and self.kind(writer) == "LOGISTIC"
            and _graph.numbers(writer.inputs) == [other]
            for one, other in (inputs, inputs[::-1])
        )

    def _pads_least(self, operator: Any) -> bool:
        from ai_edge_litert import schema_py_generated as schema

        index = operator.inputs[2]
        is_float = self.graph.tensors[index].type == schema.TensorType.FLOAT32
        return is_float and self._is_stored(index) and bool(self._stored(index).view(np.float32)[0] < _LEAST)

    def _is_stored(self, index: int) -> bool:
        return len(self._stored(index)) > 0

    def _stored(self, index: int) -> Any:
        data = self._tree.buffers[self.graph.tensors[index].buffer].data
        return np.frombuffer(b"" if data is None else bytes(data), np.uint8)

    def pads(self) -> Iterator[tuple[Any, float]]:
        """The operators that pad for a maximum alone, each with the bound of what it pads."""
        readers: dict[int, list[str]] = {}
        for operator in self.operators:
            for index in _graph.numbers(operator.inputs):
                readers.setdefault(index, []).append(self.kind(operator))
        outputs = set(_graph.numbers(self.graph.outputs))
        for operator in self.operators:
            if self.kind(operator) != "PADV2" or not self._pads_least(operator):
                continue
            index, made = operator.inputs[0], operator.outputs[0]
            bound = self.of(int(index))
            if bound is not None and made not in outputs and set(readers.get(made, ())) == {"MAX_POOL_2D"}:
                yield operator, bound


def _rewrite(tree: flatbuffer.Model, bounds: _Bounds) -> int:
    """Give every such operator a constant of its own; gives how many there are."""
    from ai_edge_litert import schema_py_generated as schema

    found = list(bounds.pads())
    for operator, bound in found:
        constant = bounds.graph.tensors[operator.inputs[2]]
        tensor = schema.TensorT(
            name=f"{(constant.name or b'pad').decode(errors='replace')}/bound".encode(),
            type=constant.type,
            shape=constant.shape,
            hasRank=constant.hasRank,
            buffer=len(tree.buffers),
        )
        tree.buffers.append(schema.BufferT(data=np.frombuffer(np.float32(bound).tobytes(), np.uint8)))
        bounds.graph.tensors.append(tensor)
        operator.inputs = [*_graph.numbers(operator.inputs)[:2], len(bounds.graph.tensors) - 1]
    return len(found)
