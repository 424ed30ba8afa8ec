"""How important each channel is, by the criterion that was chosen."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgekit.errors import UsageError
from edgekit.tensor import Array
from edgekit.train.channels import Axis, Channels, Ids
from edgekit.train.objective import total_loss

Criterion = Literal["l1", "l2", "batch-norm", "taylor"]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """What the Taylor criterion looks at: batches ``(x, y)`` as the model and its loss take them.

    ``loss`` is a list of them for a model with several outputs.
    """

    batches: Iterable[tuple[Any, Any]]
    loss: Any


def channel_scores(channels: Channels, criterion: Criterion, samples: Samples | None = None) -> Scores:
    """The importance of each channel, ``(channels.count,)``; those that may not be removed have one too.

    ``l1`` and ``l2`` are norms of the filters that make a channel, relative to the mean of their layer.
    ``batch-norm`` is the size of the scale that follows (arXiv:1708.06519). ``taylor`` is the change of the loss, to
    first order, that comes of setting the channel to zero: the square of the sum of gradient times weight
    (arXiv:1906.10771), over the scales and offsets of batch normalizations where there are any, else over filters.

    Raises:
        UsageError: The criterion is ``batch-norm`` and no channel has one, or ``taylor`` and there are no samples.
    """
    if criterion == "taylor":
        if samples is None:
            raise UsageError("EK746", "The taylor criterion needs samples.", "Give them, or take l2.")
        return _taylor(channels, samples)
    if criterion == "batch-norm":
        return _scales(channels)
    order = {"l1": 1, "l2": 2}[criterion]
    found = _Mean(channels.count)
    for axis, numbers in channels.of.items():
        if axis.makes:
            values = _rows(getattr(axis.layer.operation, axis.weight), axis.axis)
            norms = np.linalg.norm(values, ord=order, axis=1)
            found.add(numbers, norms / max(float(norms.mean()), 1e-12))
    return found.mean()


class _Mean:
    """Values of several axes put together: a channel has the mean over its own."""

    def __init__(self, count: int) -> None:
        self.sums, self.counts = np.zeros(count), np.zeros(count)

    def add(self, numbers: Ids, values: Array) -> None:
        np.add.at(self.sums, numbers, values)
        np.add.at(self.counts, numbers, 1)

    def mean(self) -> Scores:
        return self.sums / np.maximum(self.counts, 1)


def _scales(channels: Channels) -> Scores:
    found = _Mean(channels.count)
    for axis, numbers in channels.of.items():
        if _is_norm(axis) and axis.weight == "gamma":
            found.add(numbers, np.abs(np.asarray(axis.layer.operation.gamma)))
    scores = found.mean()
    if not found.counts[channels.removable].any():
        message = "No channel that may be removed has a batch normalization with a scale."
        raise UsageError("EK746", message, "Take another --criterion: l2, or taylor.")
    # Without a scale nothing is known of a channel, and it goes last.
    scores[found.counts == 0] = np.inf
    return scores


def _taylor(channels: Channels, samples: Samples) -> Scores:
    model = channels.graph.model
    scaled = np.zeros(channels.count, np.bool_)
    for axis, numbers in channels.of.items():
        scaled[numbers] |= _is_norm(axis)
    used = [
        (getattr(axis.layer.operation, axis.weight), axis, numbers, scaled[numbers] == _is_norm(axis))
        for axis, numbers in channels.of.items()
        if _is_scale(axis) or axis.makes
    ]
    scores, count = np.zeros(channels.count), 0
    for x, y in samples.batches:
        with tf.GradientTape() as tape:
            weights = [entry[0].value for entry in used]
            tape.watch(weights)
            loss = total_loss(samples.loss, y, keras.tree.flatten(model(x, training=False)))
        sums = np.zeros(channels.count)
        for gradient, weight, entry in zip(tape.gradient(loss, weights), weights, used, strict=True):
            if gradient is not None:
                _weight, axis, numbers, counted = entry
                products = _rows(gradient.numpy() * weight.numpy(), axis.axis).sum(axis=1)
                np.add.at(sums, numbers, products * counted)
        scores += sums**2
        count += 1
    return scores / max(count, 1)


def _is_norm(axis: Axis) -> bool:
    return isinstance(axis.layer.operation, keras.layers.BatchNormalization)


def _is_scale(axis: Axis) -> bool:
    return _is_norm(axis) and axis.weight in ("gamma", "beta")


def _rows(values: Any, axis: int) -> Array:
    """The values of each index of an axis as one row."""
    array = np.asarray(values)
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
