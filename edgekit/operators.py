"""The operators of a ``.tflite`` or ``.onnx`` file, in one vocabulary for both."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import flatbuffer
from edgekit.artifact import Format
from edgekit.tensor import Array

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

# These move values between number formats; what matters is the operators between them.
CONVERSIONS = frozenset(
    {
        "QUANTIZE",
        "DEQUANTIZE",
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "Cast",
        "CAST",
        "Constant",
    }
)

# Operators whose constants are weights; an ADD has constants too, but nothing to gain from quantizing them.
_WEIGHTED = frozenset(
    {"CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"}
    | {"EMBEDDING_LOOKUP", "GATHER", "LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "SVDF"}
    | {"Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "LSTM", "GRU", "RNN", "Attention"}
)

# Bits per value by ONNX's data type, where it is not 32: onnx.proto, TensorProto.DataType.
_BITS = {2: 8, 3: 8, 4: 16, 5: 16, 7: 64, 9: 8, 10: 16, 11: 64, 13: 64, 14: 64, 15: 128, 16: 16} | {
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2
}  # fmt: skip

# Constants with more values than that are weights or tables, and no axes, sizes or paddings.
_MOST_VALUES = 64

_FLOATS = frozenset({"float32", "float16", "float64", "bfloat16"})
_NARROW = frozenset({"int2", "int4", "uint4", "int8", "uint8"})


@dataclass(frozen=True)
class Operand:
    """What an operator reads or writes. ``dtype`` is how the values are stored: ``"int8"``.

    In ONNX a tensor that goes through QuantizeLinear or DequantizeLinear counts as its integers.

    In a ``.tflite`` file names may be missing, so that ``index`` tells tensors of one graph apart. ``shape`` has the
    size that the file was made with where one is free, and ``free_axes`` say where. ``scales`` has one for each
    channel, ``values`` the numbers of a small integer constant: ``(1, 2)`` where axes are summed. ``largest`` is the
    largest value of an integer constant, such as a bias.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    is_constant: bool = False
    size_bytes: int = 0
    index: int = -1
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    values: tuple[int, ...] = ()
    free_axes: tuple[int, ...] = ()
    largest: int = 0


@dataclass(frozen=True)
class Operator:
    """One operator: ``Operator("CONV_2D", ("model/conv1/Relu",), inputs, outputs)``.

    ``options`` are those of the format by its own names, ``{"strideW": 2, "fusedActivationFunction": 1}`` or
    ``{"kernel_shape": [3, 3]}``. ``graph`` is 0 for the main one; loops and branches have graphs of their own.
    ``version`` is that of the operator, in ONNX that of its set; ``domain`` is ONNX's, empty for the standard one.
    """

    kind: str
    names: tuple[str, ...]
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)
    graph: int = 0
    version: int = 1
    domain: str = ""

    @property
    def weights(self) -> tuple[Operand, ...]:
        """Constant inputs of rank two and more: weights, not biases, shapes or scalars."""
        return tuple(o for o in self.inputs if o.is_constant and len(o.shape) >= 2)

    @property
    def activations(self) -> tuple[Operand, ...]:
        """What depends on the model's inputs."""
        return tuple(operand for operand in (*self.inputs, *self.outputs) if not operand.is_constant)

    @property
    def has_integer_weights(self) -> bool:
        """Whether its weights are stored in eight bits or fewer."""
        return any(operand.dtype in _NARROW for operand in self.weights)

    @property
    def has_float_weights(self) -> bool:
        """Whether it multiplies by weights that are stored as float32."""
        return self.kind in _WEIGHTED and any(operand.dtype == "float32" for operand in self.weights)

    @property
    def is_float(self) -> bool:
        """Whether it computes on real numbers alone: float activations and no integer weights."""
        return any(operand.dtype in _FLOATS for operand in self.activations) and not self.has_integer_weights

    @property
    def is_conversion(self) -> bool:
        """Whether it only moves values between number formats."""
        return self.kind in CONVERSIONS


def operators(path: Path, format: Format) -> tuple[Operator, ...]:  # noqa: A002 - the noun's name
    """List a file's operators in the order in which they run, then those of inner graphs such as loops.

    Raises:
        ModelError: The file is unreadable.
        ValueError: The format is neither TFLite nor ONNX.
    """
    if format is Format.TFLITE:
        return tuple(_tflite_operators(flatbuffer.read(path.read_bytes())))
    if format is Format.ONNX:
        return tuple(_onnx_operators(path))
    raise ValueError(f"{format} has no list of operators before it is converted")


def _tflite_operators(model: Any) -> Iterable[Operator]:
    from ai_edge_litert import schema_py_generated as schema

    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    dtypes = {
        value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")
    }

    for number, graph in enumerate(model.subgraphs):
        for entry in graph.operators or ():
            code = model.operatorCodes[entry.opcodeIndex]
            kind = kinds[code.builtinCode]
            if kind == "CUSTOM" and code.customCode:
                kind = code.customCode.decode(errors="replace")
            inputs, outputs = (
                tuple(_tflite_operand(model, graph, index, dtypes) for index in side if index >= 0)
                for side in (entry.inputs, entry.outputs)
            )
            options = {} if entry.builtinOptions is None else vars(entry.builtinOptions)
            names = tuple(o.name for o in outputs)
            yield Operator(kind, names, inputs, outputs, options, number, code.version)


