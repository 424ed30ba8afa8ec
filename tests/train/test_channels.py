"""Channels that stand or fall together are found, and a model without some of them computes what it should."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from edgekit.errors import UsageError
from edgekit.train.channel_pruning import ChannelOptions, Ranking, prune_channels, without
from edgekit.train.channel_scores import Samples, channel_scores
from edgekit.train.channels import Channels
from edgekit.train.graph import Graph


def _conv(x, filters, size=3, **options):
    x = layers.Conv2D(filters, size, padding="same", use_bias=False, **options)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _residual():
    x = inputs = keras.Input((8, 8, 3))
    x = _conv(x, 8)
    x = layers.Add()([x, layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(_conv(x, 12)))])
    x = layers.ReLU()(x) + _conv(x, 8, 1)
    return keras.Model(inputs, layers.Dense(5, "softmax")(layers.GlobalAveragePooling2D()(x)))


def _mobile():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.ZeroPadding2D(1)(_conv(x, 8, strides=2))
    x = layers.ReLU(6)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, depth_multiplier=2)(x)))
    x = layers.SeparableConv2D(12, 3, depth_multiplier=2, activation="relu")(_conv(x, 10, 1))
    return keras.Model(inputs, layers.Dense(4)(layers.Dense(9, "relu")(layers.Flatten()(x))))


def _concatenated():
    x = inputs = keras.Input((8, 8, 2))
    left, right = _conv(x, 6), layers.AveragePooling2D(3, 1, "same")(_conv(x, 8, 1))
    x = layers.Concatenate()([left, right])
    x = layers.Multiply()([x, _conv(inputs, 14)])
    x = layers.UpSampling2D()(layers.MaxPooling2D()(x))
    x = layers.Conv2DTranspose(7, 3, strides=2, activation="relu")(x)
    return keras.Model(inputs, layers.Conv2D(2, 1)(layers.PReLU(shared_axes=[1, 2])(x)))


def _squeezed():
    """A gate per channel, whose Reshape has the number of channels in its configuration."""
    x = inputs = keras.Input((6, 6, 3))
    x = _conv(x, 8)
    gate = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Conv2D(8, 1, activation="sigmoid")(layers.Conv2D(6, 1, activation="relu")(gate))
    x = layers.Multiply()([x, gate])
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.Reshape((6, 48))(x))))


def _shared():
    """One layer called twice, inside of a nested model, and two inputs and outputs."""
    inner_in = keras.Input((6, 6, 5))
    inner = keras.Model(inner_in, layers.Conv2D(5, 3, padding="same", activation="relu")(_conv(inner_in, 8)))
    first, second = keras.Input((6, 6, 3), name="a"), keras.Input((6, 6, 4), name="b")
    x, y = inner(layers.Conv2D(5, 1)(first)), inner(layers.Conv2D(5, 1, activation="relu")(second))
    ends = [layers.Dense(3)(layers.GlobalMaxPooling2D()(tensor)) for tensor in (x, x - y)]
    return keras.Model([first, second], ends)


def _series():
    x = inputs = keras.Input((16, 2))
    x = layers.Conv1D(8, 3, activation="relu")(x)
    x = layers.BatchNormalization()(layers.Conv1D(6, 3, dilation_rate=2, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


_MODELS = [_residual, _mobile, _concatenated, _squeezed, _shared, _series]


def _trained(build):
    """The model with weights, means and variances that nothing is symmetric in."""
    keras.utils.set_random_seed(3)
    model = build()
    generator = np.random.default_rng(3)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(generator.normal(size=layer.bias.shape))
    return model


def _inputs(model):
    generator = np.random.default_rng(4)
    given = [generator.normal(size=(3, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    return given[0] if len(given) == 1 else given


def _everything(channels):
    return np.ones(channels.count, np.bool_)


def _some(channels, seed):
    keep = _everything(channels)
    units = np.flatnonzero(channels.removable)
    generator = np.random.default_rng(seed)
    for group in np.unique(channels.groups[units]):
        members = units[channels.groups[units] == group]
        keep[generator.choice(members, len(members) // 2, replace=False)] = False
    return keep


def _set_to_zero(model, channels, keep):
    """In the old model: what reads a channel that goes has weights of zero for it."""
    for axis, numbers in channels.of.items():
        kernel = getattr(axis.layer.operation, axis.weight)
        if "kernel" in axis.weight and not axis.makes:
            values = np.moveaxis(kernel.numpy(), axis.axis, 0)
            values[~keep[numbers]] = 0
            kernel.assign(np.moveaxis(values, 0, axis.axis))


@pytest.mark.parametrize("build", _MODELS)
def test_a_model_without_channels_computes_what_it_computes_with_them_set_to_zero(build):
    model = _trained(build)
    channels = Channels(Graph(model))
    keep = _some(channels, 5)
    small = without(channels, keep)
    x = _inputs(model)
    untouched = keras.tree.flatten(model(x))
    _set_to_zero(model, channels, keep)
    for got, want, before in zip(
        keras.tree.flatten(small(x)), keras.tree.flatten(model(x)), untouched, strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
        assert np.abs(np.asarray(got) - np.asarray(before)).max() > 1e-3
    assert small.count_params() < model.count_params()


@pytest.mark.parametrize("build", _MODELS)
def test_costs_of_what_is_left_are_those_of_the_smaller_model(build):
    channels = Channels(Graph(_trained(build)))
    keep = _some(channels, 6)
    small = without(channels, keep)
    again = Channels(Graph(small))
    assert channels.parameters(keep) == small.count_params()
    assert channels.macs(keep) == again.macs(_everything(again))
    assert channels.parameters(_everything(channels)) == channels.graph.model.count_params()


def test_macs_are_counted_by_hand():
    channels = Channels(Graph(_residual()))
    # 8x8 positions of 3x3 convolutions 3-8, 8-12, 12-8, a 1x1 convolution 8-8, and a dense layer 8-5.
    assert channels.macs(_everything(channels)) == 64 * (9 * (3 * 8 + 8 * 12 + 12 * 8) + 8 * 8) + 8 * 5


def test_a_residual_group_is_pruned_together():
    small = prune_channels(_trained(_residual), target_macs=0.5, options=ChannelOptions(multiple=2))
    first, inner, second, third = (x for x in small.layers if isinstance(x, layers.Conv2D))
    assert first.filters == second.filters == third.filters
    assert first.filters * inner.filters < 8 * 12


def test_what_is_not_understood_keeps_its_channels_and_is_named():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.LayerNormalization(name="norm")(layers.Conv2D(8, 3, name="before")(x))
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(layers.Conv2D(8, 3, name="between")(x))
    x = layers.Conv2D(6, 1, name="free")(x)
    channels = Channels(Graph(keras.Model(inputs, layers.Dense(2, name="end")(layers.Flatten()(x)))))
    assert channels.pinned == {
        "before": "norm (LayerNormalization)",
        "between": "grouped (Conv2D)",
        "end": "an output of the model",
    }
    assert channels.removable.sum() == 6


def test_an_excluded_layer_stays_as_it_is():
    channels = Channels(Graph(_series()), ("^conv1d",))
    assert not channels.removable.any()


def test_minimum_and_multiple_hold_in_every_layer():
    channels = Channels(Graph(_trained(_concatenated)))
    ranking = Ranking(
        channels, np.arange(channels.count, dtype=float), ChannelOptions(min_channels=3, multiple=2)
    )
    for removed in range(ranking.most + 1):
        keep = ranking.keep(removed)
        for axis, numbers in channels.of.items():
            if axis.makes and channels.removable[numbers].all():
                assert keep[numbers].sum() == len(numbers) or keep[numbers].sum() % 2 == 0
                assert keep[numbers].sum() >= 3


def test_the_scope_layer_takes_the_same_share_of_each_layer():
    model = _trained(_series)
    model.layers[1].kernel.assign(model.layers[1].kernel * 100)
    options = ChannelOptions(scope="layer", min_channels=1, multiple=1)
    small = prune_channels(model, target_macs=0.3, options=options)
    first, second = (layer.filters for layer in small.layers if isinstance(layer, layers.Conv1D))
    assert abs(first / 8 - second / 6) <= 1 / 6


def test_a_budget_is_kept_as_closely_as_channels_allow():
    model = _trained(_mobile)
    channels = Channels(Graph(model))
    whole = channels.macs(_everything(channels))
    for share in (0.9, 0.6, 0.4):
        small = Channels(
            Graph(
                prune_channels(model, target_macs=share, options=ChannelOptions(min_channels=1, multiple=1))
            )
        )
        assert 0.75 * share * whole < small.macs(_everything(small)) <= share * whole


def test_a_budget_that_cannot_be_kept_names_the_nearest():
    model = _trained(_residual)
    channels = Channels(Graph(model))
    ranking = Ranking(channels, np.zeros(channels.count), ChannelOptions())
    least = channels.macs(ranking.keep(ranking.most))
    with pytest.raises(UsageError, match=f"1 MACs cannot be reached: {least:,} is the least") as caught:
        prune_channels(model, target_macs=1)
    assert caught.value.code == "EK745"
    prune_channels(model, target_macs=least)


@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_norms_are_those_of_the_filters(criterion):
    model = _trained(_series)
    channels = Channels(Graph(model))
    kernel = np.asarray(model.layers[1].kernel)
    norms = np.abs(kernel).sum((0, 1)) if criterion == "l1" else np.sqrt((kernel**2).sum((0, 1)))
    made = next(numbers for axis, numbers in channels.of.items() if axis.makes)
    np.testing.assert_allclose(channel_scores(channels, criterion)[made], norms / norms.mean(), rtol=1e-5)


def test_the_batch_norm_criterion_is_the_scale_and_others_go_last():
    model = _trained(_series)
    channels = Channels(Graph(model))
    scores = channel_scores(channels, "batch-norm")
    plain, scaled, _end = (numbers for axis, numbers in channels.of.items() if axis.makes)
    np.testing.assert_allclose(scores[scaled], np.abs(model.layers[3].gamma), rtol=1e-6)
    assert np.isinf(scores[plain]).all()
    with pytest.raises(UsageError, match="No channel that may be removed"):
        channel_scores(Channels(Graph(_plain())), "batch-norm")


def _plain():
    x = inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(8, "relu")(x)))


def test_taylor_is_the_derivative_of_the_loss_by_a_gate_on_the_channel():
    model = _trained(_residual)
    channels = Channels(Graph(model))
    x = _inputs(model)
    y = tf.constant([0, 1, 2])
    loss = keras.losses.SparseCategoricalCrossentropy()
    scores = channel_scores(channels, "taylor", Samples([(x, y)], loss))
    inner = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)][1]
    numbers = next(n for axis, n in channels.of.items() if axis.layer.operation is inner)
    gamma, beta, mean, variance = inner.get_weights()
    for channel in (0, 7):
        losses = []
        for gate in (1.001, 0.999):
            factor = np.where(np.arange(12) == channel, gate, 1.0)
            inner.set_weights([gamma * factor, beta * factor, mean, variance])
            losses.append(float(loss(y, model(x))))
        inner.set_weights([gamma, beta, mean, variance])
        derivative = (losses[0] - losses[1]) / 0.002
        assert scores[numbers[channel]] == pytest.approx(derivative**2, rel=0.05, abs=1e-7)


def test_taylor_without_samples_is_refused():
    with pytest.raises(UsageError, match="needs samples"):
        prune_channels(_plain(), target_macs=0.5, options=ChannelOptions(criterion="taylor"))
