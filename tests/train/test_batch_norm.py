"""Folding leaves the function alone and takes the normalizations out."""

import keras
import numpy as np
import pytest
from keras import layers

from edgekit.train.batch_norm import fold_batch_norm

LAYERS = {
    "conv": (layers.Conv2D(6, 3, use_bias=False), (9, 9, 3)),
    "conv with bias": (layers.Conv2D(6, 3, strides=2, padding="same"), (9, 9, 3)),
    "grouped conv": (layers.Conv2D(6, 3, groups=3), (9, 9, 3)),
    "depthwise": (layers.DepthwiseConv2D(3, use_bias=False), (9, 9, 4)),
    "depthwise, two each": (layers.DepthwiseConv2D(3, depth_multiplier=2), (9, 9, 4)),
    "transposed": (layers.Conv2DTranspose(5, 3, use_bias=False), (9, 9, 3)),
    "conv over time": (layers.Conv1D(6, 3), (9, 3)),
    "dense": (layers.Dense(6, use_bias=False), (7,)),
}


def spoilt(model):
    """Weights and statistics as a training leaves them: none is 0 or 1."""
    generator = np.random.default_rng(0)
    model.set_weights([generator.uniform(0.2, 1.5, value.shape) for value in model.get_weights()])
    return model


def norms(model):
    return [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


@pytest.mark.parametrize("scale", [True, False], ids=["scaled", "not scaled"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_function_stays_and_the_norm_goes(name, scale):
    layer, shape = LAYERS[name]
    layer = type(layer).from_config({**layer.get_config(), "name": None})
    given = keras.Input(shape)
    normed = layers.BatchNormalization(scale=scale, center=scale, epsilon=1e-2)(layer(given))
    model = spoilt(keras.Model(given, layers.ReLU()(normed)))
    folded = fold_batch_norm(model)
    assert len(norms(folded)) == 0
    x = np.random.default_rng(1).standard_normal((4, *shape), np.float32)
    np.testing.assert_allclose(folded(x), model(x, training=False), rtol=2e-4, atol=2e-4)


def test_what_cannot_be_folded_stays():
    given = keras.Input((9, 9, 3))
    shared = layers.Conv2D(3, 3, padding="same")
    read_twice = layers.Conv2D(3, 3, padding="same")(given)
    active = layers.Conv2D(3, 3, padding="same", activation="relu")(given)
    parts = [
        layers.BatchNormalization()(given),
        layers.BatchNormalization()(shared(given)),
        layers.BatchNormalization()(shared(read_twice)),
        layers.BatchNormalization()(read_twice),
        layers.BatchNormalization()(active),
        layers.BatchNormalization(axis=1)(layers.Conv2D(3, 3, padding="same")(given)),
    ]
    model = spoilt(keras.Model(given, layers.Add()(parts)))
    folded = fold_batch_norm(model)
    assert len(norms(folded)) == len(parts)
    x = np.random.default_rng(1).standard_normal((2, 9, 9, 3), np.float32)
    np.testing.assert_allclose(folded(x), model(x, training=False), rtol=1e-5)


def test_a_penalty_goes_where_a_norm_is_folded_and_stays_elsewhere():
    l2 = keras.regularizers.L2(0.01)
    model = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            keras.layers.Conv2D(3, 1, kernel_regularizer=l2),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(2, kernel_regularizer=l2),
        ]
    )
    assert len(model.losses) == 2
    assert len(fold_batch_norm(model).losses) == 1
