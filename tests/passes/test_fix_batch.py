import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgekit import flatbuffer
from edgekit.errors import ModelError
from edgekit.passes.compact import compact
from edgekit.passes.fix_batch import fix_batch


def flattening(made, *, signature=(-1, 2, 3)):
    """What a converter makes of Flatten with a free batch: (n, 2, 3) to (n, 6) through SHAPE and PACK."""
    x = made.tensor("x", "float32", (1, 2, 3), signature=signature)
    sizes = made.tensor("sizes", "int32", (3,))
    one, zero, width = (
        made.tensor(n, "int32", s, values=v)
        for n, s, v in (("one", (1,), [1]), ("zero", (1,), [0]), ("width", (), 6))
    )
    size = made.tensor("size", "int32", ())
    shape = made.tensor("shape", "int32", (2,))
    y = made.tensor("y", "float32", (1, 6), signature=(-1, 6))
    made.graph.inputs, made.graph.outputs = [x], [y]
    first = schema.StridedSliceOptionsT(shrinkAxisMask=1)
    made.operator("SHAPE", [x], [sizes], schema.ShapeOptionsT(outType=schema.TensorType.INT32))
    made.operator("STRIDED_SLICE", [sizes, zero, one, one], [size], first)
    made.operator("PACK", [size, width], [shape], schema.PackOptionsT(valuesCount=2))
    made.operator("RESHAPE", [x, shape], [y])
    made.signature({"x": x}, {"y": y})
    return made.bytes()


@pytest.mark.parametrize("batch", [1, 3])
def test_shape_arithmetic_becomes_a_constant(made, run_tflite, batch):
    before = flattening(made)
    after = fix_batch(before, batch)

    graph = flatbuffer.read(after).subgraphs[0]
    assert len(graph.operators) == 1
    assert [(tensor.name, list(tensor.shape)) for tensor in graph.tensors] == [
        (b"x", [batch, 2, 3]),
        (b"shape", [2]),
        (b"y", [batch, 6]),
    ]
    assert all(tensor.shapeSignature is None for tensor in graph.tensors)
    x = np.arange(batch * 6, dtype=np.float32).reshape(batch, 2, 3)
    np.testing.assert_array_equal(run_tflite(after, x)[0], x.reshape(batch, 6))
    runner = Interpreter(model_content=after).get_signature_runner("serving_default")
    np.testing.assert_array_equal(runner(x=x)["y"], x.reshape(batch, 6))


def test_a_converted_model_gives_equal_outputs_and_a_fixed_shape(models, run_tflite):
    before = models.tflite_cnn_dynamic_batch.read_bytes()
    after = fix_batch(before, 4)
    (detail,) = Interpreter(model_content=after).get_input_details()
    assert detail["shape"].tolist() == detail["shape_signature"].tolist() == [4, 8, 8, 1]
    x = np.load(models.test_data)["x"][:4]
    for reference in (False, True):
        old, new = (run_tflite(model, x, reference=reference)[0] for model in (before, after))
        np.testing.assert_allclose(new, old, atol=0 if reference else 1e-6)


def test_a_fixed_model_is_returned_as_it_is(models):
    content = models.tflite_cnn.read_bytes()
    assert fix_batch(content) is content


def test_a_free_length_is_refused(made):
    content = flattening(made, signature=(-1, -1, 3))
    with pytest.raises(ModelError, match="sizes other than the batch") as caught:
        fix_batch(content)
    assert caught.value.code == "EK354"


def test_a_batch_that_the_graph_contradicts_is_refused(made):
    """The file says that its batch is free, but reshapes to one sample."""
    x = made.tensor("x", "float32", (1, 4), signature=(-1, 4))
    y = made.tensor("y", "float32", (1, 2, 2), signature=(-1, 2, 2))
    made.graph.inputs, made.graph.outputs = [x], [y]
    made.operator("RESHAPE", [x, made.tensor("shape", "int32", (3,), values=[1, 2, 2])], [y])
    content = made.bytes()
    assert fix_batch(content, 1) is not content
    with pytest.raises(ModelError, match="does not run"):
        fix_batch(content, 2)


@pytest.mark.acceptance
def test_public_models_with_a_free_batch(assets, run_tflite):
    fixed = 0
    for path in sorted(assets.rglob("*.tflite")):
        before = path.read_bytes()
        after = fix_batch(before)
        fixed += after is not before
        arrays = []
        for detail in Interpreter(model_content=after).get_input_details():
            assert -1 not in detail["shape_signature"], path
            arrays.append(np.random.default_rng(0).integers(0, 100, detail["shape"]).astype(detail["dtype"]))
        old, new = (run_tflite(model, *arrays, reference=True) for model in (before, compact(after)))
        assert [array.tobytes() for array in old] == [array.tobytes() for array in new], path
    assert fixed >= 14
