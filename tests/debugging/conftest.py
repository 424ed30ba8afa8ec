"""Quantized versions of small models, and defects planted into them."""

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit import flatbuffer
from edgekit.catalog import data_folder

_LAYERS = {
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
}


def layers(path):
    """The places of the operators with weights."""
    tree = flatbuffer.read(path.read_bytes())
    kinds = [tree.operatorCodes[op.opcodeIndex].builtinCode for op in tree.subgraphs[0].operators]
    return [place for place, kind in enumerate(kinds) if kind in _LAYERS]


def written_name(path, place):
    """The name of what the operator at a place writes."""
    graph = flatbuffer.read(path.read_bytes()).subgraphs[0]
    return graph.tensors[graph.operators[place].outputs[0]].name.decode()


def _change(tree, index, change):
    """Give a stored tensor other numbers, in a buffer of its own."""
    tensor = tree.subgraphs[0].tensors[index]
    dtype = {schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32}[tensor.type]
    values = np.frombuffer(bytes(memoryview(tree.buffers[tensor.buffer].data)), dtype)
    data = np.frombuffer(change(values).astype(dtype).tobytes(), np.uint8)
    tree.buffers.append(schema.BufferT(data=data))
    tensor.buffer = len(tree.buffers) - 1


def _weights_scaled(tree, operator):
    _change(tree, operator.inputs[1], lambda values: np.rint(values * 0.7))


def _weight_scale_wrong(tree, operator):
    table = tree.subgraphs[0].tensors[operator.inputs[1]].quantization
    table.scale = [float(scale) * 1.5 for scale in table.scale]


def _bias_zeroed(tree, operator):
    _change(tree, operator.inputs[2], np.zeros_like)


def _zero_point_shifted(tree, operator):
    table = tree.subgraphs[0].tensors[operator.outputs[0]].quantization
    table.zeroPoint = [int(table.zeroPoint[0]) + 200 if table.zeroPoint[0] < -50 else 127]


DEFECTS = {
    "weights scaled": _weights_scaled,
    "weight scale wrong": _weight_scale_wrong,
    "bias zeroed": _bias_zeroed,
    "zero point shifted": _zero_point_shifted,
}


@pytest.fixture
def plant(tmp_path):
    """Writes a copy of a .tflite file with one defect in the operator at a place."""

    def planted(path, defect, place):
        def edit(tree):
            DEFECTS[defect](tree, tree.subgraphs[0].operators[place])

        copy = tmp_path / f"planted_{place}.tflite"
        copy.write_bytes(flatbuffer.rewrite(path.read_bytes(), edit))
        return copy

    return planted


@pytest.fixture(scope="session")
def digits():
    """The digits model of the examples, a calibration set and a test set."""
    folder = data_folder("examples") / "digits"
    return folder / "model.tflite", folder / "calibration.npz", folder / "test.npz"


@pytest.fixture(scope="session")
def int8(digits, tmp_path_factory):
    """The digits model in int8, with the names of its tensors and without."""
    folder = tmp_path_factory.mktemp("int8")
    model, calibration, _ = digits
    paths = folder / "named.tflite", folder / "nameless.tflite"
    for path, keep_names in zip(paths, (True, False), strict=True):
        edgekit.quantize(model, path, recipe="int8", calibration=calibration, keep_names=keep_names)
    return paths


@pytest.fixture(scope="session")
def onnx_pair(tmp_path_factory):
    """A small network of two branches in ONNX, its int8 version by ONNX Runtime, and samples for both."""
    folder = tmp_path_factory.mktemp("onnx")
    random = np.random.default_rng(0)

    def weight(name, *shape):
        values = random.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        return numpy_helper.from_array(values, name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["stem"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["stem"], ["stem_relu"]),
        helper.make_node("Conv", ["stem_relu", "w2"], ["left"]),
        helper.make_node("Conv", ["stem_relu", "w3"], ["right"]),
        helper.make_node("Add", ["left", "right"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w4", "b4"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "branches",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        [weight("w1", 8, 1, 3, 3), weight("b1", 8), weight("w2", 8, 8, 1, 1), weight("w3", 8, 8, 1, 1),
         weight("w4", 8, 10), weight("b4", 10)],
    )  # fmt: skip
    source, output, data = folder / "float.onnx", folder / "int8.onnx", folder / "x.npz"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), source)
    np.savez(data, x=random.random((64, 1, 8, 8), np.float32))
    edgekit.quantize(source, output, recipe="int8", calibration=data)
    return source, output, data
