"""Balanced channels: the float function stays, and int8 gets back what bad scales took."""

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from handmade import Made
from hypothesis import given, settings
from hypothesis import strategies as st

import edgekit
from edgekit import flatbuffer
from edgekit.engines import Job, engine
from edgekit.passes import _channel_scales as scales
from edgekit.passes._layers import snr_db
from edgekit.passes._layers_tflite import TFLiteProbe, constant
from edgekit.passes._scaling_groups import Graph, find_groups, write_layer
from edgekit.passes.equalize import Changes, equalize
from edgekit.recipe import Recipe

_FUNCTIONS = schema.ActivationFunctionType


class Network:
    """Convolutions one behind another on (1, 6, 6, 3) images, written by hand."""

    def __init__(self, seed=0):
        self.made = Made()
        self.generator = np.random.default_rng(seed)
        self.inputs = [self.made.tensor("image", "float32", (1, 6, 6, 3))]
        self.last = self.inputs[0]

    def constant(self, values):
        values = np.asarray(values, np.float32)
        return self.made.tensor(
            f"constant{len(self.made.graph.tensors)}", "float32", values.shape, values=values
        )

    def output(self, shape):
        self.last = self.made.tensor(f"tensor{len(self.made.graph.tensors)}", "float32", shape)
        return self.last

    def conv(self, channels, *, size=1, activation="RELU", weights=None, bias=None, same=True):
        source = self.last
        shape = list(self.made.graph.tensors[source].shape)
        if weights is None:
            weights = self.generator.normal(size=(channels, size, size, shape[3])) / size / np.sqrt(shape[3])
        if bias is None:
            bias = self.generator.normal(size=channels) / 4
        options = schema.Conv2DOptionsT(
            padding=schema.Padding.SAME if same else schema.Padding.VALID,
            strideW=1,
            strideH=1,
            dilationWFactor=1,
            dilationHFactor=1,
            fusedActivationFunction=getattr(_FUNCTIONS, activation),
        )
        made = self.output((*shape[:3], channels))
        self.made.operator("CONV_2D", [source, self.constant(weights), self.constant(bias)], [made], options)
        return self

    def depthwise(self, *, activation="RELU"):
        source = self.last
        shape = list(self.made.graph.tensors[source].shape)
        weights = self.generator.normal(size=(1, 3, 3, shape[3])) / 2
        options = schema.DepthwiseConv2DOptionsT(
            padding=schema.Padding.SAME,
            strideW=1,
            strideH=1,
            depthMultiplier=1,
            dilationWFactor=1,
            dilationHFactor=1,
            fusedActivationFunction=getattr(_FUNCTIONS, activation),
        )
        made = self.output(shape)
        inputs = [source, self.constant(weights), self.constant(np.full(shape[3], 0.1))]
        self.made.operator("DEPTHWISE_CONV_2D", inputs, [made], options)
        return self

    def unary(self, kind):
        source = self.last
        self.made.operator(kind, [source], [self.output(self.made.graph.tensors[source].shape)])
        return self

    def plus(self, other):
        source = self.last
        made = self.output(self.made.graph.tensors[source].shape)
        options = schema.AddOptionsT(fusedActivationFunction=_FUNCTIONS.RELU)
        self.made.operator("ADD", [other, source], [made], options)
        return self

    def classes(self, count=4, *, flat=False):
        source = self.last
        shape = list(self.made.graph.tensors[source].shape)
        if flat:
            columns = int(np.prod(shape[1:]))
            target = self.made.tensor("target", "int32", (2,), values=[1, columns])
            flattened = self.output((1, columns))
            self.made.operator(
                "RESHAPE", [source, target], [flattened], schema.ReshapeOptionsT(newShape=[1, columns])
            )
        else:
            columns = shape[3]
            axes = self.made.tensor("axes", "int32", (2,), values=[1, 2])
            flattened = self.output((1, columns))
            self.made.operator("MEAN", [source, axes], [flattened], schema.ReducerOptionsT(keepDims=False))
        weights = self.generator.normal(size=(count, columns)) / np.sqrt(columns)
        made = self.output((1, count))
        inputs = [flattened, self.constant(weights), self.constant(np.zeros(count))]
        self.made.operator("FULLY_CONNECTED", inputs, [made], schema.FullyConnectedOptionsT())
        return self

    def bytes(self):
        self.made.graph.inputs, self.made.graph.outputs = self.inputs, [self.last]
        self.made.signature({"image": self.inputs[0]}, {"classes": self.last})
        return self.made.bytes()


def chain(seed=0, *, activation="RELU", flat=False):
    network = Network(seed).conv(8, size=3, activation=activation).depthwise(activation=activation)
    network.conv(12, activation=activation)
    return network.depthwise(activation=activation).conv(8, activation=activation).classes(flat=flat).bytes()


