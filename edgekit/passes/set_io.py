"""Change what a quantized ``.tflite`` model takes and gives: real numbers, int8 or uint8.

The change is made at the border only. A QUANTIZE or DEQUANTIZE operator is taken away where the model had
one, and put there where the caller asks for another type than the graph computes in.
"""

import copy
from dataclasses import dataclass
from typing import Any, Literal

from edgekit import flatbuffer
from edgekit.errors import InternalError
from edgekit.findings import Finding
from edgekit.passes import _graph

IOType = Literal["float32", "int8", "uint8", "int16"]

_OFFSET = 128  # between the zero points of an int8 tensor and the uint8 tensor of the same real numbers


@dataclass(frozen=True)
class IOChange:
    """The new file, and the inputs and outputs that could not be changed, as findings."""

    model: bytes
    findings: tuple[Finding, ...]


def set_io(model: bytes, dtype: IOType) -> IOChange:
    """Give every quantized input and output of a ``.tflite`` model one type.

    int8 to float32 adds QUANTIZE or DEQUANTIZE; float32 to int8 takes them away; uint8 is int8 with a zero
    point 128 higher. Inputs and outputs that the graph computes in real numbers, and those that are no
    quantized values at all (indices, flags), stay what they are; names and signatures stay too.

    Args:
        model: The file's bytes.
        dtype: ``"float32"``, ``"int8"``, ``"uint8"``, or ``"int16"`` for graphs with int16 activations.

    Returns:
        The new file's bytes and a finding EK360 for each tensor left alone that is not of the wanted type.

    Raises:
        ModelError: The file is unreadable or too large, or fixes the order of its operators.
    """
    findings: list[Finding] = []

    def change(tree: flatbuffer.Model) -> None:
        _graph.check_order_is_free(tree)
        for index in _graph.entry_graphs(tree):
            findings.extend(_Border(tree, index, dtype).change())

    result = flatbuffer.rewrite(model, change)
    if _names(flatbuffer.read(result)) != _names(flatbuffer.read(model)):
        raise InternalError("EK910", "Changing the input type renamed an input.", "Please report this.")
    return IOChange(result, tuple(findings))


