"""Which tensors of a float ``.tflite`` can be scaled channel by channel without changing what the file computes.

A convolution or fully connected layer can give any channel ``s`` times as large, and one that reads it can take
``1 / s`` of it: both only change constants. What stands between them must let a positive factor through: ReLU, pools,
padding with zeros, reshapes, and sums of tensors that are scaled alike. Those are a group.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import flatbuffer
from edgekit.passes import _graph
from edgekit.passes._layers_tflite import constant, set_constant

Floats = NDArray[np.float64]

# What gives as it reads, but for which values and how many: the factor of each channel goes through.
# Quantizers give the output of these the scale of the input; the others' outputs are rounded anew.
_MOVING = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "MAX_POOL_2D", "PAD"})
_PASSING = _MOVING | {"RELU", "LEAKY_RELU", "PRELU", "ABS", "AVERAGE_POOL_2D", "MEAN", "SUM", "RELU6"}
_SUMS = frozenset({"ADD", "SUB"})
_BOUNDS = {"RELU6": 6.0, "RELU_0_TO_1": 1.0}
_HOMOGENEOUS = {"NONE", "RELU", *_BOUNDS}


@dataclass(frozen=True)
class Weighted:
    """A convolution or fully connected layer: its tensors, and its weights with output channels last.

    Those of a depthwise layer are (3, 3, 16) or with two outputs for each input (3, 3, 32), of a convolution
    (3, 3, 8, 16), of a fully connected layer (64, 10).
    """

    position: int
    kind: str
    source: int
    made: int
    weights_tensor: int
    bias_tensor: int
    weights: Floats
    bias: Floats | None
    activation: str
    pads: bool
    multiplier: int = 1

    @property
    def is_depthwise(self) -> bool:
        """Whether each output channel reads one input channel alone."""
        return self.kind == "DEPTHWISE_CONV_2D"

    @property
    def read(self) -> int:
        """How many input channels its weights tell apart."""
        return int(self.weights.shape[-1] // self.multiplier if self.is_depthwise else self.weights.shape[-2])


@dataclass
class Group:
    """Tensors that have to be scaled alike, and the layers that give and take them.

    ``channels`` is how many factors there are: those of a tensor with a longer last axis repeat, as in a flattened
    image. ``bounded`` are tensors behind a ReLU6 and its like, with the bound.
    """

    channels: int
    tensors: list[int]
    rounded: list[int]
    givers: list[Weighted] = field(default_factory=list)
    takers: list[Weighted] = field(default_factory=list)
    bounded: dict[int, float] = field(default_factory=dict)


class Graph:
    """The first subgraph of a file, as scaling sees it."""

    def __init__(self, tree: flatbuffer.Model) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.tree, self.graph = tree, tree.subgraphs[0]
        numbers = vars(schema.BuiltinOperator).items()
        kinds: dict[int, str] = {number: name for name, number in numbers if name.isupper()}
        functions = vars(schema.ActivationFunctionType).items()
        self._functions: dict[int, str] = {number: name for name, number in functions if name.isupper()}
        self.operators = list(self.graph.operators if self.graph.operators is not None else ())
        self.kinds = [kinds[_graph.builtin_of(tree.operatorCodes[o.opcodeIndex])] for o in self.operators]
        self._same = schema.Padding.SAME
        self._float = schema.TensorType.FLOAT32
        self.readers: dict[int, list[int]] = {}
        for position, operator in enumerate(self.operators):
            for index in _graph.numbers(operator.inputs):
                self.readers.setdefault(index, []).append(position)
        self.layers = {layer.position: layer for layer in self._layers()}

    def shape(self, index: int) -> tuple[int, ...]:
        """A tensor's shape: ``(1, 32, 32, 8)``."""
        return tuple(_graph.numbers(self.graph.tensors[index].shape))

    def activation(self, position: int) -> str:
        """The activation function that an operator applies to what it gives: ``"RELU"``."""
        if self.kinds[position] in _BOUNDS:
            return self.kinds[position]
        options = self.operators[position].builtinOptions
        return self._functions.get(getattr(options, "fusedActivationFunction", 0), "unknown")

    def is_real(self, index: int) -> bool:
        """Whether a tensor holds computed real numbers."""
        tensor = self.graph.tensors[index]
        return (
            tensor.type == self._float
            and not tensor.isVariable
            and constant(self.tree, index) is None
            and len(self.shape(index)) > 1
        )

    def _layers(self) -> Iterator[Weighted]:
        wanted = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
        for position, (operator, kind) in enumerate(zip(self.operators, self.kinds, strict=True)):
            if kind in wanted:
                layer = self._layer(position, operator, kind)
                if layer is not None:
                    yield layer

    def _layer(self, position: int, operator: Any, kind: str) -> Weighted | None:
        source, weights_tensor, *rest = _graph.numbers(operator.inputs)
        bias_tensor = rest[0] if rest else -1
        weights, bias = constant(self.tree, weights_tensor), constant(self.tree, bias_tensor)
        # Weights that another layer reads too are stored once, and cannot be changed for the sake of one.
        is_shared = len(self.readers[weights_tensor]) > 1
        if weights is None or is_shared or (bias is None and bias_tensor >= 0):
            return None
        if kind == "CONV_2D" and weights.shape[-1] != self.shape(source)[-1]:
            return None  # in groups
        if self.graph.tensors[weights_tensor].sparsity is not None:
            return None
        kernel = () if kind == "FULLY_CONNECTED" else weights.shape[1:3]
        pads = bool(kernel) and operator.builtinOptions.padding == self._same and max(kernel) > 1
        stored = weights[0] if kind == "DEPTHWISE_CONV_2D" else np.moveaxis(weights, 0, -1)
        made = int(operator.outputs[0])
        return Weighted(
            position,
            kind,
            source,
            made,
            weights_tensor,
            bias_tensor,
            stored,
            None if bias is None else bias.ravel(),
            self.activation(position),
            pads,
            stored.shape[-1] // self.shape(source)[-1] if kind == "DEPTHWISE_CONV_2D" else 1,
        )


