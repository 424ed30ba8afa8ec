"""Kernels of few values: chosen well, trained, in the plain model and in the file, and kept by QAT to the integers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from edgekit.errors import UsageError
from edgekit.tflite_kernels import holds, stored_kernels
from edgekit.train.clustering import (
    ClusteredWeights,
    cluster_weights,
    first_centroids,
    nearest,
    strip_clusters,
    without_empty,
)
from edgekit.train.export import export_float, export_qat
from edgekit.train.job import Job
from edgekit.train.kernels import kernels_of
from edgekit.train.magnitude import PruningSchedule, prune_magnitude
from edgekit.train.methods import Context
from edgekit.train.methods.qat import prepare as prepare_qat
from edgekit.train.preserving import structured
from edgekit.train.qat import apply_qat

# TensorFlow's converter is tried in TensorFlow's own interpreter, which says that it will go away.
pytestmark = pytest.mark.filterwarnings("ignore:\\s+Warning")


def _model():
    keras.utils.set_random_seed(3)
    x = inputs = keras.Input((8, 8, 4))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, name="first")(x)))
    x = layers.Conv2D(12, 3, activation="relu", name="second")(x)
    return keras.Model(inputs, layers.Dense(3, "softmax", name="last")(layers.Flatten()(x)))


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(5)
    y = generator.integers(0, 3, 96)
    return (generator.normal(size=(96, 8, 8, 4)) + y[:, None, None, None]).astype(np.float32), y


def _fit(model, data, callbacks=(), epochs=1):
    # A graph would take longer to make than these few steps.
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", run_eagerly=True)
    model.fit(*data, batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks))


@pytest.fixture(scope="module")
def clustered(data):
    """A clustered model after training, and the trained one that it was stripped of."""
    model = _model()
    _fit(model, data)  # batch statistics that folding has to deal with
    wrapped = cluster_weights(model, 16)
    _fit(wrapped, data, epochs=2)
    return strip_clusters(wrapped), wrapped


@pytest.fixture(scope="module")
def pruned(data):
    model = _model()
    _fit(model, data, [prune_magnitude(model, PruningSchedule.constant(0.6))])
    return model


def test_linear_values_divide_the_range():
    found = first_centroids(np.array([-1, 0.5, 3], np.float32), 5, "linear")
    assert found == pytest.approx([-1, 0, 1, 2, 3])


def test_density_gives_each_value_as_many_weights():
    weights = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    found = first_centroids(weights, 4, "density")
    assert found == pytest.approx(np.quantile(weights, [0.125, 0.375, 0.625, 0.875]))


def test_k_means_is_nearer_to_the_weights_than_the_others():
    weights = np.random.default_rng(0).normal(size=3000).astype(np.float32)
    errors = {}
    for init in ("kmeans++", "linear", "density"):
        centroids = first_centroids(weights, 16, init)
        errors[init] = float(np.square(weights - centroids[nearest(weights, centroids)]).mean())
    assert min(errors, key=errors.get) == "kmeans++"


def test_nearest_agrees_with_all_distances():
    generator = np.random.default_rng(2)
    weights, centroids = generator.normal(size=500), generator.normal(size=7)
    wanted = np.abs(weights[:, None] - centroids[None]).argmin(axis=1)
    assert np.array_equal(nearest(weights, centroids), wanted)


def test_values_without_weights_move_to_the_farthest_weights():
    found = without_empty(np.array([0, 1, 2, 50], np.float32), np.array([1, 1, 900], np.float32))
    assert sorted(found) == pytest.approx([1, 2, 50]) or 50 in found
    assert len(np.unique(nearest(np.array([0, 1, 2, 50]), found))) == 3


def test_a_step_moves_a_value_by_the_sum_over_its_weights(data):
    inputs = keras.Input((6,))
    dense = layers.Dense(4, use_bias=False, name="dense")
    model = keras.Model(inputs, dense(inputs))
    wrapped = cluster_weights(model, 3)
    wrapper = next(layer for layer in wrapped.layers if isinstance(layer, ClusteredWeights))
    kernel, centroids = np.asarray(wrapper.layer.kernel), np.asarray(wrapper.centroids)
    x = tf.constant(data[0][:5, 0, 0:2, :3].reshape(5, 6))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(wrapped(x)))
    for_centroids, for_kernel = tape.gradient(loss, [wrapper.centroids.value, wrapper.layer.kernel.value])
    labels = nearest(kernel.ravel(), centroids).reshape(kernel.shape)
    by_hand = 2 * x.numpy().T @ (x.numpy() @ centroids[labels])
    sums = [by_hand[labels == number].sum() for number in range(3)]
    assert np.asarray(for_centroids) == pytest.approx(sums, rel=1e-4)
    assert np.asarray(for_kernel) == pytest.approx(by_hand, rel=1e-4)


def test_the_plain_model_computes_what_the_trained_one_did(clustered, data):
    plain, wrapped = clustered
    assert not any(isinstance(layer, ClusteredWeights) for layer in plain.layers)
    assert np.asarray(plain(data[0])) == pytest.approx(np.asarray(wrapped(data[0])), abs=0.02)
    for kernel in kernels_of(plain):
        assert len(np.unique(kernel.values)) == 16


def test_training_changes_values_and_assignments(clustered):
    _plain, wrapped = clustered
    before = cluster_weights(_model(), 16)
    for layer, fresh in zip(wrapped.layers, before.layers, strict=True):
        if isinstance(layer, ClusteredWeights):
            assert not np.allclose(np.sort(layer.centroids), np.sort(fresh.centroids))


def test_the_file_has_as_many_values(clustered, tmp_path):
    export_float(clustered[0], tmp_path / "model.tflite")
    stored = stored_kernels(tmp_path / "model.tflite")
    assert [len(np.unique(values)) for values in stored.values()] == [16, 16, 16]


def test_zeros_of_a_pruned_model_stay_the_same_zeros(pruned, data):
    wrapped = cluster_weights(pruned, 8)
    _fit(wrapped, data)
    before = {kernel.name: kernel.values for kernel in kernels_of(pruned)}
    for kernel in kernels_of(strip_clusters(wrapped)):
        assert np.array_equal(kernel.values == 0, before[kernel.name] == 0)
        assert len(np.unique(kernel.values)) == 8


def test_excluded_layers_keep_their_weights(data):
    model = _model()
    stripped = strip_clusters(cluster_weights(model, 8, exclude=["^last$"]))
    assert np.array_equal(stripped.get_layer("last").kernel, model.get_layer("last").kernel)
    with pytest.raises(UsageError) as caught:
        cluster_weights(model, 8, exclude=["."])
    assert caught.value.code == "EK752"
    with pytest.raises(UsageError, match="1 clusters"):
        cluster_weights(model, 1)


def _qat(model, data, tmp_path, preserve, weight_bits=8):
    job = Job(
        "qat",
        "m",
        str(tmp_path / "o.keras"),
        "t",
        1,
        options={"preserve": preserve, "weight_bits": weight_bits},
    )
    prepared = prepare_qat(model, Context(job, None, None, tmp_path, print))
    _fit(prepared.model, data, prepared.callbacks)
    finished = prepared.finish(prepared.model)
    export_qat(finished, tmp_path / "int8.tflite")
    return prepared, list(stored_kernels(tmp_path / "int8.tflite").values())


@pytest.mark.slow
@pytest.mark.parametrize("weight_bits", [8, 4])
def test_qat_keeps_clusters_down_to_the_integers_of_the_file(clustered, data, tmp_path, weight_bits):
    prepared, stored = _qat(clustered[0], data, tmp_path, "clusters", weight_bits=weight_bits)
    kept = prepared.report(prepared.model)["kept"]
    assert [entry["clusters"] for entry in kept] == [True] * 3
    assert all(len(np.unique(values)) <= 16 for values in stored)
    assert all(values.dtype == np.int8 for values in stored)
    assert holds(kept, stored)
    assert [finding.code for finding in prepared.findings] == ["EK758"]


def test_qat_keeps_zeros_down_to_the_integers_of_the_file(pruned, data, tmp_path):
    prepared, stored = _qat(pruned, data, tmp_path, "auto")
    kept = prepared.report(prepared.model)["kept"]
    assert [entry["clusters"] for entry in kept] == [False] * 3
    wanted = {kernel.values.size: int((kernel.values == 0).sum()) for kernel in kernels_of(pruned)}
    assert all((values == 0).sum() >= wanted[values.size] for values in stored)
    assert holds(kept, stored)


def test_without_it_the_zeros_are_gone(pruned, data, tmp_path):
    prepared, stored = _qat(pruned, data, tmp_path, "none")
    wanted = structured(kernels_of(pruned), "sparsity")
    assert prepared.report(prepared.model)["kept"] == []
    assert not holds([entry.describe() for entry in wanted], stored)


def test_asking_for_a_structure_that_is_not_there_is_refused():
    with pytest.raises(UsageError) as caught:
        structured(kernels_of(_model()), "clusters")
    assert caught.value.code == "EK759"
    assert structured(kernels_of(_model()), "auto") == ()
    # A normalization that was never trained becomes a kernel of equal weights.
    begun = keras.Sequential([keras.Input((8, 8, 4)), layers.ReLU(), layers.BatchNormalization()])
    assert structured(kernels_of(apply_qat(begun)), "auto") == ()
