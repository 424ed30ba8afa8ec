"""Factors and summands behind a layer: folded where nothing else sees what stands between."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from handmade import Made
from hypothesis import given
from hypothesis import strategies as st

from edgekit import flatbuffer
from edgekit.passes._layers_tflite import constant
from edgekit.passes._scaling_groups import Graph
from edgekit.passes.fold_batch_norm import fold_batch_norm

_FUNCTIONS = schema.ActivationFunctionType
_X = np.array([[1.0, 2.0]], np.float32)


def network(*steps, activation="NONE", bias=True, is_read_twice=False):
    """``x @ [[1, 3, 5], [2, 4, 6]] + [1, 1, 1]``, and behind it ``(kind, numbers, activation)`` of each step."""
    made = Made()
    x = made.tensor("x", "float32", (1, 2))
    weights = made.tensor("w", "float32", (3, 2), values=[[1, 2], [3, 4], [5, 6]])
    inputs = [x, weights, *([made.tensor("b", "float32", (3,), values=[1, 1, 1])] if bias else [])]
    last = between = made.tensor("y", "float32", (1, 3))
    options = schema.FullyConnectedOptionsT(fusedActivationFunction=getattr(_FUNCTIONS, activation))
    made.operator("FULLY_CONNECTED", inputs, [last], options)
    for index, (kind, numbers, function) in enumerate(steps):
        shape = np.shape(numbers)
        number = made.tensor(f"c{index}", "float32", shape, values=numbers)
        after = made.tensor(f"z{index}", "float32", (1, 3))
        kinds = {
            "MUL": schema.MulOptionsT,
            "ADD": schema.AddOptionsT,
            "SUB": schema.SubOptionsT,
            "DIV": schema.DivOptionsT,
        }
        options = kinds[kind](fusedActivationFunction=getattr(_FUNCTIONS, function))
        made.operator(kind, [last, number], [after], options)
        last = after
    made.graph.inputs = [x]
    made.graph.outputs = [last, between] if is_read_twice else [last]
    return made.bytes()


def kinds(model):
    return Graph(flatbuffer.read(model)).kinds


def test_a_batch_norm_is_folded_by_hand(run_tflite):
    model = network(("MUL", [2, 3, 4], "NONE"), ("ADD", [10, 20, 30], "RELU"))
    folded = fold_batch_norm(model)
    assert kinds(folded) == ["FULLY_CONNECTED"]
    graph = Graph(flatbuffer.read(folded))
    layer = graph.layers[0]
    assert layer.weights.tolist() == [[2, 9, 20], [4, 12, 24]]
    assert layer.bias.tolist() == [12, 23, 34]
    assert layer.activation == "RELU"
    # What is gone leaves no tensors behind.
    assert len(graph.graph.tensors) == 4
    # 1 * 2 + 2 * 4 + 12, and so on.
    assert run_tflite(folded, _X)[0].tolist() == [[22, 56, 102]]


def test_a_layer_without_bias_gets_one(run_tflite):
    model = network(("SUB", [1, 2, 3], "NONE"), ("DIV", [2, 2, 4], "NONE"), bias=False)
    folded = fold_batch_norm(model)
    assert kinds(folded) == ["FULLY_CONNECTED"]
    tree = flatbuffer.read(folded)
    assert constant(tree, Graph(tree).layers[0].bias_tensor).tolist() == [-0.5, -1, -0.75]
    assert run_tflite(folded, _X)[0].tolist() == run_tflite(model, _X)[0].tolist()


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        ([("ADD", [1, 2, 3], "NONE")], {"activation": "RELU"}),
        ([("MUL", [1, -2, 3], "NONE")], {"activation": "RELU"}),
        ([("MUL", [1, 2, 3], "NONE")], {"activation": "RELU6"}),
        ([("MUL", [1, 2, 3], "RELU6")], {"activation": "RELU"}),
        ([("MUL", [1, 2, 3], "NONE")], {"is_read_twice": True}),
        ([("DIV", [1, 0, 3], "NONE")], {}),
        ([], {}),
    ],
)
def test_what_something_between_forbids_is_left_alone(steps, options):
    model = network(*steps, **options)
    assert fold_batch_norm(model) == model


def test_a_shared_bias_is_changed_for_one_layer_alone(run_tflite):
    made = Made()
    x = made.tensor("x", "float32", (1, 2))
    weights = [made.tensor(name, "float32", (2, 2), values=np.eye(2)) for name in ("v", "w")]
    bias, two = made.tensor("b", "float32", (2,), values=[1, 1]), made.tensor("two", "float32", (), values=2)
    y, z, last = (made.tensor(name, "float32", (1, 2)) for name in ("y", "z", "last"))
    made.operator("FULLY_CONNECTED", [x, weights[0], bias], [y], schema.FullyConnectedOptionsT())
    made.operator("MUL", [y, two], [z], schema.MulOptionsT())
    made.operator("FULLY_CONNECTED", [z, weights[1], bias], [last], schema.FullyConnectedOptionsT())
    made.graph.inputs, made.graph.outputs = [x], [last]
    folded = fold_batch_norm(made.bytes())
    assert kinds(folded) == ["FULLY_CONNECTED", "FULLY_CONNECTED"]
    assert run_tflite(folded, _X)[0].tolist() == [[5, 7]]


@given(
    kinds_=st.lists(st.sampled_from(["MUL", "ADD", "SUB", "DIV"]), max_size=4),
    numbers=st.lists(st.floats(0.25, 4).map(np.float32), min_size=3, max_size=3),
    activation=st.sampled_from(["NONE", "RELU"]),
)
def test_the_outputs_stay(kinds_, numbers, activation, run_tflite):
    model = network(*((kind, [float(n) for n in numbers], "NONE") for kind in kinds_), activation=activation)
    np.testing.assert_allclose(
        run_tflite(fold_batch_norm(model), _X)[0], run_tflite(model, _X)[0], rtol=1e-5, atol=1e-5
    )