class _Border:
    """The inputs and outputs of one subgraph while they are changed."""

    def __init__(self, tree: flatbuffer.Model, graph_index: int, dtype: IOType) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._tree = tree
        self._graph_index = graph_index
        self._graph = tree.subgraphs[graph_index]
        self._graph.operators = list(self._graph.operators or [])
        self._dtype = dtype
        self._type = getattr(schema.TensorType, dtype.upper())
        # Each tensor once, in order: a model may give the same one twice.
        self._io = {
            side: list(dict.fromkeys(_graph.numbers(getattr(self._graph, side))))
            for side in ("inputs", "outputs")
        }
        self._given_names = {i: self._graph.tensors[i].name for side in self._io.values() for i in side}

    def change(self) -> list[Finding]:
        """Change both sides; returns what was left alone."""
        findings: list[Finding] = []
        for side in ("inputs", "outputs"):
            done: dict[int, int] = {}
            for outer in self._io[side]:
                inner = next(filter(self._convertible, (self._behind(outer, side), outer)), None)
                if inner is None:
                    findings.extend(self._left_alone(outer, side))
                else:
                    done[outer] = self._extend(inner, side)
                    self._rename(outer, done[outer], inner)
            self._connect(side, done)
        self._remove_unused()
        return findings

    def _behind(self, outer: int, side: str) -> int:
        """The tensor behind the conversion at the border; ``outer`` itself where there is none."""
        near, far = ("inputs", "outputs") if side == "inputs" else ("outputs", "inputs")
        touching = [op for op in self._graph.operators if outer in _graph.numbers(getattr(op, near))]
        if len(touching) != 1 or not self._only_converts(touching[0]):
            return outer
        behind = _graph.numbers(getattr(touching[0], far))[0]
        is_border_itself = behind in {*self._io["inputs"], *self._io["outputs"]}
        return outer if is_border_itself or outer in self._io[far] else behind

    def _only_converts(self, operator: Any) -> bool:
        """Whether an operator changes the type of the numbers and not the real numbers they stand for."""
        codes = self._schema.BuiltinOperator
        builtin = _graph.builtin_of(self._tree.operatorCodes[operator.opcodeIndex])
        if builtin not in {codes.QUANTIZE, codes.DEQUANTIZE}:
            return False
        if (len(_graph.numbers(operator.inputs)), len(_graph.numbers(operator.outputs))) != (1, 1):
            return False
        source = self._graph.tensors[operator.inputs[0]]
        result = self._graph.tensors[operator.outputs[0]]
        types = self._schema.TensorType
        if types.FLOAT32 in {source.type, result.type}:
            return True
        if {source.type, result.type} != {types.INT8, types.UINT8}:
            return False
        if not (_quantized_per_tensor(source) and _quantized_per_tensor(result)):
            return False
        (scale_a, zero_a), (scale_b, zero_b) = _affine(source), _affine(result)
        shift = _OFFSET if result.type == types.UINT8 else -_OFFSET
        return scale_a == scale_b and zero_b - zero_a == shift

    def _variable(self, index: int) -> bool:
        """Whether a tensor is computed or given, not stored in the file."""
        data = self._tree.buffers[self._graph.tensors[index].buffer].data
        return data is None or len(data) == 0

    def _convertible(self, index: int) -> bool:
        """Whether the graph has this tensor in the wanted type, or in integers that can be turned into it."""
        tensor, types = self._graph.tensors[index], self._schema.TensorType
        if not self._variable(index):
            return False
        if tensor.type == self._type:
            return self._dtype == "float32" or _quantized_per_tensor(tensor)
        if not _quantized_per_tensor(tensor):
            return False
        if self._dtype == "float32":
            return tensor.type in {types.INT8, types.UINT8, types.INT16}
        return {tensor.type, self._type} == {types.INT8, types.UINT8}

    def _extend(self, inner: int, side: str) -> int:
        """The tensor of the wanted type at the border, with the operator between it and ``inner``."""
        tensor = self._graph.tensors[inner]
        if tensor.type == self._type:
            return inner
        border = copy.copy(tensor)
        border.type, border.buffer, border.quantization = self._type, 0, self._border_quantization(tensor)
        self._graph.tensors.append(border)
        new = len(self._graph.tensors) - 1
        source, result = (new, inner) if side == "inputs" else (inner, new)
        operator = self._conversion(source, result)
        self._graph.operators.insert(0 if side == "inputs" else len(self._graph.operators), operator)
        return new

    def _border_quantization(self, inner: Any) -> Any:
        if self._dtype == "float32":
            return None
        scale, zero_point = _affine(inner)
        shift = _OFFSET if self._dtype == "uint8" else -_OFFSET
        return self._schema.QuantizationParametersT(scale=[scale], zeroPoint=[zero_point + shift])

    def _conversion(self, source: int, result: int) -> Any:
        """A QUANTIZE or DEQUANTIZE operator of the version that op_version.cc of TensorFlow asks for."""
        schema, types = self._schema, self._schema.TensorType
        if self._graph.tensors[result].type == types.FLOAT32:
            versions = {types.UINT8: 1, types.INT8: 2, types.INT16: 3}
            builtin, version = schema.BuiltinOperator.DEQUANTIZE, versions[self._graph.tensors[source].type]
            kind, options = schema.BuiltinOptions.DequantizeOptions, schema.DequantizeOptionsT()
        else:
            builtin = schema.BuiltinOperator.QUANTIZE
            version = 2 if self._graph.tensors[result].type == types.INT16 else 1
            kind, options = schema.BuiltinOptions.QuantizeOptions, schema.QuantizeOptionsT()
        return schema.OperatorT(
            opcodeIndex=_graph.operator_code(self._tree, builtin, version),
            inputs=[source],
            outputs=[result],
            builtinOptionsType=kind,
            builtinOptions=options,
        )

    def _rename(self, outer: int, border: int, inner: int) -> None:
        """Keep the caller's name on the tensor at the border, and on no other."""
        name = self._given_names[outer]
        for index in {outer, inner} - {border}:
            self._graph.tensors[index].name = (name or b"") + b"_inner"
        self._graph.tensors[border].name = name

    def _connect(self, side: str, done: dict[int, int]) -> None:
        indices = _graph.numbers(getattr(self._graph, side))
        setattr(self._graph, side, [done.get(index, index) for index in indices])
        for entry in _graph.signature_entries(self._tree, self._graph_index, side):
            entry.tensorIndex = done.get(entry.tensorIndex, entry.tensorIndex)

    def _remove_unused(self) -> None:
        """Take away the conversions that nothing reads or nothing feeds any more, and their tensors."""
        graph = self._graph
        made = {*graph.inputs, *_touched(graph.operators, "outputs")}
        read = {*graph.outputs, *_touched(graph.operators, "inputs")}

        def needed(operator: Any) -> bool:
            source, result = _graph.numbers(operator.inputs)[0], _graph.numbers(operator.outputs)[0]
            return result in read and (source in made or not self._variable(source))

        gone = [op for op in graph.operators if self._only_converts(op) and not needed(op)]
        graph.operators = [op for op in graph.operators if op not in gone]
        unused = _touched(gone, "inputs") | _touched(gone, "outputs")
        unused -= _touched(graph.operators, "inputs") | _touched(graph.operators, "outputs")
        unused -= {*graph.inputs, *graph.outputs}
        _graph.remove_tensors(self._tree, self._graph_index, unused)

    def _left_alone(self, index: int, side: str) -> list[Finding]:
        tensor, types = self._graph.tensors[index], self._schema.TensorType
        quantizable = {types.FLOAT32, types.INT8, types.UINT8, types.INT16}
        if tensor.type == self._type or tensor.type not in quantizable:
            return []
        names = {value: name.lower() for name, value in vars(types).items() if isinstance(value, int)}
        message = (
            f"The model's {side.removesuffix('s')} {(tensor.name or b'').decode(errors='replace')!r} stays "
            f"{names[tensor.type]}: the graph does not compute it in {self._dtype}."
        )
        hint = "Quantize the model statically, or use --io float32."
        return [Finding("EK360", message, hint)]


def _touched(operators: list[Any], side: str) -> set[int]:
    return {index for operator in operators for index in _graph.numbers(getattr(operator, side))}


def _affine(tensor: Any) -> tuple[float, int]:
    """Scale and zero point of a tensor quantized as a whole."""
    return float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])


def _quantized_per_tensor(tensor: Any) -> bool:
    table = tensor.quantization
    if table is None or table.details is not None or table.scale is None or table.zeroPoint is None:
        return False
    return len(table.scale) == len(table.zeroPoint) == 1


def _names(tree: flatbuffer.Model) -> list[tuple[bytes, ...]]:
    return [
        tuple(tree.subgraphs[index].tensors[i].name for i in (*graph.inputs, *graph.outputs))
        for index, graph in enumerate(tree.subgraphs)
    ]
