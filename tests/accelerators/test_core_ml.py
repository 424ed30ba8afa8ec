"""LiteRT's Core ML delegate by the words of its source; no machine of the tests can run it."""

import pytest

import edgekit
from edgekit.accelerators import Place, core_ml
from edgekit.artifact import Format
from edgekit.operators import Operand, Operator, operators
from edgekit.target import Target

_IMAGE = Operand("a", (1, 8, 8, 4), "float32", index=1)
_TARGET = Target.load("ios-coreml")


def value(shape, dtype="float32", *, numbers=(), constant=False):
    return Operand("v", shape, dtype, is_constant=constant or bool(numbers), values=numbers, index=9)


def verdict(kind, *inputs, version=1, output=(1, 8, 8, 4), **options):
    """Of an operator between two that are taken."""
    made = Operand("b", output, "float32", index=2)
    last = Operand("c", output, "float32", index=3)
    chain = [
        Operator("RELU", ("a",), (value((1, 8, 8, 4)),), (_IMAGE,)),
        Operator(kind, ("b",), (inputs or (_IMAGE,)), (made,), options, version=version),
        Operator("RELU", ("c",), (made,), (last,)),
    ]
    return core_ml.judge(chain, _TARGET)[1]


_KERNEL, _BIAS = value((4, 3, 3, 4), constant=True), value((4,), constant=True)
_ROW, _WEIGHTS = value((1, 4)), value((3, 4), constant=True)
_PADS = (0, 0, 1, 1, 1, 1, 0, 0)


@pytest.mark.parametrize(
    ("kind", "inputs", "options"),
    [
        ("CONV_2D", (_IMAGE, _KERNEL, _BIAS), {"fusedActivationFunction": 3}),
        ("DEPTHWISE_CONV_2D", (_IMAGE, _KERNEL, _BIAS), {"version": 2}),
        ("FULLY_CONNECTED", (_ROW, _WEIGHTS), {"version": 6}),
        ("ADD", (_IMAGE, _IMAGE), {}),
        ("MUL", (_IMAGE, value((4,), constant=True)), {}),
        ("ADD", (_IMAGE, value((1, 8, 8, 1))), {}),
        ("CONCATENATION", (_IMAGE, _IMAGE), {"axis": 3}),
        ("PAD", (_IMAGE, value((4, 2), "int32", numbers=_PADS)), {}),
        ("MIRROR_PAD", (_IMAGE, value((4, 2), "int32", numbers=_PADS)), {"mode": 0}),
        ("MEAN", (_IMAGE, value((2,), "int32", numbers=(1, -2))), {"keepDims": True}),
        ("MAX_POOL_2D", (_IMAGE,), {}),
        ("SOFTMAX", (_ROW,), {"beta": 1.0}),
        ("HARD_SWISH", (_IMAGE,), {}),
        ("RESIZE_BILINEAR", (_IMAGE, value((2,), "int32", numbers=(16, 16))), {}),
        ("TRANSPOSE_CONV", (value((4,), "int32", numbers=(1, 16, 16, 4)), _KERNEL, _IMAGE), {}),
    ],
)
def test_it_takes(kind, inputs, options):
    found = verdict(kind, *inputs, **options)
    assert found.place is Place.ACCELERATED, found.reason


@pytest.mark.parametrize(
    ("kind", "inputs", "options", "reason"),
    [
        ("CONV_2D", (_IMAGE, value((4, 3, 3, 4)), _BIAS), {}, "weights are computed"),
        ("CONV_2D", (_IMAGE, value((4, 1, 16385, 4), constant=True), _BIAS), {}, "kernel is larger"),
        ("CONV_2D", (_IMAGE, _KERNEL, _BIAS), {"version": 2}, "version 2"),
        ("CONV_2D", (_IMAGE, value((4, 3, 3, 4), "int8", constant=True)), {}, "computes dynamic_wi8"),
        ("FULLY_CONNECTED", (value((2, 4)), _WEIGHTS), {}, "more than one row"),
        ("FULLY_CONNECTED", (_ROW, _WEIGHTS), {"weightsFormat": 1}, "shuffled"),
        ("ADD", (_IMAGE, value((2, 8, 8, 4))), {}, "differ in size"),
        ("ADD", (_IMAGE, value((1, 8, 1, 4))), {}, "differ in size"),
        ("CONCATENATION", (_IMAGE, _IMAGE), {"axis": 1}, "does not join channels"),
        ("PAD", (_IMAGE, value((4, 2), "int32")), {}, "computed while the model runs"),
        ("PAD", (_IMAGE, value((4, 2), "int32", numbers=(0, 0, 0, 0, 0, 0, 1, 1))), {}, "more than height"),
        ("MIRROR_PAD", (_IMAGE, value((4, 2), "int32", numbers=_PADS)), {"mode": 1}, "mirrors the edge"),
        ("MEAN", (_IMAGE, value((2,), "int32", numbers=(1, 2))), {}, "drops the axes"),
        ("MEAN", (_IMAGE, value((1,), "int32", numbers=(1,))), {"keepDims": True}, "other axes"),
        ("AVERAGE_POOL_2D", (_IMAGE,), {"fusedActivationFunction": 1}, "activation RELU"),
        ("SOFTMAX", (_ROW,), {"beta": 0.5}, "beta"),
        ("RESHAPE", (_IMAGE,), {}, "Core ML 3"),
        ("RESIZE_BILINEAR", (_IMAGE, value((2,), "int32", numbers=(16, 16))), {"version": 3}, "version 3"),
        ("GELU", (_IMAGE,), {}, "no such operator"),
        ("RELU", (value((1, 2, 2, 2, 4)),), {}, "5 axes"),
        ("RELU", (value((1, 4), "int8"),), {"output": (1, 4)}, "takes float32"),
    ],
)
def test_it_leaves(kind, inputs, options, reason):
    found = verdict(kind, *inputs, **options)
    assert found.place is Place.CPU
    assert reason in found.reason


def test_one_operator_alone_is_not_worth_it():
    after = Operand("y", (1, 8, 8, 4), "float32", index=4)
    left = Operand("z", (1, 8, 8, 4), "float32", index=5)
    chain = [Operator("RELU", ("y",), (_IMAGE,), (after,)), Operator("GELU", ("z",), (after,), (left,))]
    found = core_ml.judge(chain, _TARGET)
    assert [one.place for one in found] == [Place.CPU, Place.CPU]
    assert "stands alone" in found[0].reason


@pytest.mark.slow
def test_float_files_are_taken_and_integer_files_are_not(models, tmp_path):
    half = tmp_path / "float16.tflite"
    edgekit.quantize(models.keras_cnn, half, target="ios-coreml")
    for path, place in (
        (models.tflite_cnn, Place.ACCELERATED),
        (half, Place.ACCELERATED),
        (models.tflite_cnn_int8, Place.CPU),
    ):
        found = core_ml.judge(operators(path, Format.TFLITE), _TARGET)
        assert place in {one.place for one in found}
        if place is Place.CPU:
            assert {one.place for one in found} == {Place.CPU}
    assert edgekit.compat(models.tflite_cnn, target="ios-coreml").rules == "core_ml"
