"""The rules for Ethos-U beside where Vela really puts the operators."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from handmade import Made

import edgekit
from edgekit.accelerators import Place, ethos_u
from edgekit.artifact import Format
from edgekit.operators import operators
from edgekit.target import Target

_U55, _U85 = Target.load("ethos-u55-128"), Target.load("ethos-u85-256")


def verdicts(path, target=_U55):
    return ethos_u.judge(operators(path, Format.TFLITE), target)


def written(made, inputs, outputs, tmp_path):
    made.graph.inputs, made.graph.outputs = inputs, outputs
    path = tmp_path / "one.tflite"
    path.write_bytes(made.bytes())
    return path


def unary(kind, tmp_path, *, before=(1, 8, 8, 4), after=(1, 8, 8, 4), options=None, extra=(), signature=None):
    made = Made()
    x = made.tensor("x", "int8", before, scale=0.1, signature=signature)
    stored = [made.tensor(f"c{i}", "int32", v.shape, values=v) for i, v in enumerate(extra)]
    y = made.tensor("y", "int8", after, scale=0.1)
    made.operator(kind, [x, *stored], [y], options, version=2)
    return written(made, [x], [y], tmp_path)


def test_an_int8_network_is_whole(models):
    assert {verdict.place for verdict in verdicts(models.tflite_cnn_int8)} == {Place.ACCELERATED}


def test_floats_stay_on_the_cpu_with_what_to_do(models):
    found = verdicts(models.tflite_cnn)
    assert {verdict.place for verdict in found} == {Place.CPU}
    assert {verdict.advice for verdict in found} == {"Quantize it with -r int8."}


def test_four_bits_crash_vela(models, tmp_path):
    path = tmp_path / "int4.tflite"
    edgekit.quantize(models.tflite_cnn, path, recipe="int4", calibration=str(models.train_data), io="int8")
    assert Place.UNSUPPORTED in {verdict.place for verdict in verdicts(path)}


@pytest.mark.parametrize(
    ("axes", "place"), [([1, 2], Place.ACCELERATED), ([1], Place.ACCELERATED), ([3], Place.CPU)]
)
def test_means_over_channels_stay(tmp_path, axes, place):
    after = tuple(size for axis, size in enumerate((1, 8, 8, 4)) if axis not in axes)
    options, stored = schema.ReducerOptionsT(keepDims=False), [np.array(axes, np.int32)]
    path = unary("MEAN", tmp_path, after=after, options=options, extra=stored)
    assert [verdict.place for verdict in verdicts(path)] == [place]


@pytest.mark.parametrize(
    ("size", "half_pixel", "place"),
    [
        (16, True, Place.ACCELERATED),
        (32, True, Place.CPU),
        (32, False, Place.ACCELERATED),
        (24, False, Place.CPU),
        (8, True, Place.ACCELERATED),
    ],
)
def test_resizing_by_powers_of_two(tmp_path, size, half_pixel, place):
    options = schema.ResizeBilinearOptionsT(halfPixelCenters=half_pixel)
    stored = [np.array([size, size], np.int32)]
    path = unary("RESIZE_BILINEAR", tmp_path, after=(1, size, size, 4), options=options, extra=stored)
    assert [verdict.place for verdict in verdicts(path)] == [place]


@pytest.mark.parametrize(
    ("stride", "padding", "place"), [(3, 0, "accelerated"), (4, 0, "cpu"), (4, 1, "accelerated")]
)
def test_long_strides_need_no_padding(tmp_path, stride, padding, place):
    options = schema.Pool2DOptionsT(
        padding=padding, strideW=stride, strideH=stride, filterWidth=4, filterHeight=4
    )
    path = unary("MAX_POOL_2D", tmp_path, after=(1, 2, 2, 4), options=options)
    assert [verdict.place.value for verdict in verdicts(path)] == [place]


@pytest.mark.parametrize(("signature", "place"), [((-1, 8, 8, 4), "accelerated"), ((1, -1, -1, 4), "cpu")])
def test_only_the_batch_may_be_free(tmp_path, signature, place):
    path = unary("LOGISTIC", tmp_path, signature=signature)
    assert [verdict.place.value for verdict in verdicts(path)] == [place]


@pytest.mark.parametrize(
    ("bits", "target", "place"), [(41, _U55, "cpu"), (41, _U85, "accelerated"), (49, _U85, "cpu")]
)
def test_large_biases_of_16x8(tmp_path, bits, target, place):
    made = Made()
    x = made.tensor("x", "int16", (1, 4), scale=0.1)
    w = made.tensor("w", "int8", (2, 4), scale=0.1, values=np.ones((2, 4), np.int8))
    b = made.tensor("b", "int64", (2,), scale=0.01, values=np.array([0, 1 << bits], np.int64))
    y = made.tensor("y", "int16", (1, 2), scale=0.1)
    made.operator("FULLY_CONNECTED", [x, w, b], [y], schema.FullyConnectedOptionsT(), version=7)
    path = written(made, [x], [y], tmp_path)
    assert [verdict.place.value for verdict in verdicts(path, target)] == [place]


def test_the_u85_divides():
    assert "DIV" not in ethos_u.RULES
    assert "DIV" in ethos_u.U85_RULES
