"""What inspect finds in small models whose numbers are worked out by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.verbs.inspect import inspect

# The CNN of build_models.py, whose batch normalization is folded into convolutions:
# stem 3 x 3 x 1 x 12 + 12, depthwise 3 x 3 x 12 + 12, conv 3 x 3 x 12 x 24 + 24, dense 24 x 10 + 10.
_PARAMETERS = 120 + 120 + 2616 + 250
# 8 x 8 x 12 x 9, then 8 x 8 x 12 x 9, then 4 x 4 x 24 x 108, then 240.
_MACS = 6912 + 6912 + 41472 + 240


def kinds(inspection):
    return {kind.kind: kind for kind in inspection.kinds}


@pytest.mark.parametrize(
    "name", ["tflite_cnn", "tflite_cnn_no_signature", "tflite_cnn_int8", "keras_cnn", "h5_cnn"]
)
def test_parameters_and_macs_of_the_cnn(models, name):
    inspection = inspect(getattr(models, name))
    assert (inspection.parameters, inspection.macs) == (_PARAMETERS, _MACS)
    found = kinds(inspection)
    assert (found["CONV_2D"].count, found["CONV_2D"].macs) == (2, 6912 + 41472)
    assert (found["DEPTHWISE_CONV_2D"].count, found["DEPTHWISE_CONV_2D"].parameters) == (1, 120)
    assert (found["FULLY_CONNECTED"].count, found["FULLY_CONNECTED"].macs) == (1, 240)


def test_macs_do_not_depend_on_a_free_batch(models):
    assert inspect(models.tflite_cnn_dynamic_batch).macs == _MACS
    assert inspect(models.onnx_cnn).macs == _MACS


def test_bytes_by_operator_of_float_and_int8(models):
    in_float, quantized = kinds(inspect(models.tflite_cnn)), kinds(inspect(models.tflite_cnn_int8))
    assert in_float["FULLY_CONNECTED"].weight_bytes == 4 * 250
    # int8 weights and int32 biases.
    assert quantized["FULLY_CONNECTED"].weight_bytes == 240 + 4 * 10
    assert quantized["FULLY_CONNECTED"].weight_dtypes == ("int8",)
    assert quantized["FULLY_CONNECTED"].activation_dtypes == ("int8",)


def test_what_is_float(models):
    assert len(inspect(models.tflite_cnn).floats) == len(inspect(models.tflite_cnn).counted) == 6
    assert inspect(models.tflite_cnn_int8).floats == ()


def test_signature_and_opset(models):
    assert inspect(models.tflite_cnn).signature == "serving_default"
    assert inspect(models.tflite_cnn_no_signature).signature is None
    assert inspect(models.tflite_cnn).opset is None
    assert inspect(models.onnx_cnn).opset == 13


def test_tensors_carry_their_scales(models):
    tensors = inspect(models.tflite_cnn_int8).tensors
    image = next(tensor for tensor in tensors if "image" in tensor.name)
    assert (image.dtype, image.zero_points) == ("int8", (-128,))
    assert image.scales[0] == pytest.approx(1 / 255, rel=1e-3)
    assert max(len(tensor.scales) for tensor in tensors) == 24  # one per filter of the widest convolution


def test_a_keras_model_is_seen_through_a_float_file_and_this_is_said(models):
    inspection = inspect(models.keras_cnn)
    assert [finding.code for finding in inspection.findings] == ["EK130"]
    assert [spec.name for spec in inspection.artifact.outputs] == ["classes"]
    assert inspection.artifact.format == "keras"
    assert inspection.signature is None


def test_a_recurrent_keras_model_is_counted_step_by_step(models):
    inspection = inspect(models.keras_recurrent)
    # Gates (3 + 4) x 16, biases 16, dense 4 x 2; its bias of zeros is not stored.
    assert inspection.parameters == 7 * 16 + 16 + 8
    # The first of five steps starts from zeros, so that its recurrent product vanishes.
    assert inspection.macs == 5 * 3 * 16 + 4 * 4 * 16 + 8
    assert {finding.code for finding in inspection.findings} == {"EK130", "EK132"}


def test_float16_weights_belong_to_the_operator_that_uses_them(models, tmp_path):
    from edgekit import tensorflow_process

    options = tensorflow_process.TFLiteExport(optimize="float16")
    tensorflow_process.export_tflite(models.keras_cnn, tmp_path / "half.tflite", options)
    inspection = inspect(tmp_path / "half.tflite")
    assert inspection.parameters == _PARAMETERS
    assert kinds(inspection)["CONV_2D"].weight_bytes == 2 * (120 + 2616)
    assert kinds(inspection)["DEQUANTIZE"].weight_bytes == 0


def onnx_model(path, nodes, inputs, outputs, constants=()):
    """Write a graph; inputs and outputs are (name, shape), constants arrays by name."""
    ends = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in side]
        for side in (inputs, outputs)
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in dict(constants).items()]
    graph = helper.make_graph(nodes, "g", *ends, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def test_weights_that_two_operators_share_are_counted_once(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    shape = ("n", 4)
    path = onnx_model(
        tmp_path / "m.onnx", nodes, [("x", shape)], [("y", shape)], {"w": np.eye(4, dtype=np.float32)}
    )
    inspection = inspect(path)
    assert (inspection.parameters, inspection.macs) == (16, 32)
    assert sum(kind.weight_bytes for kind in inspection.kinds) == 64


def test_shapes_and_scales_are_no_parameters(tmp_path):
    nodes = [
        helper.make_node("DequantizeLinear", ["w8", "scale", "zero"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Reshape", ["h", "shape"], ["y"]),
    ]
    constants = {
        "w8": np.ones((4, 6), np.int8),
        "scale": np.array(0.5, np.float32),
        "zero": np.array(0, np.int8),
        "shape": np.array([-1, 3], np.int64),
    }
    path = onnx_model(tmp_path / "m.onnx", nodes, [("x", (1, 4))], [("y", (2, 3))], constants)
    inspection = inspect(path)
    assert (inspection.parameters, inspection.macs) == (24, 24)
    assert kinds(inspection)["MatMul"].weight_bytes == 24
    assert kinds(inspection)["MatMul"].weight_dtypes == ("int8",)


def test_weights_outside_of_the_file_count_with_their_bytes(tmp_path):
    weights = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = onnx_model(tmp_path / "m.onnx", nodes, [("x", (1, 64))], [("y", (1, 64))])
    document = onnx.load(str(path))
    document.graph.initializer.append(weights)
    onnx.save(document, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    assert path.stat().st_size < 1000
    assert inspect(path).kinds[0].weight_bytes == 64 * 64 * 4


def test_unknown_macs_are_said(tmp_path):
    nodes = [helper.make_node("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik")]
    constants = {"w": np.ones((4, 3), np.float32)}
    inspection = inspect(onnx_model(tmp_path / "m.onnx", nodes, [("x", (1, 4))], [("y", (1, 3))], constants))
    assert inspection.macs == 0
    assert inspection.describe()["macs_complete"] is False
    assert [finding.code for finding in inspection.findings] == ["EK133"]
    assert "Einsum" in inspection.findings[0].message


def test_free_sizes_besides_the_batch_are_said(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    shapes = [("x", ("n", "steps", 4))], [("y", ("n", "steps", 3))]
    inspection = inspect(onnx_model(tmp_path / "m.onnx", nodes, *shapes, {"w": np.ones((4, 3), np.float32)}))
    assert inspection.macs == 12
    assert [finding.code for finding in inspection.findings] == ["EK134"]


def test_the_document_can_leave_out_and_take_in_the_lists(models):
    inspection = inspect(models.tflite_cnn)
    short, long = inspection.describe(), inspection.describe(with_ops=True, with_tensors=True)
    assert "operators" not in short
    assert len(long["operators"]) == short["ops"]["total"] == 6
    assert sum(entry["macs"] for entry in long["operators"]) == short["macs"]
    assert len(long["tensors"]) == len(inspection.tensors)
