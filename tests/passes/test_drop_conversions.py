"""Conversions that change nothing are dropped, and all others stay."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit import flatbuffer
from edgekit.passes._scaling_groups import Graph
from edgekit.passes.drop_conversions import drop_conversions

_X = np.linspace(-3, 3, 4, dtype=np.float32).reshape(1, 4)


def network(made, *, scale, through_float, zero_point=0, is_output=False):
    """x is quantized by 0.05, perhaps made float again, quantized by ``scale``, added to itself, made float."""
    x = made.tensor("x", "float32", (1, 4))
    first = made.tensor("first", "int8", (1, 4), scale=0.05)
    second = made.tensor("second", "int8", (1, 4), scale=scale, zero_point=zero_point)
    total = made.tensor("total", "int8", (1, 4), scale=0.1)
    out = made.tensor("out", "float32", (1, 4))
    made.operator("QUANTIZE", [x], [first])
    source = first
    if through_float:
        source = made.tensor("between", "float32", (1, 4))
        made.operator("DEQUANTIZE", [first], [source], version=2)
    made.operator("QUANTIZE", [source], [second], version=2)
    made.operator("ADD", [second, second], [total], schema.AddOptionsT(potScaleInt16=False), version=2)
    made.operator("DEQUANTIZE", [total], [out], version=2)
    made.graph.inputs, made.graph.outputs = [x], [out, second] if is_output else [out]
    return made.bytes()


@pytest.mark.parametrize("through_float", [True, False])
def test_a_pair_with_equal_scales_is_dropped(through_float, made, run_tflite):
    model = network(made, scale=0.05, through_float=through_float)
    result = drop_conversions(model)
    graph = Graph(flatbuffer.read(result))
    assert graph.kinds == ["QUANTIZE", "ADD", "DEQUANTIZE"]
    assert len(graph.graph.tensors) == 4
    assert run_tflite(result, _X)[0].tolist() == run_tflite(model, _X)[0].tolist()


@pytest.mark.parametrize(
    "other", [{"scale": 0.06}, {"scale": 0.05, "zero_point": 1}, {"scale": 0.05, "is_output": True}]
)
def test_what_changes_integers_or_is_an_output_stays(other, made):
    model = network(made, through_float=True, **other)
    assert drop_conversions(model) == model


def test_a_float_tensor_that_something_else_reads_stays(made, run_tflite):
    model = network(made, scale=0.05, through_float=True)
    tree = flatbuffer.read(model)
    between = next(i for i, tensor in enumerate(tree.subgraphs[0].tensors) if tensor.name == b"between")
    tree.subgraphs[0].outputs = [*tree.subgraphs[0].outputs, between]
    model = flatbuffer.write(tree)
    result = drop_conversions(model)
    assert Graph(flatbuffer.read(result)).kinds == ["QUANTIZE", "DEQUANTIZE", "ADD", "DEQUANTIZE"]
    for one, other in zip(run_tflite(result, _X), run_tflite(model, _X), strict=True):
        assert one.tolist() == other.tolist()
