"""Signs that a sum takes: the outputs stay bit for bit, and no NEG is left for a quantizer to leave float."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit import flatbuffer
from edgekit.passes._scaling_groups import Graph
from edgekit.passes.subtract import subtract

_OPTIONS = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}
_X, _Y = np.array([[1.5, -2.25, 3.0]], np.float32), np.array([[0.1, 7.0, -0.3]], np.float32)


def network(made, *steps, outputs=None):
    """Operators in order: ``("ADD", "x", "n", "out")`` reads x and n and writes out; x and y are given."""
    names = {name: made.tensor(name, "float32", (1, 3)) for name in ("x", "y")}
    for kind, *inputs, output in steps:
        names[output] = made.tensor(output, "float32", (1, 3))
        options = _OPTIONS[kind]() if kind in _OPTIONS else None
        made.operator(kind, [names[name] for name in inputs], [names[output]], options)
    made.graph.inputs = [names["x"], names["y"]]
    made.graph.outputs = [names[name] for name in outputs or [steps[-1][-1]]]
    return made.bytes()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("NEG", "y", "n"), ("ADD", "x", "n", "out")], ["SUB"]),
        ([("NEG", "y", "n"), ("ADD", "n", "x", "out")], ["SUB"]),
        ([("NEG", "y", "n"), ("SUB", "x", "n", "out")], ["ADD"]),
        ([("NEG", "y", "n"), ("MUL", "n", "x", "p"), ("ADD", "p", "x", "out")], ["MUL", "SUB"]),
        ([("NEG", "x", "m"), ("NEG", "y", "n"), ("ADD", "m", "n", "out")], ["NEG", "SUB"]),
        ([("NEG", "y", "n"), ("SUB", "n", "x", "out")], ["NEG", "SUB"]),
        ([("NEG", "y", "n"), ("MUL", "n", "x", "p"), ("RELU", "p", "out")], ["NEG", "MUL", "RELU"]),
        ([("NEG", "y", "n"), ("ADD", "n", "n", "out")], ["NEG", "ADD"]),
        ([("NEG", "y", "n"), ("ADD", "x", "n", "p"), ("MUL", "n", "p", "out")], ["NEG", "ADD", "MUL"]),
    ],
)
def test_signs_go_into_sums(steps, expected, made, run_tflite):
    model = network(made, *steps)
    result = subtract(model)
    assert Graph(flatbuffer.read(result)).kinds == expected
    assert run_tflite(result, _X, _Y)[0].tolist() == run_tflite(model, _X, _Y)[0].tolist()
    assert (result == model) is (expected == [step[0] for step in steps])


def test_what_a_user_gets_keeps_its_sign(made):
    model = network(made, ("NEG", "y", "n"), ("ADD", "x", "n", "out"), outputs=["out", "n"])
    assert subtract(model) == model