def write_layer(tree: flatbuffer.Model, layer: Weighted) -> None:
    """Put a layer's constants, activation function and output into the file that it is from."""
    from ai_edge_litert import schema_py_generated as schema

    graph = tree.subgraphs[0]
    operator = graph.operators[layer.position]
    stored = layer.weights[None] if layer.is_depthwise else np.moveaxis(layer.weights, -1, 0)
    set_constant(tree, layer.weights_tensor, stored)
    readers = sum(_graph.numbers(one.inputs).count(layer.bias_tensor) for one in graph.operators)
    if layer.bias is not None and layer.bias_tensor >= 0 and readers == 1:
        set_constant(tree, layer.bias_tensor, layer.bias)
    elif layer.bias is not None:
        # Converters store equal biases, as those of zeros, once for several layers, and may leave them out.
        weights = graph.tensors[layer.weights_tensor]
        name = (weights.name or b"weights") + b"/bias"
        shape = [layer.bias.size]
        graph.tensors.append(schema.TensorT(name=name, type=weights.type, shape=shape, hasRank=True))
        operator.inputs = [*_graph.numbers(operator.inputs)[:2], len(graph.tensors) - 1]
        set_constant(tree, len(graph.tensors) - 1, layer.bias)
    operator.outputs = [layer.made]
    operator.builtinOptions.fusedActivationFunction = getattr(schema.ActivationFunctionType, layer.activation)


def find_groups(graph: Graph) -> list[Group]:
    """The groups of tensors that can be scaled, each with at least one layer that gives and one that takes."""
    found = _Union(graph)
    for position, (operator, kind) in enumerate(zip(graph.operators, graph.kinds, strict=True)):
        read = [index for index in _graph.numbers(operator.inputs) if index >= 0 and graph.is_real(index)]
        made = _graph.numbers(operator.outputs)
        is_open = graph.activation(position) in _HOMOGENEOUS
        if position in graph.layers:
            found.block(index for index in read if index != graph.layers[position].source)
        elif kind in _PASSING and len(read) == 1 and _keeps_channels(graph, operator, kind):
            found.join(read[0], made[0])
        elif kind in _SUMS and len(read) == 2 and graph.shape(read[0]) == graph.shape(read[1]):
            found.join(read[0], made[0])
            found.join(read[1], made[0])
        else:
            found.block([*read, *made])
        if not is_open:
            found.block(made)
    found.block([*_graph.numbers(graph.graph.inputs), *_graph.numbers(graph.graph.outputs)])
    return list(_complete(graph, found.groups()))


def _complete(graph: Graph, groups: list[list[int]]) -> Iterator[Group]:
    """Groups with their layers and bounds."""
    makers = {int(o.outputs[0]): position for position, o in enumerate(graph.operators) if len(o.outputs)}
    for tensors in groups:
        members = set(tensors)
        channels = min(graph.shape(index)[-1] for index in tensors)
        group = Group(channels, tensors, [i for i in tensors if graph.kinds[makers[i]] not in _MOVING])
        group.givers += [layer for layer in graph.layers.values() if layer.made in members]
        group.takers += [layer for layer in graph.layers.values() if layer.source in members]
        group.bounded |= {
            index: _BOUNDS[graph.activation(makers[index])]
            for index in tensors
            if graph.activation(makers[index]) in _BOUNDS
        }
        sizes = [graph.shape(index)[-1] for index in tensors]
        sizes += [layer.weights.shape[-1] for layer in group.givers] + [layer.read for layer in group.takers]
        fits = all(size % channels == 0 for size in sizes)
        if group.givers and group.takers and fits:
            yield group


def _keeps_channels(graph: Graph, operator: Any, kind: str) -> bool:
    """Whether value ``i`` of the output's last axis comes from channel ``i``, or ``i % channels``, of the input."""
    source, made = graph.shape(operator.inputs[0]), graph.shape(operator.outputs[0])
    if kind in {"RESHAPE", "SQUEEZE", "EXPAND_DIMS"}:
        return source[-1] > 1 and made[-1] % source[-1] == 0
    if kind == "PAD":
        margins = constant(graph.tree, operator.inputs[1])
        return margins is not None and not margins[-1].any()
    if kind in {"MEAN", "SUM"}:
        axes = constant(graph.tree, operator.inputs[1])
        return axes is not None and all(int(axis) % len(source) != len(source) - 1 for axis in axes.ravel())
    return True


class _Union:
    """Tensors joined to groups, and groups that cannot be scaled."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._above: dict[int, int] = {}
        self._blocked: set[int] = set()

    def join(self, one: int, other: int) -> None:
        """Both have to be scaled alike."""
        self._above[self._top(one)] = self._top(other)

    def block(self, indices: Any) -> None:
        """These cannot be scaled, nor what is joined to them."""
        self._blocked |= set(indices)

    def _top(self, index: int) -> int:
        while self._above.setdefault(index, index) != index:
            index = self._above[index]
        return index

    def groups(self) -> list[list[int]]:
        """What is left, in the order of the tensors."""
        for layer in self._graph.layers.values():
            self._top(layer.made)
        found: dict[int, list[int]] = {}
        for index in sorted(self._above):
            found.setdefault(self._top(index), []).append(index)
        return [group for group in found.values() if not self._blocked & set(group)]
