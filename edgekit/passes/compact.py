"""Make a ``.tflite`` file smaller without changing what it computes.

Converters repeat themselves: every tensor has its own copy of zero points that are all zero, of ranges that
only the calibration needed, of shapes, and of names that no runtime reads. What is left out here is nothing
that a kernel, a delegate or the LiteRT API uses.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from edgekit import flatbuffer
from edgekit.errors import InternalError

# Written by converters about themselves; every other metadata entry belongs to somebody.
_CONVERTER_METADATA = {b"min_runtime_version", b"CONVERSION_METADATA"}


def compact(model: bytes, *, keep_names: bool = False) -> bytes:
    """Write a ``.tflite`` file in fewer bytes; its outputs stay the same bit for bit.

    Equal vectors, strings, tables and buffers are shared; unused buffers, calibration ranges, the names of
    inner tensors and converters' notes are left out. Names of inputs, outputs and signatures stay.

    Args:
        model: The file's bytes.
        keep_names: Keep the names of inner tensors and subgraphs and the description.

    Returns:
        The new file's bytes, or ``model`` itself where that is no larger.

    Raises:
        ModelError: The file is unreadable or too large.
        InternalError: The result does not hold the same operators, tensors and values.
    """
    before: list[Any] = []

    def strip(tree: flatbuffer.Model) -> None:
        before.append(_essence(tree))
        _drop_ranges(tree)
        _drop_notes(tree)
        if not keep_names:
            _drop_names(tree)
        _merge_buffers(tree)
        _merge_operator_codes(tree)

    result = flatbuffer.rewrite(model, strip)
    if [_essence(flatbuffer.read(result))] != before:
        raise InternalError(
            "EK910", "Compaction changed the model.", "Run with --keep-names, and report this."
        )
    return result if len(result) < len(model) else model


def _drop_ranges(tree: flatbuffer.Model) -> None:
    """Drop min and max, which only quantizers read, quantization that says nothing, and doubled shapes."""
    for tensor in _tensors(tree):
        table = tensor.quantization
        if table is not None:
            table.min = table.max = None
            if table.details is None and not _length(table.scale):
                tensor.quantization = None
        # An absent signature means that the shape is fixed, which is what an equal one says too.
        if tensor.shapeSignature is not None and _numbers(tensor.shapeSignature) == _numbers(tensor.shape):
            tensor.shapeSignature = None


def _drop_notes(tree: flatbuffer.Model) -> None:
    kept = [entry for entry in tree.metadata or [] if entry.name not in _CONVERTER_METADATA]
    tree.metadata = kept or None


def _drop_names(tree: flatbuffer.Model) -> None:
    tree.description = None
    for index, graph in enumerate(tree.subgraphs):
        graph.name = None
        named = {*_numbers(graph.inputs), *_numbers(graph.outputs)}
        for signature in tree.signatureDefs or []:
            if signature.subgraphIndex == index:
                named |= {
                    entry.tensorIndex for entry in [*(signature.inputs or []), *(signature.outputs or [])]
                }
        for position, tensor in enumerate(graph.tensors):
            if position not in named:
                tensor.name = None


def _merge_buffers(tree: flatbuffer.Model) -> None:
    """Keep one buffer of each content; buffer 0 is the empty one, as the schema has it."""
    from ai_edge_litert import schema_py_generated as schema

    places: dict[bytes, int] = {b"": 0}
    buffers = [schema.BufferT()]

    def place(index: int) -> int:
        digest = _digest(tree, index)
        if digest not in places:
            places[digest] = len(buffers)
            buffers.append(tree.buffers[index])
        return places[digest]

    for tensor in _tensors(tree):
        tensor.buffer = place(tensor.buffer)
    for entry in tree.metadata or []:
        entry.buffer = place(entry.buffer)
    if tree.metadataBuffer is not None:
        tree.metadataBuffer = [place(int(index)) for index in tree.metadataBuffer]
    tree.buffers = buffers


def _merge_operator_codes(tree: flatbuffer.Model) -> None:
    places: dict[tuple[Any, ...], int] = {}
    codes: list[Any] = []
    for graph in tree.subgraphs:
        for operator in graph.operators or []:
            code = tree.operatorCodes[operator.opcodeIndex]
            key = tuple(vars(code).values())
            if key not in places:
                places[key] = len(codes)
                codes.append(code)
            operator.opcodeIndex = places[key]
    tree.operatorCodes = codes


def _essence(tree: flatbuffer.Model) -> Any:
    """All that a runtime acts on, with indices into shared lists replaced by what they point at."""
    return [
        (
            _numbers(graph.inputs),
            _numbers(graph.outputs),
            [graph.tensors[index].name for index in {*_numbers(graph.inputs), *_numbers(graph.outputs)}],
            [_tensor_essence(tree, tensor) for tensor in graph.tensors],
            [_operator_essence(tree, operator) for operator in graph.operators or []],
        )
        for graph in tree.subgraphs
    ], _plain(tree.signatureDefs)


def _tensor_essence(tree: flatbuffer.Model, tensor: Any) -> dict[str, Any]:
    facts = {
        name: value for name, value in vars(tensor).items() if name not in {"name", "buffer", "quantization"}
    }
    signature = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    table = tensor.quantization
    quantization = None
    if table is not None and (table.details is not None or _length(table.scale)):
        quantization = _plain({**vars(table), "min": None, "max": None})
    return {
        **{name: _plain(value) for name, value in facts.items()},
        "shapeSignature": _numbers(signature),
        "content": _digest(tree, tensor.buffer),
        "quantization": quantization,
    }


def _operator_essence(tree: flatbuffer.Model, operator: Any) -> Any:
    code = tree.operatorCodes[operator.opcodeIndex]
    return _plain({**vars(operator), "opcodeIndex": None}), _plain(code)


def _plain(value: Any) -> Any:
    """An object tree as lists and dictionaries, which compare by value."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return _plain(vars(value)) if hasattr(value, "__dict__") else value


def _tensors(tree: flatbuffer.Model) -> Iterable[Any]:
    return (tensor for graph in tree.subgraphs for tensor in graph.tensors)


def _digest(tree: flatbuffer.Model, index: int) -> bytes:
    """The SHA-256 of a buffer's data; empty where it has none."""
    data = tree.buffers[index].data
    return hashlib.sha256(memoryview(data)).digest() if _length(data) else b""


def _numbers(vector: Any) -> list[int]:
    return [] if vector is None else [int(number) for number in vector]


def _length(vector: Any) -> int:
    return 0 if vector is None else len(vector)
