"""Weight clustering: the weights of a kernel share a few values, and files of it compress well.

1. k values are chosen for a kernel: by k-means++, evenly, or by the density of its weights (arXiv:1510.00149).
2. A step computes with the value nearest to each weight. The gradient of a value is the sum over its weights; the
   weights themselves get theirs too, and may come nearer to another value.
3. At the end each weight becomes its value.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from edgekit.errors import UsageError
from edgekit.tensor import Array
from edgekit.train.batch_norm import fold_batch_norm
from edgekit.train.graph import Call, Graph, copy_layer, copying, unique_names
from edgekit.train.kernels import kernels_of, zeros

Init = Literal["kmeans++", "linear", "density"]

# From this share of zeros on a kernel counts as pruned.
PRUNED = 0.25
_SAMPLE = 100_000
_ITERATIONS = 20


def cluster_weights(
    model: Any, clusters: int = 16, *, init: Init = "kmeans++", exclude: Sequence[str] = (), seed: int = 0
) -> Any:
    """A new model whose kernels have at most ``clusters`` distinct values; train it, then ``strip_clusters``.

    Batch normalizations are folded first: folded later, they would give each channel values of its own. Kernels
    of which a quarter or more is zero keep these zeros, and zero is one of their values.

    Args:
        model: A Functional or Sequential Keras 3 model.
        clusters: How many values a kernel has, 2 to 256.
        init: How the first values are chosen.
        exclude: Regular expressions; layers whose names match stay as they are.
        seed: For k-means++.

    Raises:
        ModelError: The model is subclassed.
        UsageError: There is nothing to cluster.
    """
    if not 2 <= clusters <= 256:
        raise UsageError("EK757", f"{clusters} clusters are not possible.", "Give 2 to 256.")
    graph = Graph(fold_batch_norm(model))
    chosen = {
        id(kernel.layer): kernel
        for kernel in kernels_of(graph.model)
        if not any(re.search(pattern, kernel.name) for pattern in exclude)
        and len(np.unique(kernel.values)) > clusters
    }
    plain, names = copying(graph), unique_names(graph)
    wrapped: dict[int, ClusteredWeights] = {}

    def make(call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        operation = call.operation
        if id(operation) not in chosen:
            return plain(call, args, kwargs)
        wrapper = wrapped.get(id(operation))
        if wrapper is not None:
            return wrapper(*args, **kwargs)
        values = chosen[id(operation)].values
        keep_zeros = zeros(values) >= PRUNED * values.size
        layer = copy_layer(operation, names[id(operation)])
        wrapper = wrapped[id(operation)] = ClusteredWeights(layer, clusters, keep_zeros=keep_zeros)
        result = wrapper(*args, **kwargs)
        layer.set_weights(operation.get_weights())
        wrapper.start(init, seed)
        return result

    made = graph.build(make)
    if not wrapped:
        raise UsageError("EK752", f"{model.name} has no layer left to cluster.", "Exclude fewer layers.")
    return made


def strip_clusters(model: Any) -> Any:
    """A plain model of a trained one: the same layers, each kernel with its few values."""
    graph = Graph(model)
    plain = copying(graph)
    made: dict[int, Any] = {}

    def make(call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        wrapper = call.operation
        if not isinstance(wrapper, ClusteredWeights):
            return plain(call, args, kwargs)
        if id(wrapper) in made:
            return made[id(wrapper)](*args, **kwargs)
        layer = made[id(wrapper)] = copy_layer(wrapper.layer, wrapper.layer.name)
        result = layer(*args, **kwargs)
        layer.set_weights(wrapper.layer.get_weights())
        _kernel(layer).assign(wrapper.final())
        return result

    return graph.build(make)


def _kernel(layer: Any) -> Any:
    return layer.pointwise_kernel if hasattr(layer, "pointwise_kernel") else layer.kernel


@keras.saving.register_keras_serializable("edgekit")
class ClusteredWeights(keras.layers.Wrapper):  # type: ignore[misc] # Keras has no types
    """Runs a layer with each weight of its kernel replaced by the nearest of a few trained values.

    ``keep_zeros`` makes zero one of the values, for the weights that are zero at the start, and for no others.
    """

    def __init__(self, layer: Any, clusters: int = 16, *, keep_zeros: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault("name", layer.name)
        super().__init__(layer, **kwargs)
        self.clusters, self.keep_zeros = clusters, keep_zeros

    def build(self, shape: Any = None) -> None:
        """The values, and which weights are not zero."""
        super().build(shape)
        count = self.clusters - int(self.keep_zeros)
        self.centroids = self.add_weight(name="centroids", shape=(count,), initializer="zeros")
        if self.keep_zeros:
            self.mask = self.add_weight(
                name="mask", shape=_kernel(self.layer).shape, initializer="ones", trainable=False
            )

    def start(self, init: Init, seed: int) -> None:
        """Choose the first values for the kernel as it is."""
        kernel = np.asarray(_kernel(self.layer))
        if self.keep_zeros:
            self.mask.assign((kernel != 0).astype(np.float32))
            kernel = kernel[kernel != 0]
        self.centroids.assign(first_centroids(kernel.ravel(), self.centroids.shape[0], init, seed))

    def call(self, x: Any, training: bool | None = None) -> Any:
        """The layer's outputs with the values in place of its weights."""
        del training  # none of the layers with a kernel behaves differently
        kernel = _kernel(self.layer)
        weights, others = (
            [self._clustered() if variable is kernel else variable for variable in variables]
            for variables in (self.layer.trainable_variables, self.layer.non_trainable_variables)
        )
        result, _updated = self.layer.stateless_call(weights, others, x)
        return result

    def _clustered(self) -> Any:
        kernel = tf.convert_to_tensor(_kernel(self.layer))
        shared = _shared(kernel, tf.convert_to_tensor(self.centroids))
        return shared * tf.convert_to_tensor(self.mask) if self.keep_zeros else shared

    def final(self) -> Array:
        """The kernel of few values, each of them in use where there are weights enough."""
        kernel = np.asarray(_kernel(self.layer))
        used = np.asarray(self.mask) > 0 if self.keep_zeros else np.ones(kernel.shape, np.bool_)
        centroids = without_empty(kernel[used], np.asarray(self.centroids))
        result = np.zeros_like(kernel)
        result[used] = centroids[nearest(kernel[used], centroids)]
        return result

    def get_config(self) -> dict[str, Any]:
        """The layer's options."""
        return {**super().get_config(), "clusters": self.clusters, "keep_zeros": self.keep_zeros}


@tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore] # TensorFlow has no types
def _shared(kernel: Any, centroids: Any) -> Any:
    order = tf.argsort(centroids)
    ordered = tf.gather(centroids, order)
    places = tf.searchsorted((ordered[1:] + ordered[:-1]) / 2, tf.reshape(kernel, [-1]))
    labels = tf.gather(order, places)

    def gradient(upstream: Any) -> tuple[Any, Any]:
        flat = tf.reshape(upstream, [-1])
        return upstream, tf.math.unsorted_segment_sum(flat, labels, tf.shape(centroids)[0])

    return tf.reshape(tf.gather(centroids, labels), tf.shape(kernel)), gradient


def first_centroids(weights: Array, count: int, init: Init, seed: int = 0) -> Array:
    """Values to begin with: ``(count,)`` for weights ``(n,)``.

    ``"linear"`` divides their range evenly, ``"density"`` their sorted number, ``"kmeans++"`` runs k-means.
    """
    if init == "linear":
        return np.linspace(weights.min(), weights.max(), count, dtype=weights.dtype)
    if init == "density":
        chosen = np.quantile(weights, (np.arange(count) + 0.5) / count)
        return without_empty(weights, chosen.astype(weights.dtype))
    from scipy.cluster.vq import kmeans2

    generator = np.random.default_rng(seed)
    sample = weights if len(weights) <= _SAMPLE else generator.choice(weights, _SAMPLE, replace=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about empty clusters, which are filled below
        centroids, _labels = kmeans2(
            sample.astype(np.float64), count, iter=_ITERATIONS, minit="++", seed=generator
        )
    return without_empty(weights, centroids.astype(weights.dtype))


def nearest(weights: Array, centroids: Array) -> Array:
    """For each weight the number of the value next to it: ``(n,)``."""
    order = np.argsort(centroids, kind="stable")
    ordered = centroids[order]
    return order[np.searchsorted((ordered[1:] + ordered[:-1]) / 2, weights)]


def without_empty(weights: Array, centroids: Array) -> Array:
    """The values, those without weights moved to the weights that are farthest from theirs."""
    centroids = centroids.copy()
    for _attempt in range(4 * len(centroids)):
        labels = nearest(weights, centroids)
        empty = np.setdiff1d(np.arange(len(centroids)), labels)
        distances = np.abs(weights - centroids[labels])
        if not len(empty) or not distances.any():
            break
        centroids[empty[0]] = weights[np.argmax(distances)]
    return centroids
