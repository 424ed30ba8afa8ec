"""The rules for XNNPACK beside what XNNPACK does, on files of one operator and on networks."""

import numpy as np
import pytest
from accelerators.real_placement import xnnpack_took
from ai_edge_litert import schema_py_generated as schema
from handmade import Made

from edgekit.accelerators import Place, xnnpack
from edgekit.artifact import Format
from edgekit.operators import operators
from edgekit.target import Target

_PI = Target.load("raspberry-pi-4")


def predicted(path):
    found = [operator for operator in operators(path, Format.TFLITE) if operator.graph == 0]
    verdicts = xnnpack.judge(found, _PI)
    kinds = [operator.kind for operator in found]
    return list(
        zip(kinds, (verdict.place is Place.ACCELERATED for verdict in verdicts), strict=True)
    ), verdicts


def check(path, *, accelerated, reason=""):
    said, verdicts = predicted(path)
    assert said == xnnpack_took(path)
    assert [taken for _kind, taken in said] == accelerated
    assert reason in " ".join(verdict.reason for verdict in verdicts)


def one(
    tmp_path, kind, inputs, output, options=None, *, constants=(), dtype="float32", scale=None, version=1
):
    """A file of one operator: shapes of the inputs and of the output, then constants."""
    made = Made()
    given = [
        made.tensor(f"x{place}", dtype, shape, scale=scale, signature=None)
        for place, shape in enumerate(inputs)
    ]
    stored = [
        made.tensor(f"c{place}", str(values.dtype), values.shape, values=values)
        for place, values in enumerate(constants)
    ]
    result = made.tensor("y", dtype, output, scale=scale)
    made.operator(kind, [*given, *stored], [result], options, version=version)
    made.graph.inputs, made.graph.outputs = given, [result]
    path = tmp_path / "one.tflite"
    path.write_bytes(made.bytes())
    return path


@pytest.mark.parametrize("name", ["tflite_cnn", "tflite_cnn_int8", "tflite_cnn_dynamic_batch"])
def test_networks(models, name):
    path = getattr(models, name)
    said, verdicts = predicted(path)
    assert said == xnnpack_took(path)
    assert all(verdict.reason for verdict in verdicts if verdict.place is not Place.ACCELERATED)


@pytest.mark.parametrize("recipe", ["dynamic", "float16", "weight_only", "int16x8", "int4"])
def test_recipes(models, tmp_path, recipe):
    import edgekit

    path = tmp_path / "model.tflite"
    needs_data = recipe in {"int16x8", "int4"}
    data = str(models.train_data) if needs_data else None
    edgekit.quantize(models.tflite_cnn, path, recipe=recipe, calibration=data)
    assert predicted(path)[0] == xnnpack_took(path)


def test_a_stride_beyond_the_window_stays(tmp_path):
    options = schema.Pool2DOptionsT(padding=1, strideW=3, strideH=3, filterWidth=2, filterHeight=2)
    path = one(tmp_path, "MAX_POOL_2D", [(1, 8, 8, 4)], (1, 3, 3, 4), options)
    check(path, accelerated=[False], reason="stride is larger than its window")


@pytest.mark.parametrize(("parts", "taken"), [(5, True), (6, False)])
def test_concatenations_of_a_few_parts(tmp_path, parts, taken):
    options = schema.ConcatenationOptionsT(axis=-1)
    path = one(tmp_path, "CONCATENATION", [(1, 4, 4, 2)] * parts, (1, 4, 4, 2 * parts), options)
    check(path, accelerated=[taken], reason="" if taken else "more than 5")


@pytest.mark.parametrize(("rank", "taken"), [(6, True), (7, False)])
def test_up_to_six_axes(tmp_path, rank, taken):
    shape = (1, 2) + (1,) * (rank - 2)
    path = one(tmp_path, "ADD", [shape, shape], shape, schema.AddOptionsT())
    check(path, accelerated=[taken])


def test_computed_weights_stay(tmp_path):
    made = Made()
    x = made.tensor("x", "float32", (1, 4, 4, 2))
    w = made.tensor("w", "float32", (3, 3, 3, 2))
    y = made.tensor("y", "float32", (1, 4, 4, 3))
    b = made.tensor("b", "float32", (3,), values=np.zeros(3, np.float32))
    options = schema.Conv2DOptionsT(strideW=1, strideH=1, dilationHFactor=1, dilationWFactor=1)
    made.operator("CONV_2D", [x, w, b], [y], options)
    made.graph.inputs, made.graph.outputs = [x, w], [y]
    path = tmp_path / "conv.tflite"
    path.write_bytes(made.bytes())
    check(path, accelerated=[False], reason="weights are computed")


@pytest.mark.parametrize(
    ("ratio", "taken"), [(100.0, True), (300.0, False), (1 / 500, True), (1 / 2000, False)]
)
def test_sums_of_scales_far_apart_stay(tmp_path, ratio, taken):
    made = Made()
    inputs = [made.tensor(name, "int8", (1, 4), scale=0.1 * ratio) for name in ("a", "b")]
    y = made.tensor("y", "int8", (1, 4), scale=0.1)
    made.operator("ADD", inputs, [y], schema.AddOptionsT(), version=2)
    made.graph.inputs, made.graph.outputs = inputs, [y]
    path = tmp_path / "add.tflite"
    path.write_bytes(made.bytes())
    check(path, accelerated=[taken], reason="" if taken else "too far apart")


@pytest.mark.parametrize(("columns", "taken"), [(8, True), (7, False)])
def test_four_bit_weights_fill_whole_bytes(tmp_path, columns, taken):
    made = Made()
    x = made.tensor("x", "int8", (1, columns), scale=0.1)
    w = made.tensor("w", "int4", (2, columns), scale=0.1)
    made.tree.buffers.append(schema.BufferT(data=np.ones(columns, np.uint8)))
    made.graph.tensors[w].buffer = len(made.tree.buffers) - 1
    y = made.tensor("y", "int8", (1, 2), scale=0.5)
    made.operator("FULLY_CONNECTED", [x, w, -1], [y], schema.FullyConnectedOptionsT(), version=10)
    made.graph.inputs, made.graph.outputs = [x], [y]
    path = tmp_path / "dense.tflite"
    path.write_bytes(made.bytes())
    check(path, accelerated=[taken], reason="" if taken else "odd number")


def test_slices_that_remove_an_axis_stay(tmp_path):
    ends = [np.array(values, np.int32) for values in ((0, 0), (1, 4), (1, 1))]
    options = schema.StridedSliceOptionsT(shrinkAxisMask=1)
    path = one(tmp_path, "STRIDED_SLICE", [(1, 4)], (4,), options, constants=ends)
    check(path, accelerated=[False], reason="adds or removes an axis")


def test_an_operator_that_it_does_not_have(tmp_path):
    path = one(tmp_path, "SIGN", [(1, 4)], (1, 4))
    check(path, accelerated=[False], reason="XNNPACK has no such operator")
