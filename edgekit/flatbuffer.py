"""Read, change and write ``.tflite`` files.

A file becomes the object tree of LiteRT's own schema (``ModelT``, whose fields are those of TensorFlow's
``schema.fbs`` in camel case), is changed there, and becomes bytes again. Equal vectors, strings and tables
are written once and shared, which the format allows and every reader follows without knowing.
"""

import copy
import io
import struct
import zipfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from edgekit.errors import ModelError
from edgekit.flatbuffer_layout import BlockRecorder

# The tree is made of LiteRT's generated classes, which carry no type information.
Model = Any

_IDENTIFIER = b"TFL3"
# Offsets are signed 32-bit numbers; some room is left for what a pass adds.
_LARGEST_BYTES = 2**31 - 2**20
_LARGEST_ASSOCIATED_BYTES = 256 * 2**20
# schema.fbs gives Buffer.data `force_align: 16`: kernels load weights with aligned vector instructions.
_BUFFER_ALIGNMENT = 16
_BUFFER_FIELDS = 3
# Offsets up to this are written first and filled in later, or never; beyond, bytes lie behind the flatbuffer.
_PLACEHOLDER = 1
# What unpacking raises where offsets or lengths lead outside the file.
_CORRUPT = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError, RecursionError)


def rewrite(content: bytes, edit: Callable[[Model], None]) -> bytes:
    """Change a ``.tflite`` file.

    Args:
        content: The file's bytes.
        edit: Changes the object tree in place.

    Returns:
        The new file's bytes. Files that TensorFlow Lite metadata appends to the model (labels, vocabularies:
        a zip archive after the flatbuffer) are appended again.

    Raises:
        ModelError: The file is unreadable, or too large.
    """
    model = read(content)
    edit(model)
    return _append_files(write(model), _associated_files(content))


def read(content: bytes) -> Model:
    """Unpack a ``.tflite`` file into LiteRT's object tree. Vectors in it are read-only views of ``content``.

    Operator codes have their number in both of the fields that the schema has for it, whichever the file filled.

    Raises:
        ModelError: It is no ``.tflite`` file, corrupt, larger than 2 GiB, or uses operator options that this
            version of the schema does not know.
    """
    from ai_edge_litert import schema_py_generated as schema

    if len(content) > _LARGEST_BYTES:
        raise ModelError(
            "EK350", f"The .tflite file is too large to edit: {len(content)} bytes.", _TOO_LARGE_HINT
        )
    if content[4:8] != _IDENTIFIER:
        raise ModelError(
            "EK351", "The file is no .tflite model: its identifier TFL3 is missing.", _CORRUPT_HINT
        )
    try:
        packed = schema.Model.GetRootAs(content, 0)
        _check_counts(packed, len(content))
        model = schema.ModelT.InitFromObj(packed)
        _check_indices(model)
        _take_in_weights(model, content)
        _fill_operator_codes(model, schema)
        _check_supported(model, schema)
    except _CORRUPT as error:
        message = "The .tflite file is corrupt: its tables lead outside the file."
        raise ModelError("EK351", message, _CORRUPT_HINT, detail=repr(error)) from error
    return model


def write(model: Model) -> bytes:
    """Pack LiteRT's object tree; equal vectors, strings and tables are stored once.

    Raises:
        ModelError: The result would be larger than 2 GiB.
    """
    # The generated code aligns no buffer. Objects with a Pack method of their own stand in for its buffers.
    packable = copy.copy(model)
    packable.buffers = [_AlignedBuffer(buffer) for buffer in model.buffers or []]
    recorder = BlockRecorder()
    content = recorder.finish(packable.Pack(recorder), _IDENTIFIER)
    if len(content) > _LARGEST_BYTES:
        raise ModelError("EK350", "The .tflite file would be larger than 2 GiB.", _TOO_LARGE_HINT)
    return content


_TOO_LARGE_HINT = "Split the model, or quantize it from its Keras or ONNX source."
_CORRUPT_HINT = "Copy or export the model again; compare its sha256 with the source's."


def _check_counts(packed: Any, size_bytes: int) -> None:
    """Refuse a small file whose tables, all pointing at one another, would unpack into a huge tree."""
    count = packed.OperatorCodesLength() + packed.BuffersLength() + packed.SignatureDefsLength()
    for index in range(min(packed.SubgraphsLength(), size_bytes)):
        graph = packed.Subgraphs(index)
        count += 1 + graph.TensorsLength() + graph.OperatorsLength()
        if count > size_bytes:
            raise ValueError(f"{count} tables in {size_bytes} bytes")


