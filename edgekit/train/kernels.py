"""The kernels of a model: the weights that pruning and clustering work on, by the names of their layers."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.tensor import Array
from edgekit.train.graph import Graph

# The output and the input axis of each kernel.
_AXES: dict[str, tuple[int, int]] = {
    "Conv1D": (-1, -2),
    "Conv1DTranspose": (-2, -1),
    "Conv2D": (-1, -2),
    "Conv2DTranspose": (-2, -1),
    "Conv3D": (-1, -2),
    "Dense": (-1, -2),
}
_POINTWISE = ("SeparableConv1D", "SeparableConv2D")
_DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")


@dataclass(frozen=True)
class Kernel:
    """One kernel: ``axes`` are its output and input axis, None where it has no such pair of axes."""

    name: str
    layer: Any
    variable: Any
    axes: tuple[int, int] | None
    depthwise: bool = False

    @property
    def values(self) -> Array:
        """The weights as they are now."""
        return np.asarray(self.variable)

    def matches(self, patterns: Iterable[str]) -> bool:
        """Whether one of the regular expressions is found in the layer's name."""
        return any(re.search(pattern, self.name) for pattern in patterns)


def kernels_of(model: Any) -> tuple[Kernel, ...]:
    """The kernels of convolutions and dense layers, those inside of other layers too; shared ones once.

    Raises:
        ModelError: The model is subclassed.
    """
    found: dict[int, Kernel] = {}
    for call in Graph(model).layers():
        for layer in call.operation._flatten_layers():
            name = call.name if layer is call.operation else f"{call.name}/{layer.name}"
            for kernel in _of_layer(name, layer):
                found.setdefault(id(kernel.variable), kernel)
    return tuple(found.values())


def _of_layer(name: str, layer: Any) -> Iterator[Kernel]:
    kind = type(layer).__name__
    if kind in _AXES:
        yield Kernel(name, layer, layer.kernel, _AXES[kind])
    elif kind == "EinsumDense":
        yield Kernel(name, layer, layer.kernel, None)
    elif kind in _POINTWISE:
        yield Kernel(name, layer, layer.pointwise_kernel, (-1, -2))
    elif kind in _DEPTHWISE:
        yield Kernel(name, layer, layer.kernel, None, depthwise=True)


def zeros(kernel: Array) -> int:
    """How many weights are exactly zero."""
    return int(kernel.size - np.count_nonzero(kernel))
