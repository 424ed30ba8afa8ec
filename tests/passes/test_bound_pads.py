"""Paddings of max pools: the same outputs to the bit, and numbers that a quantizer can use."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st

from edgekit import flatbuffer
from edgekit.passes.bound_pads import bound_pads

_LOWEST = float(np.finfo(np.float32).min)
_VALID = {"padding": schema.Padding.VALID, "strideW": 2, "strideH": 2, "filterWidth": 3, "filterHeight": 3}


def pooled(made, *activations, value=_LOWEST, shown=False):
    """Activations of an image of 4x4, then a max pool of 3x3 and stride 2 with one more row and column around it."""
    here = made.tensor("x", "float32", (1, 4, 4, 2))
    made.graph.inputs = [here]
    for number, kind in enumerate(activations):
        there = made.tensor(f"a{number}", "float32", (1, 4, 4, 2))
        options = schema.MulOptionsT() if kind == "MUL" else None
        before = [here, made.graph.operators[-1].inputs[0]] if kind == "MUL" else [here]
        made.operator(kind, before, [there], options)
        here = there
    amounts = made.tensor("amounts", "int32", (4, 2), values=[[0, 0], [1, 1], [1, 1], [0, 0]])
    constant = made.tensor("lowest", "float32", (), values=[value])
    padded = made.tensor("padded", "float32", (1, 6, 6, 2))
    made.operator("PADV2", [here, amounts, constant], [padded], schema.PadV2OptionsT())
    y = made.tensor("y", "float32", (1, 2, 2, 2))
    made.operator("MAX_POOL_2D", [padded], [y], schema.Pool2DOptionsT(**_VALID))
    made.graph.outputs = [y, padded] if shown else [y]
    return made.bytes()


def pads(model):
    """The numbers that PADV2 pads with."""
    tree = flatbuffer.read(model)
    graph = tree.subgraphs[0]
    for operator in graph.operators:
        if tree.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.PADV2:
            data = tree.buffers[graph.tensors[operator.inputs[2]].buffer].data
            yield float(np.frombuffer(bytes(data), np.float32)[0])


@pytest.mark.parametrize(
    ("activations", "bound"),
    [(["RELU"], 0.0), (["TANH"], -1.0), (["LOGISTIC", "MUL"], -0.279)],
)
@pytest.mark.parametrize("value", [_LOWEST, -np.inf])
def test_the_bound_of_the_activation_is_padded(made, run_tflite, activations, bound, value):
    before = pooled(made, *activations, value=value)
    after = bound_pads(before)
    assert list(pads(after)) == [pytest.approx(bound)]
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 2), scale=3).astype(np.float32)
    np.testing.assert_array_equal(run_tflite(after, x)[0], run_tflite(before, x)[0])


@pytest.mark.parametrize(
    "what",
    [
        {"activations": []},  # nothing tells how small the input can be
        {"activations": ["SQRT"]},
        {"activations": ["RELU"], "value": -1.0},  # a number that somebody meant
        {"activations": ["RELU"], "shown": True},  # what is padded goes out
    ],
)
def test_other_files_stay_as_they_are(made, what):
    before = pooled(made, *what.pop("activations"), **what)
    assert bound_pads(before) == before


@given(st.floats(-1e4, 1e4, width=32))
def test_silu_is_never_less_than_its_bound(value):
    sigmoid = 1 / (1 + np.exp(min(-value, 700.0)))
    assert value * sigmoid >= -0.279