def unbalanced(model, *, largest=1000.0, seed=0):
    """The same function, every channel between layers scaled by 1 to ``largest``."""
    generator = np.random.default_rng(seed)
    graph = Graph(flatbuffer.read(model))
    changes = Changes()
    for group in find_groups(graph):
        factors = largest ** generator.uniform(size=group.channels)
        changes.add(group, factors, np.zeros(group.channels))

    def write(tree):
        for layer in changes.layers.values():
            write_layer(tree, layer)

    return flatbuffer.rewrite(model, write)


@pytest.fixture(scope="session")
def images():
    generator = np.random.default_rng(7)
    return {"image": generator.normal(size=(96, 6, 6, 3)).astype(np.float32)}


def same_db(one, other, samples):
    return snr_db(TFLiteProbe(other, {}), samples, list(TFLiteProbe(one, {}).outputs(samples)))


def int8_db(model, original, samples, folder):
    """The SNR of the bare int8 file against the float outputs, on samples that did not calibrate."""
    path = folder / "float.tflite"
    path.write_bytes(model)
    first = {name: values[:64] for name, values in samples.items()}
    job = Job(edgekit.open_artifact(path), Recipe.load("int8"), folder / "int8.tflite", first)
    engine("ai_edge_quantizer").quantize(job)
    return same_db(original, job.output.read_bytes(), {name: values[64:] for name, values in samples.items()})


def spreads(model, samples):
    """The widest channel's range over the median's, for every tensor that can be scaled."""
    graph = Graph(flatbuffer.read(model))
    groups = find_groups(graph)
    seen = scales.observe(model, scales.needed(groups), samples)
    spans = [seen[group.tensors[0]].span for group in groups]
    return [float(span.max() / np.median(span)) for span in spans]


@settings(max_examples=10)
@given(seed=st.integers(0, 2**16), flat=st.booleans())
def test_the_float_function_stays_and_ranges_come_together(seed, flat, images):
    original = chain(seed, flat=flat)
    hard = unbalanced(original, seed=seed)
    found = equalize(hard, images)
    assert same_db(original, found.model, images) > 100
    assert found.same_db > 100
    assert found.groups == 5
    assert max(spreads(found.model, images)) < max(spreads(hard, images)) / 4


def test_int8_comes_back(images, tmp_path):
    original = chain()
    hard = unbalanced(original)
    balanced = equalize(hard, images).model
    assert int8_db(hard, original, images, tmp_path) < 10
    assert int8_db(balanced, original, images, tmp_path) > int8_db(original, original, images, tmp_path) - 2


def test_balanced_channels_promise_nothing(images):
    balanced = equalize(unbalanced(chain()), images).model
    again = equalize(balanced, images)
    assert again.model == balanced
    assert again.gain_db == 0


def test_channels_at_the_bound_of_relu6_keep_their_scale(images):
    weights = np.zeros((3, 1, 1, 3))
    # The first channel reaches 6 by far; the others stay near 0.06 and 0.006, and count as much in the next layer.
    weights[0, 0, 0, 0], weights[1, 0, 0, 1], weights[2, 0, 0, 2] = 5, 0.02, 0.002
    network = Network().conv(3, activation="RELU6", weights=weights, bias=np.zeros(3))
    behind = np.array([1, 100, 1000.0]).reshape(1, 1, 1, 3) * np.ones((4, 1, 1, 1))
    model = network.conv(4, activation="NONE", weights=behind).bytes()
    found = equalize(model, images)
    assert found.same_db > 100
    graph = Graph(flatbuffer.read(found.model))
    scaled = graph.layers[0].weights[0, 0].T
    assert scaled[0, 0] == 5
    assert scaled[1, 1] > 10 * 0.02
    seen = scales.observe(found.model, {graph.layers[0].made}, images)[graph.layers[0].made]
    assert seen.largest[0] == pytest.approx(6)
    assert (seen.largest[1:] < 0.81 * 6).all()


def test_relu6_below_its_bound_is_balanced_as_relu(images):
    weights = np.zeros((2, 1, 1, 3))
    weights[0, 0, 0, 0], weights[1, 0, 0, 1] = 1, 0.001
    network = Network().conv(2, activation="RELU6", weights=weights, bias=np.zeros(2))
    behind = np.array([1, 1000.0]).reshape(1, 1, 1, 2) * np.ones((4, 1, 1, 1))
    found = equalize(network.conv(4, activation="NONE", weights=behind).bytes(), images)
    assert found.groups == 1
    assert found.same_db > 100
    assert max(spreads(found.model, images)) < 2


def test_a_function_that_lets_no_factor_through_is_left_alone(images):
    network = Network().conv(4, activation="NONE").unary("LOGISTIC").conv(4, activation="TANH").conv(4)
    model = network.bytes()
    assert find_groups(Graph(flatbuffer.read(model))) == []
    assert equalize(model, images).model == model