def _check_indices(model: Model) -> None:
    """Every index in the tree leads to something, so that no pass has to ask."""
    if not model.subgraphs or not model.buffers or any(graph.tensors is None for graph in model.subgraphs):
        raise ValueError("no subgraph, no buffers or no tensors")
    for graph in model.subgraphs:
        _check_range([tensor.buffer for tensor in graph.tensors], model.buffers)
        _check_range(graph.inputs, graph.tensors)
        _check_range(graph.outputs, graph.tensors)
        for operator in graph.operators or []:
            _check_range([operator.opcodeIndex], model.operatorCodes)
            for vector in (operator.inputs, operator.outputs, operator.intermediates):
                # -1 is an optional tensor that is absent.
                _check_range(vector, graph.tensors, smallest=-1)
    for entry in model.metadata or []:
        _check_range([entry.buffer], model.buffers)
    _check_range(model.metadataBuffer, model.buffers)
    for signature in model.signatureDefs or []:
        _check_range([signature.subgraphIndex], model.subgraphs)
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        for entry in [*(signature.inputs or []), *(signature.outputs or [])]:
            _check_range([entry.tensorIndex], tensors)


def _check_range(indices: Iterable[int] | None, things: Sequence[Any], *, smallest: int = 0) -> None:
    if indices is not None and not all(smallest <= index < len(things) for index in indices):
        raise ValueError(f"an index leads beyond {len(things)} entries")


def _take_in_weights(model: Model, content: bytes) -> None:
    """Weights behind the flatbuffer, as writers of large files and ai-edge-quantizer put them, become part of it."""
    for buffer in model.buffers:
        if max(buffer.offset, buffer.size) <= _PLACEHOLDER:
            continue
        if buffer.offset + buffer.size > len(content):
            raise ValueError(f"weights at {buffer.offset} lead outside the file")
        buffer.data = np.frombuffer(content, np.uint8, count=buffer.size, offset=buffer.offset)
        buffer.offset = buffer.size = 0


def _fill_operator_codes(model: Model, schema: Any) -> None:
    """Write an operator's number in both of its fields.

    Files from before 2020 hold it in the old one-byte field alone, where few look today. ai-edge-quantizer leaves that
    one at 0, which is ADD for the readers that go by it: OpenVINO, tf2onnx and old runtimes.
    """
    # In the old field it stands for all that came later.
    placeholder = int(schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    for code in model.operatorCodes or []:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
        code.deprecatedBuiltinCode = min(code.builtinCode, placeholder)


def _check_supported(model: Model, schema: Any) -> None:
    operators = [operator for graph in model.subgraphs for operator in graph.operators or []]
    if any(operator.largeCustomOptionsOffset > _PLACEHOLDER for operator in operators):
        message = "The .tflite file keeps operator options outside the flatbuffer, as files above 2 GiB do."
        raise ModelError("EK350", message, _TOO_LARGE_HINT)
    known = set(vars(schema.BuiltinOptions).values()), set(vars(schema.BuiltinOptions2).values())
    for operator in operators:
        if operator.builtinOptionsType not in known[0] or operator.builtinOptions2Type not in known[1]:
            message = "The .tflite file uses operator options newer than the installed ai-edge-litert."
            raise ModelError("EK352", message, "Export the model with an older converter, or update edgekit.")


class _AlignedBuffer:
    """Packs a ``BufferT`` with its data aligned as the schema demands."""

    def __init__(self, buffer: Any) -> None:
        self._data = buffer.data

    def Pack(self, recorder: BlockRecorder) -> int:  # noqa: N802 - called by the generated code
        data = None
        if self._data is not None and len(self._data):
            content = np.asarray(self._data, np.uint8).tobytes()
            data = recorder.create_bytes(content, _BUFFER_ALIGNMENT)
        recorder.StartObject(_BUFFER_FIELDS)
        if data is not None:
            recorder.PrependUOffsetTRelativeSlot(0, data, 0)
        return recorder.EndObject()


def _associated_files(content: bytes) -> list[tuple[zipfile.ZipInfo, bytes]]:
    """The files of a zip archive that follows the flatbuffer."""
    stream = io.BytesIO(content)
    if not zipfile.is_zipfile(stream):
        return []
    try:
        with zipfile.ZipFile(stream) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > _LARGEST_ASSOCIATED_BYTES:
                raise ModelError("EK350", "The files packed into the .tflite file are larger than 256 MiB.")
            return [(info, archive.read(info)) for info in infos]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        message = "The files packed into the .tflite file (TensorFlow Lite metadata) are corrupt."
        raise ModelError("EK351", message, _CORRUPT_HINT, detail=repr(error)) from error


def _append_files(content: bytes, files: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    if not files:
        return content
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a") as archive:
        for info, data in files:
            archive.writestr(info, data)
    return stream.getvalue()