def _tflite_operand(model: Any, graph: Any, index: int, dtypes: Mapping[int, str]) -> Operand:
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    size = 0 if data is None else len(data)
    dtype = dtypes[tensor.type]
    scales, zero_points = quantization_of(tensor)
    integers = _integers(data, dtype)
    return Operand(
        name=(tensor.name or b"").decode(errors="replace"),
        shape=tuple(int(n) for n in (tensor.shape if tensor.shape is not None else ())),
        dtype=dtype,
        is_constant=size > 0,
        size_bytes=size,
        index=int(index),
        scales=scales,
        zero_points=zero_points,
        values=tuple(int(value) for value in integers) if len(integers) <= _MOST_VALUES else (),
        largest=int(integers.max()) if integers.size else 0,
        free_axes=_free_axes(tensor),
    )


def _free_axes(tensor: Any) -> tuple[int, ...]:
    sizes = () if tensor.shapeSignature is None else tensor.shapeSignature
    return tuple(axis for axis, size in enumerate(sizes) if size < 0)


def quantization_of(tensor: Any) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Scales and zero points of a tensor of LiteRT's object tree, none where it holds real numbers."""
    table = tensor.quantization
    if table is None or table.scale is None or not len(table.scale):
        return (), ()
    points = () if table.zeroPoint is None else table.zeroPoint
    return tuple(float(scale) for scale in table.scale), tuple(int(point) for point in points)


def _integers(data: Any, dtype: str) -> Array:
    """The values of a constant of 32 or 64 bits: a bias, axes or sizes; none of any other."""
    if data is None or dtype not in {"int32", "int64"}:
        return np.zeros(0, np.int64)
    content = bytes(memoryview(data))
    whole = len(content) - len(content) % np.dtype(dtype).itemsize
    return np.frombuffer(content[:whole], dtype)


def _onnx_operators(path: Path) -> Iterable[Operator]:
    import onnx
    from onnx import helper

    model = onnx.load(path, load_external_data=False)
    values = _onnx_values(model)
    stored = _integer_twins(model.graph, values)
    versions = {_domain(entry.domain): entry.version for entry in model.opset_import}
    kinds = onnx.AttributeProto
    plain = {kinds.INT, kinds.FLOAT, kinds.STRING, kinds.INTS, kinds.FLOATS}
    for node in model.graph.node:
        inputs = tuple(stored.get(name) or values[name] for name in node.input if name in values)
        outputs = tuple(stored.get(name) or values[name] for name in node.output if name in values)
        options = {
            entry.name: helper.get_attribute_value(entry) for entry in node.attribute if entry.type in plain
        }
        domain = _domain(node.domain)
        names = (node.name, *node.output)
        yield Operator(
            node.op_type, names, inputs, outputs, options, version=versions.get(domain, 1), domain=domain
        )


def _domain(name: str) -> str:
    """The standard domain has two names."""
    return "" if name == "ai.onnx" else name


def _onnx_values(model: "ModelProto") -> dict[str, Operand]:
    """Every tensor that shape inference knows; constants with their sizes."""
    import onnx
    from onnx import helper

    graph = _with_shapes(model)

    def dtype(code: int) -> str:
        if code == onnx.TensorProto.INT4:
            return "int4"
        return "unknown" if code == 0 else str(np.dtype(helper.tensor_dtype_to_np_dtype(code)))

    found: dict[str, Operand] = {}
    for name in (name for node in graph.node for name in (*node.input, *node.output) if name):
        found[name] = Operand(name, (), "unknown")
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        found[value.name] = Operand(value.name, shape, dtype(tensor.elem_type))
    stored = {node.output[0]: attribute.t for node in graph.node if node.op_type == "Constant"
              for attribute in node.attribute if attribute.name == "value"}  # fmt: skip
    stored |= {tensor.name: tensor for tensor in graph.initializer}
    for name, tensor in stored.items():
        # Data outside of the file have no bytes here, and integers may be stored as wider ones.
        size = math.prod(tensor.dims) * _BITS.get(tensor.data_type, 32) // 8
        found[name] = Operand(name, tuple(tensor.dims), dtype(tensor.data_type), True, size)
    return found


def _with_shapes(model: "ModelProto") -> "GraphProto":
    """The graph with the shapes that follow from its inputs', a free batch taken as one."""
    import onnx

    for value in model.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and not dimensions[0].HasField("dim_value"):
            dimensions[0].dim_value = 1
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # noqa: BLE001 - inference gives up on some models that run; their shapes stay unknown
        return model.graph


def _integer_twins(graph: "GraphProto", values: Mapping[str, Operand]) -> dict[str, Operand]:
    """Tensors behind DequantizeLinear or before QuantizeLinear, as the integers that are stored."""
    twins: dict[str, Operand] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            integers = values[node.input[0]]
            shape = integers.shape or values[node.output[0]].shape
            twins[node.output[0]] = Operand(
                node.output[0],
                shape,
                _known(integers, node, values),
                integers.is_constant,
                integers.size_bytes,
            )
        elif node.op_type == "QuantizeLinear" and node.output[0] in values:
            real, integers = values[node.input[0]], values[node.output[0]]
            if not real.is_constant:
                twins[node.input[0]] = Operand(node.input[0], real.shape, _known(integers, node, values))
    return twins


def _known(integers: Operand, node: "NodeProto", values: Mapping[str, Operand]) -> str:
    """The integer type, from the zero point where shape inference does not reach."""
    if integers.dtype != "unknown" or len(node.input) < 3:
        return integers.dtype
    return values[node.input[2]].dtype