def test_tensors_that_are_added_are_scaled_alike(images):
    network = Network().conv(8, size=3)
    branch = network.last
    network.conv(8, size=3, activation="NONE").plus(branch)
    branch = network.last
    model = network.conv(8, activation="NONE").plus(branch).classes().bytes()
    groups = find_groups(Graph(flatbuffer.read(model)))
    # All three layers give to the sums; two of them and, after the mean, the last layer read them.
    assert [(len(group.givers), len(group.takers)) for group in groups] == [(3, 3)]
    hard = unbalanced(model, seed=3)
    found = equalize(hard, images)
    assert found.same_db > 100
    assert found.gain_db > 10


def test_weights_of_two_layers_are_left_alone(images):
    network = Network().conv(3, weights=np.eye(3).reshape(3, 1, 1, 3) * [[[[1]]], [[[50]]], [[[900]]]])
    made = network.made
    network.conv(3).conv(3)
    # The second and the third layer read the same weights.
    made.graph.operators[2].inputs[1] = made.graph.operators[1].inputs[1]
    model = network.bytes()
    assert equalize(model, images).model == model


def test_channels_that_are_never_excited_do_no_harm(images):
    weights = np.random.default_rng(1).normal(size=(6, 1, 1, 3))
    bias = np.array([0, 0, 0, -50, -50, 0.1])
    weights[4], weights[0] = 0, weights[0] * 300
    network = Network().conv(6, weights=weights, bias=bias).conv(6).classes()
    found = equalize(network.bytes(), images)
    assert found.same_db > 100
    scaled = [constant(flatbuffer.read(found.model), layer.weights_tensor) for layer in _layers(found.model)]
    assert all(np.isfinite(values).all() and np.abs(values).max() < 1e4 for values in scaled)


def _layers(model):
    return Graph(flatbuffer.read(model)).layers.values()


def test_a_bias_that_keeps_a_channel_positive_goes_to_the_next_layer():
    # Channel 1 is x + 10 for x within -1..1: it never ends below 9, its mean is 10 and its deviation 0.58.
    generator = np.random.default_rng(0)
    x = {"image": generator.uniform(-1, 1, size=(64, 6, 6, 3)).astype(np.float32)}
    first, second = np.eye(2, 3).reshape(2, 1, 1, 3), np.array([[2.0, 3.0]]).reshape(1, 1, 1, 2)
    network = (
        Network().conv(2, weights=first, bias=[0, 10]).conv(1, weights=second, bias=[1], activation="NONE")
    )
    model = network.bytes()
    found = equalize(model, x)
    assert found.absorbed == 1
    assert found.same_db > 100
    one, other = _layers(found.model)
    factor = one.weights[0, 0, 1, 1]
    # mean - 3 deviations = 10 - 3 * 0.577 = 8.27 goes over.
    assert one.bias[1] / factor == pytest.approx(10 - 8.27, abs=0.05)
    assert other.bias[0] == pytest.approx(1 + 3 * 8.27, abs=0.2)


def test_zero_padding_keeps_biases_where_they_are():
    generator = np.random.default_rng(0)
    x = {"image": generator.uniform(-1, 1, size=(64, 6, 6, 3)).astype(np.float32)}
    first = np.eye(2, 3).reshape(2, 1, 1, 3)
    model = Network().conv(2, weights=first, bias=[0, 10]).conv(2, size=3, activation="NONE").bytes()
    found = equalize(model, x)
    assert found.absorbed == 0
    assert found.groups == 0 or found.same_db > 100


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16))
def test_noise_does_not_depend_on_how_channels_were_scaled_before(seed):
    """The best factors undo any scaling: what is promised afterwards is the same."""
    generator = np.random.default_rng(seed)
    images = {"image": generator.normal(size=(16, 6, 6, 3)).astype(np.float32)}
    original = chain(seed)
    noises = []
    for model in (original, unbalanced(original, seed=seed)):
        graph = Graph(flatbuffer.read(model))
        groups = find_groups(graph)
        seen = scales.observe(model, scales.needed(groups), images)
        matters = scales.importances(graph, seen)
        found = [scales.Noise(group, seen, matters) for group in groups]
        noises.append([noise.of(noise.best()) for noise in found])
    # Where the original is better than all that is tried, it is kept: no other start can do better than that by much.
    np.testing.assert_allclose(np.log10(noises[1]), np.log10(noises[0]), atol=0.1)


def test_seen_folds_a_flattened_image():
    seen = scales.Seen(
        np.array([-1.0, 0, -3, 0]), np.array([1.0, 2, 3, 4]), np.zeros(4), np.array([1.0, 2, 3, 4])
    )
    folded = seen.folded(2)
    assert folded.span.tolist() == [6, 4]
    assert folded.power.tolist() == [2, 3]
    assert replace(folded, mean=np.array([1.0, 0])).deviation.tolist() == [1, np.sqrt(3)]


def test_a_shift_of_a_constant_channel_leaves_no_negative_power():
    """2.1 squared, rounded to 4.4, is less than it is: without its mean nothing may be left, and never less."""
    one = np.array([2.1])
    seen = scales.Seen(one, one, one, np.array([4.4]))
    assert seen.less(one).power.tolist() == [0]
    assert seen.less(np.array([1.0])).power[0] == pytest.approx(1.21)
