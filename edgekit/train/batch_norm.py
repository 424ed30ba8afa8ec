"""Batch normalization folded into the layer before it, as every converter does: the function stays the same.

y = gamma * (w * x + b - mean) / sqrt(variance + epsilon) + beta is again a convolution, with the weights scaled
per output channel (arXiv:1712.05877, section 3.2).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from edgekit.tensor import Array
from edgekit.train.graph import Call, Graph, copy_layer, copying, unique_names

# Where the output channels are in each kernel.
_CHANNEL_AXES: dict[str, tuple[int, ...]] = {
    "Conv1D": (2,),
    "Conv2D": (3,),
    "Conv2DTranspose": (2,),
    "Dense": (1,),
    "DepthwiseConv2D": (2, 3),
}


def fold_batch_norm(model: Any) -> Any:
    """A new model without the batch normalizations that follow a convolution or a dense layer alone.

    One that follows something else, or whose input is used elsewhere too, stays. Penalties on the weights of a layer go
    where one is folded into it: they were meant for weights whose scale the normalization made indifferent.

    Raises:
        ModelError: The model is subclassed.
    """
    graph = Graph(model)
    folded = {id(call.operation): after for call in graph.layers() if (after := _norm_after(graph, call))}
    gone = {id(after.operation) for after in folded.values()}
    plain, names = copying(graph), unique_names(graph)

    def make(call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if id(call.operation) in gone:
            return args[0]
        if id(call.operation) not in folded:
            return plain(call, args, kwargs)
        penalties = (key for key in call.operation.get_config() if key.endswith("_regularizer"))
        layer = copy_layer(
            call.operation, names[id(call.operation)], use_bias=True, **dict.fromkeys(penalties)
        )
        result = layer(*args, **kwargs)
        layer.set_weights(_folded(call.operation, folded[id(call.operation)].operation))
        return result

    return graph.build(make)


def refresh_statistics(model: Any, batches: Iterable[Any]) -> None:
    """Take means and variances anew from some batches of inputs, each counting the same.

    What stands in a model describes the channels that it had when it was trained.
    """
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    usual = [layer.momentum for layer in norms]
    for number, x in enumerate(batches if norms else ()):
        for layer in norms:
            layer.momentum = number / (number + 1)
        model(x, training=True)
    for layer, momentum in zip(norms, usual, strict=True):
        layer.momentum = momentum


def _norm_after(graph: Graph, call: Call) -> Call | None:
    """The batch normalization that can be folded into the layer of this call."""
    layer = call.operation
    linear = type(layer).__name__ in _CHANNEL_AXES and layer.activation is keras.activations.linear
    if not linear or len(graph.uses[id(layer)]) > 1 or getattr(layer, "data_format", "") == "channels_first":
        return None
    after = graph.only_consumer(call.outputs[0])
    if after is None or not isinstance(after.operation, keras.layers.BatchNormalization):
        return None
    rank = len(graph.spec(after.outputs[0]).shape)
    over_channels = after.operation.axis in (-1, rank - 1)
    return after if over_channels and len(graph.uses[id(after.operation)]) == 1 else None


def _folded(layer: Any, norm: Any) -> list[Array]:
    kernel = np.asarray(layer.kernel)
    channels = int(np.prod([kernel.shape[axis] for axis in _CHANNEL_AXES[type(layer).__name__]]))
    bias = np.asarray(layer.bias) if layer.use_bias else np.zeros(channels, kernel.dtype)
    factor, offset = as_factors(norm)
    shape = [1] * kernel.ndim
    for axis in _CHANNEL_AXES[type(layer).__name__]:
        shape[axis] = kernel.shape[axis]
    return [kernel * factor.reshape(shape), bias * factor + offset]


def as_factors(norm: Any) -> tuple[Array, Array]:
    """A batch normalization at rest as ``x * factor + offset``, each ``(channels,)``."""
    mean, variance = np.asarray(norm.moving_mean), np.asarray(norm.moving_variance)
    gamma = np.asarray(norm.gamma) if norm.scale else np.ones_like(mean)
    beta = np.asarray(norm.beta) if norm.center else np.zeros_like(mean)
    factor = gamma / np.sqrt(variance + norm.epsilon)
    return factor, beta - mean * factor
