"""The inner tensors of a ``.tflite`` file, made visible by editing its first subgraph."""

import copy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import flatbuffer
from edgekit.debugging.graph import INPUT, Grid, Hidden, Value, Weight, fed, rounding_noise
from edgekit.passes import _graph
from edgekit.tensor import Array, Quantization

_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})
_VISIBLE = frozenset({"float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool"})
_INTEGERS = frozenset({"int4", "int8", "uint8", "int16", "int32", "int64"})
_STORED = _INTEGERS | {"float16", "float32", "float64", "bool"}
# Of QUANTIZE and DEQUANTIZE: the first that takes 16 bits too.
_CONVERSION_VERSION = 3
_CONTROL_FLOW = frozenset({"IF", "WHILE", "CALL", "STABLEHLO_WHILE", "STABLEHLO_COMPOSITE"})


class TfliteGraph:
    """See ``Graph``. Subgraphs of control flow are not looked into."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._content = path.read_bytes()
        self._tree = flatbuffer.read(self._content)
        self._graph = self._tree.subgraphs[0]
        self._kinds = {number: name for name, number in vars(schema.BuiltinOperator).items()}
        self._dtypes = {number: name.lower() for name, number in vars(schema.TensorType).items()
                        if isinstance(number, int)}  # fmt: skip
        self._named = {side: _names(self._tree, side) for side in ("inputs", "outputs")}
        self._writers = {index: op for op in self._graph.operators or [] for index in _numbers(op.outputs)}
        self._constants = self._constant_tensors()
        self.values, self.hidden = self._values()
        self.outputs = {name: str(index) for name, index in self._named["outputs"].items()}

    def expose(self, keys: Collection[str]) -> bytes:
        """See ``Graph.expose``."""

        def edit(tree: flatbuffer.Model) -> None:
            indices = {key: int(key) for key in keys}
            tree.subgraphs[0].outputs = list(indices.values())
            _sign(tree, self._named["inputs"], indices)

        return flatbuffer.rewrite(self._content, edit)

    def cut(self, keys: Collection[str], watched: Collection[str], weights: Mapping[str, Array]) -> bytes:
        """See ``Graph.cut``."""

        def edit(tree: flatbuffer.Model) -> None:
            graph = tree.subgraphs[0]
            written: dict[int, int] = {}
            for key in keys:
                graph.tensors.append(copy.copy(graph.tensors[int(key)]))
                written[int(key)] = len(graph.tensors) - 1
            for operator in graph.operators:
                operator.outputs = [written.get(index, index) for index in _numbers(operator.outputs)]
            _replace(tree, weights)
            inputs = self._named["inputs"] | {fed(str(index)): index for index in written}
            outputs = {str(index): copied for index, copied in written.items()}
            outputs |= {key: int(key) for key in watched}
            graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
            _sign(tree, inputs, outputs)

        return flatbuffer.rewrite(self._content, edit)

    def rounded(self, weights: Mapping[str, Array], grids: Mapping[str, Grid]) -> bytes:
        """See ``Graph.rounded``."""

        def edit(tree: flatbuffer.Model) -> None:
            graph = tree.subgraphs[0]
            _replace(tree, weights)
            outputs = dict(self._named["outputs"])
            for key, grid in grids.items():
                index = self._named["inputs"].get(key)
                copied = _round(tree, int(key) if index is None else index, grid)
                outputs |= {name: copied for name, output in outputs.items() if str(output) == key}
            graph.outputs = list(outputs.values())
            _sign(tree, self._named["inputs"], outputs)

        return flatbuffer.rewrite(self._content, edit)

    def constant(self, key: str) -> Array:
        """See ``Graph.constant``."""
        tensor = self._graph.tensors[int(key)]
        content = np.frombuffer(bytes(memoryview(self._tree.buffers[tensor.buffer].data)), np.uint8)
        shape, dtype = _numbers(tensor.shape), self._dtypes[tensor.type]
        if dtype == "int4":
            # Two numbers a byte, the lower half first.
            content = np.stack([content & 15, content >> 4], axis=1).ravel()[: int(np.prod(shape))]
            values: Array = (content.astype(np.int16) ^ 8) - 8
        else:
            values = content.view(dtype if dtype in _STORED else np.uint8)
        return values.reshape(shape) if values.size == np.prod(shape) else values

    def _constant_tensors(self) -> set[int]:
        """What is stored, and what operators make of that alone."""
        buffers = self._tree.buffers
        found = {
            index
            for index, tensor in enumerate(self._graph.tensors)
            if buffers[tensor.buffer].data is not None and len(buffers[tensor.buffer].data)
        }
        for operator in self._graph.operators or []:
            if all(index < 0 or index in found for index in _numbers(operator.inputs)):
                found.update(_numbers(operator.outputs))
        return found

    def _values(self) -> tuple[tuple[Value, ...], tuple[Hidden, ...]]:
        values = [self._input(index, name) for name, index in self._named["inputs"].items()]
        hidden = []
        batch = self._batch()
        for position, operator in enumerate(self._graph.operators or []):
            kind = self._kind(operator)
            for index in _numbers(operator.outputs):
                if index in self._constants or index < 0:
                    continue
                value = self._value(index, operator, position)
                reason = self._why_hidden(index, value, batch)
                if reason:
                    hidden.append(Hidden(value.name, reason, value))
                else:
                    values.append(value)
            if kind in _CONTROL_FLOW:
                hidden.append(Hidden(f"{kind} {position}", "what it calls is control flow"))
        return tuple(values), tuple(hidden)

    def _input(self, index: int, name: str) -> Value:
        tensor = self._graph.tensors[index]
        quantization = self._quantization(tensor)
        return Value(name, name, INPUT, _shape(tensor), self._dtypes[tensor.type], quantization, (), {})

    def _why_hidden(self, index: int, value: Value, batch: int) -> str:
        tensor = self._graph.tensors[index]
        if tensor.isVariable:
            return "it is a variable"
        if value.dtype not in _VISIBLE:
            return f"its type is {value.dtype}"
        if len(_scales(tensor)) > 1:
            return "it is quantized per channel"
        if batch > 1 and value.shape[:1] != (batch,):
            return "it has no batch axis"
        return ""

    def _value(self, index: int, operator: Any, position: int) -> Value:
        tensor = self._graph.tensors[index]
        kind = self._kind(operator)
        inputs = _numbers(operator.inputs)
        names = {number: name for name, number in self._named["inputs"].items()}
        return Value(
            str(index),
            (tensor.name or b"").decode(errors="replace") or f"{kind} {position}",
            kind,
            _shape(tensor),
            self._dtypes[tensor.type],
            self._quantization(tensor),
            tuple(names.get(i, str(i)) for i in inputs if i >= 0 and i not in self._constants),
            {place: weight for place, i in enumerate(inputs) if (weight := self._weight(i)) is not None},
            kind in _CONVERSIONS,
            any(self._is_blockwise(i) for i in inputs if i >= 0),
        )

    def _is_blockwise(self, index: int) -> bool:
        table = self._graph.tensors[index].quantization
        return index in self._constants and table is not None and table.details is not None

    def _quantization(self, tensor: Any) -> Quantization | None:
        scales = _scales(tensor)
        if len(scales) != 1 or not self._dtypes[tensor.type].startswith(("int", "uint")):
            return None
        return Quantization((scales[0],), (_numbers(tensor.quantization.zeroPoint)[0],))

    def _weight(self, index: int) -> Weight | None:
        """The stored constant that an operator reads, perhaps through DEQUANTIZE."""
        if index not in self._constants:
            return None
        writer = self._writers.get(index)
        if writer is not None:
            return self._weight(_numbers(writer.inputs)[0]) if self._kind(writer) == "DEQUANTIZE" else None
        tensor = self._graph.tensors[index]
        shape = tuple(_numbers(tensor.shape))
        scales = np.asarray(_scales(tensor), np.float32)
        dtype = self._dtypes[tensor.type]
        if not len(scales) or dtype not in _INTEGERS:
            return Weight(str(index), shape, None, dtype == "float16")
        if len(scales) > 1:
            sizes = [1] * len(shape)
            sizes[tensor.quantization.quantizedDimension] = -1
            scales = scales.reshape(sizes)
        points = _numbers(tensor.quantization.zeroPoint)
        integers = self.constant(str(index)).astype(np.float32) - (points[0] if len(points) == 1 else 0)
        return Weight(str(index), shape, scales, noise=rounding_noise(integers, scales))

    def _kind(self, operator: Any) -> str:
        code = self._tree.operatorCodes[operator.opcodeIndex]
        kind = str(self._kinds.get(code.builtinCode, code.builtinCode))
        return code.customCode.decode(errors="replace") if kind == "CUSTOM" and code.customCode else kind

    def _batch(self) -> int:
        first = next(iter(self._named["inputs"].values()), None)
        shape = [] if first is None else _numbers(self._graph.tensors[first].shape)
        return shape[0] if shape else 1


def _numbers(vector: Any) -> list[int]:
    return [] if vector is None else [int(number) for number in vector]


def _shape(tensor: Any) -> tuple[int | None, ...]:
    sizes = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    return tuple(None if size < 0 else size for size in _numbers(sizes))


def _scales(tensor: Any) -> list[float]:
    table = tensor.quantization
    if table is None or table.scale is None or table.zeroPoint is None:
        return []
    return [float(scale) for scale in table.scale]


def _names(tree: flatbuffer.Model, side: str) -> dict[str, int]:
    """The tensors at the border by the names that ``open_artifact`` gives them: the signature's, or their own."""
    graph = tree.subgraphs[0]
    indices = _numbers(getattr(graph, side))
    signature = next(iter(tree.signatureDefs or []), None)
    if signature is not None:
        entries = {entry.name.decode(): int(entry.tensorIndex) for entry in getattr(signature, side) or []}
        if set(entries.values()) == set(indices):
            return entries
    return {(graph.tensors[index].name or b"").decode(errors="replace"): index for index in indices}


