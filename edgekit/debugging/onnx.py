"""The inner tensors of an ``.onnx`` file, made visible by adding outputs to its main graph."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.debugging.graph import INPUT, Grid, Hidden, Value, Weight, fed, rounding_noise
from edgekit.errors import ModelError
from edgekit.tensor import Array, Quantization

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_FLOATS = frozenset({"float16", "float32", "float64"})
_VISIBLE = _FLOATS | {"int8", "uint8", "int16", "uint16", "int32", "int64", "bool"}
# Where an operator that computes in integers keeps scale and zero point of its output, and weights with their scale.
_OUTPUT_SCALE = {
    "QuantizeLinear": 1, "QLinearConv": 6, "QLinearMatMul": 6, "QLinearAdd": 6, "QLinearMul": 6, "QGemm": 7,
    "QLinearGlobalAveragePool": 3, "QLinearAveragePool": 3, "QLinearSigmoid": 3, "QLinearLeakyRelu": 3,
    "QLinearSoftmax": 3, "QLinearConcat": 0,
}  # fmt: skip
_INTEGER_WEIGHTS = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}
# Their integers have scales of other kinds.
_UNKNOWN_GRID = frozenset({"MatMulNBits", "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul"})
# What these give lies on the grid of what they read.
_KEEP_GRID = frozenset(
    {"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Identity", "Expand"}
)
# The names of what is added to a file.
_INTEGERS, _SCALE, _POINT = "integers:", "scale:", "zero_point:"
_EXACT, _ROUNDED = "exact:", "rounded:"


class OnnxGraph:
    """See ``Graph``. Integers with a scale are shown and fed as the real numbers that they stand for."""

    def __init__(self, path: Path) -> None:
        import onnx

        self._model = onnx.load(str(path))
        graph = self._model.graph
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._stored |= dict(_constant_nodes(graph))
        self._writers = {name: node for node in graph.node for name in node.output if name}
        self._constants = self._constant_names()
        self._types = _types(self._model)
        self._grids: dict[str, Quantization] = {}
        self.values, self.hidden = self._values()
        self._by_key = {value.key: value for value in self.values}
        self.outputs = {output.name: output.name for output in graph.output}

    def expose(self, keys: Collection[str]) -> bytes:
        """See ``Graph.expose``."""
        return self._edited([], keys, {})

    def cut(self, keys: Collection[str], watched: Collection[str], weights: Mapping[str, Array]) -> bytes:
        """See ``Graph.cut``."""
        return self._edited(keys, [*keys, *watched], weights)

    def _edited(self, given: Collection[str], shown: Collection[str], weights: Mapping[str, Array]) -> bytes:
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        graph.ClearField("output")
        # A tensor of integers gives its name to the real numbers that they stand for.
        kept = {key: _INTEGERS + key for key in shown if self._by_key[key].quantization is not None}
        read = kept | {key: self._read_name(key) for key in given}
        for node in graph.node:
            node.input[:] = [read.get(name, name) for name in node.input]
            node.output[:] = [kept.get(name, name) for name in node.output]
        for key in dict.fromkeys((*given, *shown)):
            self._add_grid(graph, self._by_key[key])
        for key in given:
            self._feed(graph, self._by_key[key])
        for key in shown:
            self._show(graph, self._by_key[key])
        _replace(graph, weights)
        content: bytes = model.SerializeToString()
        return content

    def _read_name(self, key: str) -> str:
        """What the readers of a tensor that was cut read: the new input, integers after they were made of it."""
        return fed(key) if self._by_key[key].quantization is None else _INTEGERS + fed(key)

    def _show(self, graph: "GraphProto", value: Value) -> None:
        """Make a tensor an output under its key; integers through DequantizeLinear."""
        from onnx import helper

        if value.quantization is None:
            graph.output.append(helper.make_empty_tensor_value_info(value.key))
            return
        names = [_INTEGERS + value.key, _SCALE + value.key, _POINT + value.key]
        graph.node.append(helper.make_node("DequantizeLinear", names, [value.key]))
        graph.output.append(helper.make_tensor_value_info(value.key, 1, None))

    def _feed(self, graph: "GraphProto", value: Value) -> None:
        """Add the input that stands for a tensor; integers through QuantizeLinear."""
        from onnx import helper

        name, shape = fed(value.key), list(value.shape)
        if value.quantization is None:
            elem_type = self._types[value.key].type.tensor_type.elem_type
            graph.input.append(helper.make_tensor_value_info(name, elem_type, shape))
            return
        graph.input.append(helper.make_tensor_value_info(name, 1, shape))
        names = [name, _SCALE + value.key, _POINT + value.key]
        graph.node.insert(0, helper.make_node("QuantizeLinear", names, [_INTEGERS + name]))

    def _add_grid(self, graph: "GraphProto", value: Value) -> None:
        """Store the scale and the zero point of a tensor of integers, where an added operator finds them."""
        from onnx import numpy_helper

        if value.quantization is not None:
            scale = np.asarray(value.quantization.scales[0], np.float32)
            point = np.asarray(value.quantization.zero_points[0], value.dtype)
            graph.initializer.append(numpy_helper.from_array(scale, _SCALE + value.key))
            graph.initializer.append(numpy_helper.from_array(point, _POINT + value.key))

    def rounded(self, weights: Mapping[str, Array], grids: Mapping[str, Grid]) -> bytes:
        """See ``Graph.rounded``."""
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        _replace(graph, weights)
        ends = {output.name for output in graph.output}
        # An output keeps its name: its operator writes under another one.
        written = {key: _EXACT + key for key in grids if key in ends}
        read = {key: key if key in ends else _ROUNDED + key for key in grids}
        for node in graph.node:
            node.input[:] = [read.get(name, name) for name in node.input]
            node.output[:] = [written.get(name, name) for name in node.output]
        for key, grid in grids.items():
            _round(graph, written.get(key, key), read[key], grid)
        content: bytes = model.SerializeToString()
        return content

    def constant(self, key: str) -> Array:
        """See ``Graph.constant``."""
        return _array(self._stored[key])

    def _constant_names(self) -> set[str]:
        """What is stored, and what nodes make of that alone."""
        found = set(self._stored)
        for node in self._model.graph.node:
            if not _inner_graphs(node) and all(not name or name in found for name in node.input):
                found.update(name for name in node.output if name)
        return found

    def _values(self) -> tuple[tuple[Value, ...], tuple[Hidden, ...]]:
        graph = self._model.graph
        values = [
            Value(i.name, i.name, INPUT, self._shape(i.name), self._dtype(i.name), None, (), {})
            for i in graph.input
            if i.name not in self._stored
        ]
        first = values[0].shape[:1] if values else ()
        batch = (first[0] or 1) if first else 1
        hidden = []
        for node in graph.node:
            for name in node.output:
                if not name or name in self._constants:
                    continue
                value = self._value(name, node)
                reason = _why_hidden(value, batch)
                if reason:
                    hidden.append(Hidden(name, reason, value))
                else:
                    values.append(value)
            if _inner_graphs(node):
                hidden.append(Hidden(node.name or node.op_type, "what is inside is control flow"))
        return tuple(values), tuple(hidden)

    def _value(self, name: str, node: "NodeProto") -> Value:
        inputs = tuple(i for i in node.input if i and i not in self._constants)
        dtype = self._dtype(name)
        grid = self._grid(node, inputs)
        if grid is not None:
            self._grids[name] = grid
            dtype = dtype or self._dtype_of_grid(node)
        is_conversion = node.op_type in {"QuantizeLinear", "DequantizeLinear"} or (
            node.op_type == "Cast" and {dtype, self._dtype(node.input[0])} <= _FLOATS
        )
        weights = dict(self._weights(node))
        return Value(
            name,
            name,
            node.op_type,
            self._shape(name),
            dtype,
            grid,
            inputs,
            weights,
            is_conversion,
            node.op_type in _UNKNOWN_GRID or self._reads_blocks(node),
        )

    def _reads_blocks(self, node: "NodeProto") -> bool:
        """Whether a constant of the operator has a scale for each block of its values."""
        return any(
            _is_blockwise(self._writers[name])
            for name in node.input
            if name in self._constants and name in self._writers
        )

    def _grid(self, node: "NodeProto", inputs: tuple[str, ...]) -> Quantization | None:
        place = _OUTPUT_SCALE.get(node.op_type)
        if place is None:
            source = inputs[0] if inputs and node.op_type in _KEEP_GRID else ""
            return self._grids.get(source)
        scale = self._stored.get(node.input[place])
        if scale is None:
            return None
        point = self._stored.get(node.input[place + 1]) if len(node.input) > place + 1 else None
        scales = _array(scale).ravel()
        if len(scales) != 1:
            return None
        return Quantization((float(scales[0]),), (0 if point is None else int(_array(point).ravel()[0]),))

    def _dtype_of_grid(self, node: "NodeProto") -> str:
        """From the zero point, where shape inference does not know the operator; without one it is uint8."""
        place = _OUTPUT_SCALE.get(node.op_type)
        if place is None:
            return self._dtype(node.input[0])
        stored = self._stored.get(node.input[place + 1]) if len(node.input) > place + 1 else None
        return "uint8" if stored is None else _array(stored).dtype.name

    def _weights(self, node: "NodeProto") -> Iterator[tuple[int, Weight]]:
        """Constants by their place in the float operator."""
        if node.op_type in _INTEGER_WEIGHTS:
            place = _INTEGER_WEIGHTS[node.op_type]
            integers, scale = self._stored.get(node.input[place]), self._stored.get(node.input[place + 1])
            if integers is not None and scale is not None:
                axis = 0 if node.op_type == "QLinearConv" else -1
                yield 1, _on_grid(integers, _array(scale), axis)
            return
        for place, name in enumerate(node.input):
            writer = self._writers.get(name)
            if name in self._stored:
                tensor = self._stored[name]
                yield place, Weight(name, tuple(tensor.dims), None, _array(tensor).dtype == np.float16)
            elif writer is not None and name in self._constants and writer.op_type == "DequantizeLinear":
                integers, scale = self._stored.get(writer.input[0]), self._stored.get(writer.input[1])
                if integers is not None and scale is not None and not _is_blockwise(writer):
                    axis = next((entry.i for entry in writer.attribute if entry.name == "axis"), 1)
                    yield place, _on_grid(integers, _array(scale), axis)

    def _dtype(self, name: str) -> str:
        from onnx import helper

        info = self._types.get(name)
        code = 0 if info is None else info.type.tensor_type.elem_type
        return str(np.dtype(helper.tensor_dtype_to_np_dtype(code))) if code else ""

    def _shape(self, name: str) -> tuple[int | None, ...]:
        info = self._types.get(name)
        if info is None:
            return ()
        dimensions = info.type.tensor_type.shape.dim
        return tuple(d.dim_value if d.HasField("dim_value") else None for d in dimensions)


def _array(tensor: "TensorProto") -> Array:
    from onnx import numpy_helper

    array: Array = numpy_helper.to_array(tensor)
    return array


def _constant_nodes(graph: "GraphProto") -> Iterator[tuple[str, "TensorProto"]]:
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                yield node.output[0], attribute.t


def _is_blockwise(node: "NodeProto") -> bool:
    return any(attribute.name == "block_size" and attribute.i for attribute in node.attribute)


def _inner_graphs(node: "NodeProto") -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


def _types(model: "ModelProto") -> dict[str, Any]:
    """What shape inference knows about every tensor."""
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:
        # Its exceptions have no common ancestor; without types no tensor can become an output.
        raise ModelError(
            "EK709",
            "The types of the model's inner tensors cannot be inferred.",
            "Export the model again, with standard operators and a recent opset.",
            detail=str(error),
        ) from error
    return {info.name: info for info in (*graph.input, *graph.output, *graph.value_info)}


def _why_hidden(value: Value, batch: int) -> str:
    if value.dtype not in _VISIBLE:
        return f"its type is {value.dtype or 'not known'}"
    if value.quantization is None and value.dtype in {"int8", "uint8", "int16", "uint16"}:
        return "its scale is not known"
    if batch > 1 and value.shape[:1] != (batch,):
        return "it has no batch axis"
    return ""


def _on_grid(integers: "TensorProto", scale: Array, axis: int) -> Weight:
    shape = tuple(integers.dims)
    step = scale.astype(np.float32)
    if step.size > 1:
        sizes = [1] * len(shape)
        sizes[axis] = -1
        step = step.reshape(sizes)
    step = step.reshape(()) if step.size == 1 else step
    return Weight(integers.name, shape, step, noise=rounding_noise(_array(integers).astype(np.float32), step))


def _replace(graph: "GraphProto", weights: Mapping[str, Array]) -> None:
    from onnx import numpy_helper

    for tensor in graph.initializer:
        if tensor.name in weights:
            dtype = numpy_helper.to_array(tensor).dtype
            values = weights[tensor.name].astype(dtype if dtype.kind == "f" else np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _round(graph: "GraphProto", source: str, output: str, grid: Grid) -> None:
    """Add QuantizeLinear and DequantizeLinear from one tensor to another, behind what writes the first."""
    from onnx import helper, numpy_helper

    scale, point, integers = _SCALE + output, _POINT + output, _INTEGERS + output
    graph.initializer.append(
        numpy_helper.from_array(np.asarray(grid.quantization.scales[0], np.float32), scale)
    )
    graph.initializer.append(
        numpy_helper.from_array(np.asarray(grid.quantization.zero_points[0], grid.dtype), point)
    )
    places = [place for place, node in enumerate(graph.node) if source in node.output]
    place = places[-1] + 1 if places else 0
    graph.node.insert(place, helper.make_node("QuantizeLinear", [source, scale, point], [integers]))
    graph.node.insert(place + 1, helper.make_node("DequantizeLinear", [integers, scale, point], [output]))
