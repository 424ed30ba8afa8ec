"""Rules that no machine here can try, held against what the documentation of each says in words."""

from contextlib import suppress

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplemented_

import edgekit
from edgekit.accelerators import Accelerator, Place
from edgekit.artifact import Format
from edgekit.catalog import load, names
from edgekit.operators import Operand, Operator, operators
from edgekit.target import ACCELERATORS, Target


def places(name, path, target="linux-x86-64"):
    file_format = Format.ONNX if path.suffix == ".onnx" else Format.TFLITE
    accelerator: Accelerator = load("accelerators", name)
    return accelerator.judge(operators(path, file_format), Target.load(target))


@pytest.mark.parametrize("name", sorted({*names("accelerators")} - {"onnxruntime"}))
def test_every_accelerator_is_one_of_the_profiles_and_says_where_from(name):
    module = load("accelerators", name)
    assert name in ACCELERATORS
    assert module.SOURCE.startswith("https://")
    assert module.DATE.startswith("20")


def test_a_microcontroller_has_nothing_beside(models):
    assert {verdict.place for verdict in places("tflm", models.tflite_cnn_int8)} == {Place.ACCELERATED}
    assert {verdict.place for verdict in places("tflm", models.tflite_cnn)} == {Place.ACCELERATED}
    values = Operand("x", (1, 4), "float32")
    [verdict] = load("accelerators", "tflm").judge([Operator("GELU", ("y",), (values,), (values,))], None)
    assert (verdict.place, verdict.advice) == (Place.UNSUPPORTED, "Use HARD_SWISH or RELU.")


def test_dynamic_files_do_not_run_on_a_microcontroller(models, tmp_path):
    path = tmp_path / "dynamic.tflite"
    edgekit.quantize(models.tflite_cnn, path, recipe="dynamic")
    found = places("tflm", path)
    reasons = {verdict.reason for verdict in found if verdict.place is Place.UNSUPPORTED}
    assert any("computes dynamic_wi8" in reason for reason in reasons)


def test_the_edge_tpu_stops_at_the_first_operator_that_it_does_not_know():
    a, b, c, d = (Operand(name, (1, 8, 8, 4), "int8") for name in "abcd")
    chain = [
        Operator("ADD", ("b",), (a, a), (b,)),
        Operator("GELU", ("c",), (b,), (c,)),
        Operator("ADD", ("d",), (c, c), (d,)),
    ]
    found = load("accelerators", "edgetpu").judge(chain, None)
    assert [verdict.place.value for verdict in found] == ["accelerated", "cpu", "cpu"]
    assert "after an operator" in found[2].reason


def test_the_edge_tpu_takes_an_int8_network(models):
    assert {verdict.place for verdict in places("edgetpu", models.tflite_cnn_int8)} == {Place.ACCELERATED}
    assert {verdict.place for verdict in places("edgetpu", models.tflite_cnn)} == {Place.CPU}


def test_onnx_on_the_htp_needs_fixed_sizes(models, tmp_path):
    model = onnx.load(models.onnx_cnn)
    fixed = tmp_path / "fixed.onnx"
    onnx.save(model, fixed)
    assert {verdict.place for verdict in places("htp", fixed)} == {Place.ACCELERATED}


@pytest.mark.parametrize(
    ("kind", "opset", "place", "reason"),
    [
        ("Relu", 13, Place.ACCELERATED, ""),
        ("Exp", 13, Place.CPU, "the NPU has no such operator"),
        ("Selu", 13, Place.UNKNOWN, "Rockchip's list"),
        ("NonZero", 13, Place.UNSUPPORTED, "has no such operator"),
        ("Relu", 20, Place.UNSUPPORTED, "of opset 20"),
        ("Gelu", 20, Place.UNSUPPORTED, "of opset 20"),
    ],
)
def test_rknn_refuses_leaves_to_the_cpu_or_says_that_nothing_is_known(tmp_path, kind, opset, place, reason):
    [verdict] = places("rknn", odd_node(tmp_path, kind, opset=opset))
    assert verdict.place is place
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("kind", "options", "dtype", "place"),
    [
        ("GELU", {}, "float32", Place.UNSUPPORTED),
        ("FULLY_CONNECTED", {"keepNumDims": True}, "int8", Place.UNSUPPORTED),
        ("FULLY_CONNECTED", {"keepNumDims": False}, "int8", Place.ACCELERATED),
        ("CONV_2D", {"fusedActivationFunction": 2}, "int8", Place.UNSUPPORTED),
        ("SQRT", {}, "float32", Place.ACCELERATED),
        ("SQRT", {}, "int8", Place.UNSUPPORTED),
        ("DIV", {}, "int8", Place.CPU),
        ("RESIZE_BILINEAR", {"alignCorners": True}, "int8", Place.CPU),
        ("TOPK_V2", {}, "int8", Place.UNKNOWN),
    ],
)
def test_rknn_knows_what_its_reader_of_tflite_files_refuses(kind, options, dtype, place):
    values = Operand("x", (1, 8, 8, 4), dtype)
    [verdict] = load("accelerators", "rknn").judge(
        [Operator(kind, ("y",), (values,), (values,), options)], None
    )
    assert verdict.place is place


def odd_node(tmp_path, kind, domain="", opset=13, dtype=TensorProto.FLOAT):
    nodes = [helper.make_node(kind, ["x"], ["y"], domain=domain)]
    ends = [helper.make_tensor_value_info(name, dtype, [1, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "odd", ends[:1], ends[1:])
    sets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("kind", "domain", "dtype", "reason"),
    [
        ("Frobnicate", "org.example", TensorProto.FLOAT, "no operator Frobnicate of the domain org.example"),
        ("Ceil", "", TensorProto.BFLOAT16, "no kernel for"),
        ("Relu", "", TensorProto.FLOAT, ""),
        ("Celu", "", TensorProto.FLOAT, ""),
    ],
)
def test_onnx_runtime_is_asked_for_its_kernels(tmp_path, kind, domain, dtype, reason):
    path = odd_node(tmp_path, kind, domain, dtype=dtype)
    [verdict] = places("onnxruntime", path)
    runs = False
    with suppress(Fail, InvalidGraph, NotImplemented_):
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        runs = True
    assert (verdict.place is Place.ACCELERATED) == runs
    assert reason in verdict.reason
