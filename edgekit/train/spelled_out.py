"""Layers that a converter cannot quantize as they are, written out as layers that it can."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from edgekit.train.batch_norm import as_factors
from edgekit.train.graph import Call, Graph, copying, unique_names

_SHARED = ("strides", "padding", "data_format", "dilation_rate")


def separated(model: Any) -> Any:
    """A new model in which each separable convolution is two: a depthwise one, and one of single pixels.

    Raises:
        ModelError: The model is subclassed.
    """
    graph = Graph(model)
    return _replacing(
        graph, lambda call: type(call.operation).__name__ == "SeparableConv2D", _two_convolutions
    )


def norms_as_convolutions(model: Any) -> Any:
    """A new model in which batch normalizations of pictures are depthwise convolutions of one pixel.

    Meant for those that ``fold_batch_norm`` left.

    Raises:
        ModelError: The model is subclassed.
    """
    graph = Graph(model)

    def is_of_pictures(call: Call) -> bool:
        layer = call.operation
        if not isinstance(layer, keras.layers.BatchNormalization) or layer.axis not in (-1, 3):
            return False
        return len(graph.spec(call.outputs[0]).shape) == 4

    return _replacing(graph, is_of_pictures, _pixelwise)


Weighted = list[tuple[Any, list[Any]]]


def _replacing(graph: Graph, chosen: Callable[[Call], bool], write: Callable[[Any, str], Weighted]) -> Any:
    """A new model in which ``write`` gives the layers, with their weights, that stand for a chosen one."""
    plain, names = copying(graph), unique_names(graph)
    known: dict[int, Weighted] = {}

    def make(call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if not chosen(call):
            return plain(call, args, kwargs)
        key = id(call.operation)
        first = key not in known
        if first:
            known[key] = write(call.operation, names[key])
        result = args[0]
        for layer, weights in known[key]:
            result = layer(result)
            if first:
                layer.set_weights(weights)
        return result

    return graph.build(make)


def _two_convolutions(layer: Any, name: str) -> Weighted:
    depthwise = keras.layers.DepthwiseConv2D(
        layer.kernel_size,
        depth_multiplier=layer.depth_multiplier,
        use_bias=False,
        name=f"{name}_depthwise",
        **{key: getattr(layer, key) for key in _SHARED},
    )
    pointwise = keras.layers.Conv2D(
        layer.filters,
        1,
        use_bias=layer.use_bias,
        activation=layer.activation,
        data_format=layer.data_format,
        name=f"{name}_pointwise",
    )
    bias = [np.asarray(layer.bias)] if layer.use_bias else []
    return [
        (depthwise, [np.asarray(layer.depthwise_kernel)]),
        (pointwise, [np.asarray(layer.pointwise_kernel), *bias]),
    ]


def _pixelwise(layer: Any, name: str) -> Weighted:
    factor, offset = as_factors(layer)
    return [(keras.layers.DepthwiseConv2D(1, name=name), [factor.reshape(1, 1, -1, 1), offset])]
