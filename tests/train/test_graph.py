"""A model taken apart into calls and built anew is the same function."""

import keras
import numpy as np
import pytest
from keras import layers

from edgekit.errors import ModelError
from edgekit.train.graph import Graph, copying


def block(name, channels):
    """Two residual halves: convolution, batch norm, relu, and the input added."""
    given = keras.Input((6, 6, channels))
    x = layers.Conv2D(channels, 3, padding="same", name="conv")(given)
    x = layers.BatchNormalization(name="norm")(x)
    return keras.Model(given, layers.ReLU(name="relu")(x) + given, name=name)


@pytest.fixture(scope="module")
def branched():
    """Two inputs and two outputs, a nested model called twice, a shared layer, operations without layers."""
    image, vector = keras.Input((8, 8, 3), name="image"), keras.Input((5,), name="vector")
    shared, inner = layers.Dense(4, name="shared"), block("block", 8)
    x = inner(inner(layers.Conv2D(8, 3, name="conv")(image)))
    x = keras.ops.concatenate([layers.GlobalAveragePooling2D(name="mean")(x), vector], -1)
    first, second = shared(layers.Dense(4)(x)), shared(layers.Dense(4)(x)) * 2.0
    return keras.Model({"image": image, "vector": vector}, {"a": first, "b": second})


def samples(model):
    generator = np.random.default_rng(0)
    return {
        tensor.name: generator.random([3, *tensor.shape[1:]], np.float32)
        for tensor in keras.tree.flatten(model.input)
    }


def test_a_copy_gives_what_the_model_gives(branched):
    graph = Graph(branched)
    copy = graph.build(copying(graph))
    given = samples(branched)
    expected, found = branched(given), copy(given)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert copy.count_params() == branched.count_params()


def test_a_copy_has_weights_of_its_own(branched):
    graph = Graph(branched)
    before = [value.copy() for value in branched.get_weights()]
    copy = graph.build(copying(graph))
    copy.set_weights([value + 1 for value in copy.get_weights()])
    for value, was in zip(branched.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, was)


def test_nested_models_are_opened_up_and_shared_layers_stay_one(branched):
    graph = Graph(branched)
    names = [call.name for call in graph.calls]
    assert names.count("block/conv") == 2
    assert names.count("shared") == 2
    assert len(list(graph.layers())) == len({id(call.operation) for call in graph.calls if call.is_layer})
    copy = graph.build(copying(graph))
    assert sum(layer.name.endswith("conv") for layer in copy.layers) == 2  # the block's and the first one


def test_a_copy_can_be_saved_and_loaded(branched, tmp_path):
    graph = Graph(branched)
    path = tmp_path / "copy.keras"
    graph.build(copying(graph)).save(path)
    given = samples(branched)
    loaded = keras.saving.load_model(path)
    np.testing.assert_allclose(loaded(given)["a"], branched(given)["a"], rtol=1e-6)


def test_consumers_and_producers_are_those_of_the_graph(branched):
    graph = Graph(branched)
    for call in graph.calls:
        for number in call.outputs:
            assert graph.producer[number] is call
        for number in call.inputs:
            assert call in graph.consumers[number]
    added = next(call for call in graph.calls if call.name.startswith("block/add"))
    assert graph.only_consumer(added.inputs[0]) is added
    # What is added is also what the convolution reads.
    assert graph.only_consumer(added.inputs[1]) is None


def test_an_output_has_no_only_consumer():
    given = keras.Input((4,))
    hidden = layers.Dense(3)(given)
    graph = Graph(keras.Model(given, [hidden, layers.Dense(2)(hidden)]))
    assert graph.only_consumer(graph.calls[0].outputs[0]) is None


def test_a_sequential_model_inside_of_another():
    inner = keras.Sequential([layers.Input((3,)), layers.Dense(5)])
    model = keras.Sequential([layers.Input((4,)), layers.Dense(3), inner])
    graph = Graph(model)
    given = np.random.default_rng(0).random((2, 4), np.float32)
    np.testing.assert_array_equal(graph.build(copying(graph))(given), model(given))


class Own(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    "model", [Own(), keras.Sequential([layers.Dense(3)])], ids=["subclassed", "without an input"]
)
def test_a_model_without_a_graph_is_refused(model):
    with pytest.raises(ModelError) as refused:
        Graph(model)
    assert refused.value.code == "EK720"
