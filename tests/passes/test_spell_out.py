import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit import flatbuffer
from edgekit.passes.compact import compact
from edgekit.passes.spell_out import spell_out


def names(model):
    return [tensor.name for tensor in flatbuffer.read(model).subgraphs[0].tensors]


def test_every_tensor_of_a_compact_file_gets_a_name_of_its_own(models, run_tflite):
    before = compact(models.tflite_cnn.read_bytes())
    after = spell_out(before)
    assert not all(names(before))
    assert len(set(names(after))) == len(names(after))
    kept = [(old, new) for old, new in zip(names(before), names(after), strict=False) if old]
    assert kept
    assert all(old == new for old, new in kept)
    x = np.load(models.test_data)["x"][:1]
    np.testing.assert_array_equal(run_tflite(after, x)[0], run_tflite(before, x)[0])


def test_a_name_that_is_taken_is_not_given_twice(made):
    made.graph.inputs = made.graph.outputs = [made.tensor("tensor_0", "float32", (1, 4))]
    made.tensor("", "float32", (1, 4))
    assert names(spell_out(made.bytes())) == [b"tensor_0", b"tensor_1"]


def test_an_absent_bias_becomes_zeros(made, run_tflite):
    x = made.tensor("x", "float32", (1, 2))
    weights = made.tensor("w", "float32", (3, 2), values=[1, 2, 3, 4, 5, 6])
    y = made.tensor("y", "float32", (1, 3))
    made.graph.inputs, made.graph.outputs = [x], [y]
    made.operator("FULLY_CONNECTED", [x, weights, -1], [y], schema.FullyConnectedOptionsT())
    after = spell_out(made.bytes())
    (operator,) = flatbuffer.read(after).subgraphs[0].operators
    assert min(operator.inputs) >= 0
    assert run_tflite(after, np.array([[1, 10]], np.float32))[0].tolist() == [[21, 43, 65]]


def test_a_file_that_leaves_nothing_out_is_returned_as_it_is(models):
    content = spell_out(models.tflite_cnn.read_bytes())
    assert spell_out(content) is content