def _sign(tree: flatbuffer.Model, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
    """Give the file one signature, so that every tensor at its border goes by a name of its own."""
    from ai_edge_litert import schema_py_generated as schema

    def entries(names: Mapping[str, int]) -> list[Any]:
        return [schema.TensorMapT(name=name.encode(), tensorIndex=index) for name, index in names.items()]

    signature = schema.SignatureDefT(
        inputs=entries(inputs), outputs=entries(outputs), signatureKey=b"serving_default", subgraphIndex=0
    )
    tree.signatureDefs = [signature]


def _replace(tree: flatbuffer.Model, weights: Mapping[str, Array]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    for key, values in weights.items():
        tensor = tree.subgraphs[0].tensors[int(key)]
        if tensor.type not in {schema.TensorType.FLOAT16, schema.TensorType.FLOAT32}:
            tensor = _real(tree, int(key))
        dtype = np.float16 if tensor.type == schema.TensorType.FLOAT16 else np.float32
        # A buffer of its own: equal constants may have shared one.
        tree.buffers.append(schema.BufferT(data=np.frombuffer(values.astype(dtype).tobytes(), np.uint8)))
        tensor.buffer = len(tree.buffers) - 1


def _round(tree: flatbuffer.Model, index: int, grid: Grid) -> int:
    """Add QUANTIZE and DEQUANTIZE behind a tensor; returns the new tensor, which all that read it read instead."""
    from ai_edge_litert import schema_py_generated as schema

    graph, kinds = tree.subgraphs[0], schema.BuiltinOperator
    integers, reals = copy.copy(graph.tensors[index]), copy.copy(graph.tensors[index])
    integers.type = getattr(schema.TensorType, grid.dtype.upper())
    integers.quantization = schema.QuantizationParametersT(
        scale=list(grid.quantization.scales), zeroPoint=list(grid.quantization.zero_points)
    )
    integers.name, reals.name = (tensor.name + b":rounded" for tensor in (integers, reals))
    integers.name += b":" + grid.dtype.encode()
    graph.tensors += [integers, reals]
    written, copied = len(graph.tensors) - 2, len(graph.tensors) - 1
    places = [place for place, one in enumerate(graph.operators) if index in _numbers(one.outputs)]
    for operator in graph.operators:
        operator.inputs = [copied if number == index else number for number in _numbers(operator.inputs)]
    ends = ((kinds.QUANTIZE, index, written), (kinds.DEQUANTIZE, written, copied))
    graph.operators[(places[-1] + 1 if places else 0) : 0] = [
        schema.OperatorT(
            opcodeIndex=_graph.operator_code(tree, kind, _CONVERSION_VERSION),
            inputs=[source],
            outputs=[output],
        )
        for kind, source, output in ends
    ]
    return copied


def _real(tree: flatbuffer.Model, index: int) -> Any:
    """Make a constant of integers one of real numbers, without what turned it into those; its values come after."""
    from ai_edge_litert import schema_py_generated as schema

    graph = tree.subgraphs[0]
    for operator in graph.operators:
        code = _graph.builtin_of(tree.operatorCodes[operator.opcodeIndex])
        if code == schema.BuiltinOperator.DEQUANTIZE and _numbers(operator.inputs) == [index]:
            index = _numbers(operator.outputs)[0]
            graph.operators.remove(operator)
            break
    tensor = graph.tensors[index]
    tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    return tensor
