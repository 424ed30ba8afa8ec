"""Which channels of which layers stand or fall together: what has to be known before one can be removed.

1. Every output channel of a convolution or a dense layer is a channel of its own; inputs of the model are too.
2. The numbers of a tensor carry the channel that they belong to, through flattening, concatenation and padding.
3. Where tensors are added or multiplied, and where a layer is used twice, channels become one.
4. An axis of a weight that a tensor meets belongs to the channels of that tensor.
5. Channels stay that reach an output of the model, or anything whose work on channels is not known here.

A channel that is removed is removed from every axis that belongs to it, and the rest computes what it computed with
the weights that read the channel set to zero.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.train.channel_rules import (
    BINARY,
    ELEMENTWISE,
    FOLLOWING,
    KERNELS,
    SPATIAL,
    STATISTICS,
    passes_values,
    vector_of,
)
from edgekit.train.graph import Call, Graph

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Axis:
    """An axis of a layer's weight: ``layer`` is the first call of it, ``weight`` an attribute such as ``"kernel"``."""

    layer: Call
    weight: str
    axis: int
    makes: bool = False


@dataclass(frozen=True)
class Kernel:
    """The multiplications of one call: its kernel is applied at so many positions of a sample."""

    layer: Any
    weight: str
    positions: int


class Channels:
    """The channels of a model, and all axes of weights that belong to each.

    ``of`` has the channels of each axis, ``(64,)`` for 64 indices. Channels are numbered from 0 to ``count``; keep
    masks, ``(count,)``, say which of them stay.

    Args:
        graph: The model.
        exclude: Regular expressions; layers whose names match stay as they are.
    """

    def __init__(self, graph: Graph, exclude: Sequence[str] = ()) -> None:
        self.graph = graph
        self.kernels: list[Kernel] = []
        self._exclude = exclude
        self._ids: dict[tuple[int, str, int], tuple[Axis, Ids]] = {}
        self._tensors: dict[int, Ids] = {}
        self._joined: list[NDArray[np.int64]] = []
        self._pins: list[tuple[Ids, str]] = []
        self._next = 0
        for number in graph.inputs:
            self._tensors[number] = self._new(self._shape(number), "an input of the model")
        for call in graph.calls:
            self._follow(call)
        # The first reason is the one that is told.
        self._pins[:0] = [(self._tensors[number], "an output of the model") for number in graph.outputs]

    @cached_property
    def _numbers(self) -> Ids:
        """The number of the channel of each id, joined ids having the same."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        pairs = np.concatenate([np.zeros((2, 0), np.int64), *self._joined], axis=1)
        ones = np.ones(pairs.shape[1], np.int8)
        graph = coo_array((ones, (pairs[0], pairs[1])), shape=(self._next, self._next))
        return np.asarray(connected_components(graph, directed=False)[1], np.int64)

    @cached_property
    def of(self) -> dict[Axis, Ids]:
        """The channels of each axis."""
        return {axis: self._numbers[ids] for axis, ids in self._ids.values()}

    @property
    def count(self) -> int:
        """The number of channels."""
        return int(self._numbers.max(initial=-1)) + 1

    @cached_property
    def removable(self) -> Flags:
        """Which channels may be removed."""
        free = np.zeros(self.count, np.bool_)
        for axis, channels in self.of.items():
            free[channels] |= axis.makes
        for ids, _reason in self._pins:
            free[self._numbers[ids.ravel()]] = False
        return free

    @cached_property
    def groups(self) -> Ids:
        """A number for each channel, the same for those that the same layers make: ``(count,)``."""
        makers = [channels for axis, channels in self.of.items() if axis.makes]
        made = np.zeros((self.count, len(makers)), np.bool_)
        for column, channels in enumerate(makers):
            made[channels, column] = True
        return np.asarray(np.unique(made, axis=0, return_inverse=True)[1], np.int64).reshape(-1)

    @cached_property
    def pinned(self) -> dict[str, str]:
        """The layers that keep all of their channels, each with what it is that reads or makes them."""
        reasons: dict[int, str] = {}
        for ids, reason in self._pins:
            for number in np.unique(self._numbers[ids]):
                reasons.setdefault(int(number), reason)
        return {
            axis.layer.name: next(reasons[number] for number in channels if number in reasons)
            for axis, channels in self.of.items()
            if axis.makes and not self.removable[channels].any()
        }

    def kept(self, layer: Any, weight: str, keep: Flags) -> tuple[Any, ...]:
        """The part of a weight that stays, as the arguments of ``numpy.ix_``."""
        shape = getattr(layer, weight).shape
        found = [self._ids.get((id(layer), weight, axis)) for axis in range(len(shape))]
        return tuple(
            np.arange(size) if entry is None else np.flatnonzero(keep[self._numbers[entry[1]]])
            for size, entry in zip(shape, found, strict=True)
        )

    def size(self, number: int, keep: Flags) -> int:
        """How many numbers of the last axis of a tensor stay."""
        return int(keep[self._numbers[_vector(self._tensors[number])]].sum())

    def macs(self, keep: Flags) -> int:
        """Multiply-accumulates of one sample, a free size counted as one."""
        return sum(
            kernel.positions * self._size(kernel.layer, kernel.weight, keep) for kernel in self.kernels
        )

    def parameters(self, keep: Flags) -> int:
        """The number of weights, statistics of batch normalizations included."""
        return sum(
            math.prod(map(len, self.kept(call.operation, name, keep))) if name else math.prod(variable.shape)
            for call in self.graph.layers()
            for variable in call.operation.weights
            for name in [self._name(call.operation, variable)]
        )

    def cut(self, layer: Any, keep: Flags) -> list[Any]:
        """The weights of a layer without the channels that do not stay, in the order of ``get_weights``."""
        weights = []
        for variable in layer.weights:
            name, values = self._name(layer, variable), np.asarray(variable)
            weights.append(values[np.ix_(*self.kept(layer, name, keep))] if name else values)
        return weights

    @cached_property
    def _weights(self) -> dict[int, tuple[str, ...]]:
        found: dict[int, dict[str, None]] = {}
        for layer, weight, _axis in self._ids:
            found.setdefault(layer, {})[weight] = None
        return {layer: tuple(weights) for layer, weights in found.items()}

    def _name(self, layer: Any, variable: Any) -> str | None:
        names = self._weights.get(id(layer), ())
        return next((name for name in names if getattr(layer, name) is variable), None)

    def _size(self, layer: Any, weight: str, keep: Flags) -> int:
        return math.prod(map(len, self.kept(layer, weight, keep)))

    def _shape(self, number: int) -> tuple[int, ...]:
        return tuple(size or 1 for size in self.graph.spec(number).shape[1:])

    def _new(self, shape: tuple[int, ...], pinned: str = "") -> Ids:
        """New channels along the last axis of a tensor."""
        width = shape[-1] if shape else 1
        ids = np.arange(self._next, self._next + width)
        self._next += width
        if pinned:
            self._pin(ids, pinned)
        return np.broadcast_to(ids, shape)

    def _pin(self, ids: Ids, reason: str) -> None:
        self._pins.append((np.unique(ids), reason))

    def _join(self, first: Ids, second: Ids) -> None:
        self._joined.append(np.unique(np.stack([first.ravel(), second.ravel()]), axis=1))

    def _axis(self, call: Call, weight: str, axis: int, ids: Ids, *, makes: bool = False) -> Ids:
        """Let an axis of a weight belong to channels; those that it belongs to already become one with them."""
        values = getattr(call.operation, weight, None)
        if values is None:
            return ids
        place = (id(call.operation), weight, axis % len(values.shape))
        known = self._ids.get(place)
        if known is None:
            self._ids[place] = Axis(call, weight, place[2], makes), ids
            return ids
        if not makes:
            self._join(known[1], ids)
        return known[1]

    def _follow(self, call: Call) -> None:
        """The channels of what a call makes."""
        made = self._rule(call)(call, [self._tensors[number] for number in call.inputs])
        if any(re.search(pattern, call.name) for pattern in self._exclude):
            for ids in [self._tensors[number] for number in call.inputs] + made:
                self._pin(ids, f"{call.name}, which is excluded")
        for number, ids in zip(call.outputs, made, strict=True):
            if ids.ndim and vector_of(ids) is None:
                self._pin(ids, _named(call))
            self._tensors[number] = ids

    def _rule(self, call: Call) -> "Rule":
        kind = type(call.operation).__name__
        usual = getattr(call.operation, "data_format", None) != "channels_first"
        widths = [ids for number in call.inputs if (ids := self._tensors[number]).ndim]
        uniform = len(widths) == len(call.inputs) and all(vector_of(ids) is not None for ids in widths)
        rules: Mapping[str, Rule] = {
            **dict.fromkeys(KERNELS, self._kernel),
            **dict.fromkeys(FOLLOWING, self._following),
            **dict.fromkeys(STATISTICS, self._statistics),
            **dict.fromkeys(SPATIAL, self._spatial),
            **dict.fromkeys(ELEMENTWISE, self._elementwise),
            **dict.fromkeys(BINARY, self._binary),
            "Concatenate": self._concatenate,
            "Flatten": self._reshape,
            "Reshape": self._reshape if call.is_layer else self._unknown,
        }
        return rules.get(kind, self._unknown) if usual and uniform else self._unknown

    def _unknown(self, call: Call, tensors: list[Ids]) -> list[Ids]:
        for ids in tensors:
            self._pin(ids, _named(call))
        return [self._new(self._shape(number), _named(call)) for number in call.outputs]

    def _kernel(self, call: Call, tensors: list[Ids]) -> list[Ids]:
        """Rules 1 and 4: a kernel reads the channels of its input and makes new ones."""
        layer = call.operation
        if getattr(layer, "groups", 1) != 1:
            return self._unknown(call, tensors)
        weight, reads, writes = KERNELS[type(layer).__name__]
        ids = _vector(tensors[0])
        shape = self._shape(call.outputs[0])
        positions = math.prod(shape[:-1])
        if weight == "pointwise_kernel":
            ids = self._depthwise(call, "depthwise_kernel", ids, positions)
        self._axis(call, weight, reads, ids)
        transposed = type(layer).__name__.endswith("Transpose")
        inside = math.prod(tensors[0].shape[:-1]) if transposed else positions
        self.kernels.append(Kernel(layer, weight, inside))
        made = self._axis(call, weight, writes, _vector(self._new(shape[-1:])), makes=True)
        self._axis(call, "bias", 0, made)
        if not passes_values(layer):
            self._pin(made, _named(call))
        return [np.broadcast_to(made, shape)]

    def _following(self, call: Call, tensors: list[Ids]) -> list[Ids]:
        """A depthwise convolution makes of each channel one or several that go with it."""
        shape = self._shape(call.outputs[0])
        made = self._depthwise(call, "kernel", _vector(tensors[0]), math.prod(shape[:-1]))
        self._axis(call, "bias", 0, made)
        if not passes_values(call.operation):
            self._pin(made, _named(call))
        return [np.broadcast_to(made, shape)]

    def _depthwise(self, call: Call, weight: str, ids: Ids, positions: int) -> Ids:
        self._axis(call, weight, -2, ids)
        self.kernels.append(Kernel(call.operation, weight, positions))
        return np.repeat(ids, getattr(call.operation, weight).shape[-1])

    def _statistics(self, call: Call, tensors: list[Ids]) -> list[Ids]:
        """Weights per channel, as of a batch normalization."""
        layer, ids = call.operation, tensors[0]
        if getattr(layer, "axis", -1) not in (-1, ids.ndim):
            return self._unknown(call, tensors)
        for weight in STATISTICS[type(layer).__name__]:
            values = getattr(layer, weight, None)
            if values is not None and values.shape[-1] == ids.shape[-1]:
                self._axis(call, weight, -1, _vector(ids))
        return [ids]

    def _spatial(self, call: Call, tensors: list[Ids]) -> list[Ids]:
        return [np.broadcast_to(_vector(tensors[0]), self._shape(call.outputs[0]))]

    def _elementwise(self, call: Call, tensors: list[Ids]) -> list[Ids]:
        return tensors if passes_values(call.operation) else self._unknown(call, tensors)

    def _binary(self, call: Call, tensors: list[Ids]) -> list[Ids]:
        """Rule 3; a tensor of one channel that meets many serves all of them and stays."""
        shape = self._shape(call.outputs[0])
        alone = len(tensors) == 1 and not all(np.ndim(arg) == 0 for arg in call.args[1:])
        if alone or any(ids.ndim != len(shape) for ids in tensors):
            return self._unknown(call, tensors)
        wide = [ids for ids in tensors if ids.shape[-1] == shape[-1]]
        for ids in tensors:
            if ids.shape[-1] != shape[-1]:
                self._pin(ids, _named(call))
        for other in wide[1:]:
            self._join(_vector(wide[0]), _vector(other))
        return [np.broadcast_to(_vector(wide[0]), shape)]

    def _concatenate(self, call: Call, tensors: list[Ids]) -> list[Ids]:
        axis = call.operation.axis
        axis = axis if axis < 0 else axis - tensors[0].ndim - 1
        if axis == -1:
            shape = self._shape(call.outputs[0])
            return [np.broadcast_to(np.concatenate([_vector(ids) for ids in tensors]), shape)]
        for other in tensors[1:]:
            self._join(_vector(tensors[0]), _vector(other))
        return self._spatial(call, tensors)

    def _reshape(self, call: Call, tensors: list[Ids]) -> list[Ids]:
        shape = self._shape(call.outputs[0])
        if math.prod(shape) != tensors[0].size:
            return self._unknown(call, tensors)
        return [tensors[0].reshape(shape)]


Rule = Callable[[Call, list[Ids]], list[Ids]]


def _vector(ids: Ids) -> Ids:
    """The channels along the last axis of a tensor in which all positions have the same."""
    vector: Ids = ids.reshape(-1, ids.shape[-1])[0]
    return vector


def _named(call: Call) -> str:
    return f"{call.name} ({type(call.operation).__name__})"
