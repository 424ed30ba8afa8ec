"""What pruning and clustering made, kept while a model is trained on: zeros stay zero, equal weights stay equal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from edgekit.errors import UsageError
from edgekit.train.clustering import PRUNED
from edgekit.train.kernels import Kernel, zeros

Preserve = Literal["auto", "sparsity", "clusters", "none"]

# A kernel has clusters when its values are at most this many, each of four weights or more on average; zeros say
# nothing, for a pruned kernel has many. One value for all of them is no cluster: it is how a normalization begins.
_MOST_CLUSTERS = 256
_MEMBERS = 4


@dataclass(frozen=True)
class Kept:
    """A kernel with what is kept of it: its zeros, and with ``clusters`` which of its weights are equal."""

    kernel: Kernel
    clusters: bool

    def describe(self) -> dict[str, Any]:
        """The kernel as it is now."""
        values = self.kernel.values
        counts = {"weights": values.size, "zeros": zeros(values), "distinct": len(np.unique(values))}
        return {"layer": self.kernel.name, "clusters": self.clusters, **counts}


def structured(kernels: Iterable[Kernel], preserve: Preserve) -> tuple[Kept, ...]:
    """The kernels with something to keep.

    Raises:
        UsageError: ``preserve`` asks for what no kernel has.
    """
    if preserve == "none":
        return ()
    found = []
    for kernel in kernels:
        values = kernel.values
        others = values[values != 0]
        distinct = len(np.unique(others))
        few = 0 < distinct <= _MOST_CLUSTERS and distinct * _MEMBERS <= others.size
        clusters = few and len(np.unique(values)) > 1
        pruned = zeros(values) >= PRUNED * values.size
        if clusters and preserve in ("auto", "clusters"):
            found.append(Kept(kernel, clusters=True))
        elif pruned and preserve in ("auto", "sparsity"):
            found.append(Kept(kernel, clusters=False))
    if not found and preserve != "auto":
        raise UsageError(
            "EK759",
            f"No kernel has {'many zeros' if preserve == 'sparsity' else 'few distinct values'} to keep.",
            "Prune or cluster the model first, or leave out --preserve.",
        )
    return tuple(found)


class StructureKept(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """After each step zeros are zero again, and weights of one cluster have their mean.

    The mean over its weights is the step that the value of a cluster would have made itself.
    """

    def __init__(self, kept: Sequence[Kept]) -> None:
        super().__init__()
        self._rules = [(entry.kernel.variable, *_rule(entry)) for entry in kept]
        self._restore = tf.function(self._project, autograph=False)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Put the structure back."""
        self._restore()

    def _project(self) -> None:
        for variable, mask, labels, count in self._rules:
            value = tf.convert_to_tensor(variable)
            if count:
                means = tf.math.unsorted_segment_mean(tf.reshape(value, [-1]), labels, count)
                value = tf.reshape(tf.gather(means, labels), tf.shape(value))
            variable.assign(value * mask)


def _rule(entry: Kept) -> tuple[Any, Any, int]:
    values = entry.kernel.values
    mask = tf.constant((values != 0).astype(values.dtype))
    if not entry.clusters:
        return mask, None, 0
    found, labels = np.unique(values, return_inverse=True)
    return mask, tf.constant(labels.reshape(-1).astype(np.int32)), len(found)
