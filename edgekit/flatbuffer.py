"""Read, change and write ``.tflite`` files.

A file becomes the object tree of LiteRT's own schema (``ModelT``, whose fields are those of TensorFlow's
``schema.fbs`` in camel case), is changed there, and becomes bytes again. Equal vectors, strings and tables
are written once and shared, which the format allows and every reader follows without knowing.
"""

import copy
import hashlib
import io
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import flatbuffers
from flatbuffers.number_types import UOffsetTFlags

from edgekit.errors import ModelError

# The tree is made of LiteRT's generated classes, which carry no type information.
Model = Any

_IDENTIFIER = b"TFL3"
# Offsets are signed 32-bit numbers; some room is left for what a pass adds.
_LARGEST_BYTES = 2**31 - 2**20
_LARGEST_ASSOCIATED_BYTES = 256 * 2**20
# schema.fbs gives Buffer.data `force_align: 16`: kernels load weights with aligned vector instructions.
_BUFFER_ALIGNMENT = 16
_BUFFER_FIELDS = 3
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

    Raises:
        ModelError: It is no ``.tflite`` file, corrupt, larger than 2 GiB, written with weights outside the
            flatbuffer, or uses operator options that this version of the schema does not know.
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
    builder = _SharingBuilder(1 << 16)
    try:
        builder.Finish(packable.Pack(builder), _IDENTIFIER)
    except flatbuffers.builder.BuilderSizeError as error:
        raise ModelError("EK350", "The .tflite file would be larger than 2 GiB.", _TOO_LARGE_HINT) from error
    return bytes(builder.Output())


_TOO_LARGE_HINT = "Split the model, or quantize it from its Keras or ONNX source."
_CORRUPT_HINT = "Copy or export the model again; compare its sha256 with the source's."


def _check_counts(packed: Any, size_bytes: int) -> None:
    """Refuse a small file whose tables, all pointing at one another, would unpack into a huge tree."""
    count = packed.OperatorCodesLength() + packed.BuffersLength() + packed.SignatureDefsLength()
    for index in range(min(packed.SubgraphsLength(), size_bytes)):
        graph = packed.Subgraphs(index)
        count += 1 + graph.TensorsLength() + graph.OperatorsLength()
        if count > size_bytes // 4:
            raise ValueError(f"{count} tables in {size_bytes} bytes")


def _check_supported(model: Model, schema: Any) -> None:
    if not model.subgraphs or not model.buffers or any(graph.tensors is None for graph in model.subgraphs):
        raise ValueError("no subgraph, no buffers or no tensors")
    # Up to 1 these fields are placeholders; beyond, the bytes lie behind the flatbuffer.
    outside = any(max(buffer.offset, buffer.size) > 1 for buffer in model.buffers)
    operators = [operator for graph in model.subgraphs for operator in graph.operators or []]
    if outside or any(operator.largeCustomOptionsOffset > 1 for operator in operators):
        message = "The .tflite file keeps its weights outside the flatbuffer, as files above 2 GiB do."
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

    def Pack(self, builder: "_SharingBuilder") -> int:  # noqa: N802 - called by the generated code
        data = None
        if self._data is not None and len(self._data):
            data = builder.create_bytes(bytes(memoryview(self._data)), _BUFFER_ALIGNMENT)
        builder.StartObject(_BUFFER_FIELDS)
        if data is not None:
            builder.PrependUOffsetTRelativeSlot(0, data, 0)
        return builder.EndObject()


class _SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """A flatbuffers builder that returns the earlier offset where it is asked to write the same again.

    Fields of a table are kept until its end: only then is it known whether the table is new, and sorted by
    size they need the least padding.
    """

    def __init__(self, initial_size: int) -> None:
        super().__init__(initial_size)
        self._written: dict[Any, int] = {}
        self._fields: list[tuple[int, Any, Any]] = []
        self._vector: tuple[int, int, int] | None = None
        self._targets: list[int] = []

    def create_bytes(self, data: bytes, alignment: int) -> int:
        """A vector of bytes at an aligned address."""
        self.StartVector(1, len(data), alignment)
        self.head -= len(data)
        self.Bytes[self.head : self.head + len(data)] = data
        return self.EndVector()

    # The methods below replace those of flatbuffers.Builder that the generated code calls.

    def CreateString(self, s: bytes | str, encoding: str = "utf-8", errors: str = "strict") -> int:  # noqa: N802
        key = ("string", s.encode(encoding, errors) if isinstance(s, str) else s)
        if key not in self._written:
            self._written[key] = super().CreateString(s, encoding, errors)
        return self._written[key]

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803
        before = int(self.Offset())
        start = int(super().StartVector(elemSize, numElems, alignment))
        self._vector = before, start, alignment
        self._targets = []
        return start

    def PrependUOffsetTRelative(self, off: int) -> None:  # noqa: N802
        self._targets.append(off)
        super().PrependUOffsetTRelative(off)

    def EndVector(self, numElems: int | None = None) -> int:  # noqa: N802, N803
        if self._vector is None:
            return int(super().EndVector(numElems))
        (before, start, alignment), self._vector = self._vector, None
        # Offsets are relative to where they stand, so it is their targets that tell vectors of them apart.
        written = memoryview(self.Bytes)[len(self.Bytes) - int(self.Offset()) : len(self.Bytes) - start]
        content = hashlib.sha256(written).digest()
        written.release()
        key = "vector", alignment, self.vectorNumElems, tuple(self._targets) or content
        offset = int(super().EndVector(numElems))
        if key in self._written:
            self.head = len(self.Bytes) - before
        return self._written.setdefault(key, offset)

    def StartObject(self, numfields: int) -> None:  # noqa: N802
        super().StartObject(numfields)
        self._fields = []

    def PrependSlot(self, flags: Any, o: int, x: Any, d: Any) -> None:  # noqa: N802
        if x != d:
            self._fields.append((o, flags, x))

    def PrependUOffsetTRelativeSlot(self, o: int, x: int, d: int) -> None:  # noqa: N802
        if x != d:
            self._fields.append((o, UOffsetTFlags, x))

    def EndObject(self) -> int:  # noqa: N802
        key = "table", *((slot, flags.packer_type.pack(value)) for slot, flags, value in self._fields)
        if key in self._written:
            self.nested, self.current_vtable = False, None
            return self._written[key]
        for slot, flags, value in sorted(self._fields, key=lambda field: (-field[1].bytewidth, field[0])):
            if flags is UOffsetTFlags:
                super().PrependUOffsetTRelative(value)
            else:
                self.Prepend(flags, value)
            self.Slot(slot)
        self._written[key] = int(super().EndObject())
        return self._written[key]


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
