"""``.npz`` and ``.npy`` files, read chunk by chunk without unpickling anything."""

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from edgekit import files
from edgekit.data.sources import Batch
from edgekit.errors import DataError
from edgekit.tensor import Array

LABELS = "y"
_ZIP_MAGIC = b"PK"


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def sample_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])


class ArraySource:
    """The arrays of one file. Every array but ``y`` is an input; all have the samples on their first axis."""

    class_names: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zipped = _is_zip(path)
        with ExitStack() as stack:
            self._headers = {name: _read_header(stream, name, path) for name, stream in self._streams(stack)}
            if not self._headers:
                raise DataError(
                    "EK202", f"{path} holds no arrays.", "Save it with np.savez(path, x=..., y=...)."
                )
        self.has_labels = LABELS in self._headers
        self.names = tuple(name for name in self._headers if name != LABELS)
        if not self.names:
            raise DataError("EK209", f"{path} holds labels (y) but no samples.", "Save the samples as x.")
        self._check_lengths()

    @property
    def count(self) -> int:
        """The length of the first axis."""
        return self._headers[self.names[0]].shape[0]

    def sample_shape(self, name: str) -> tuple[int, ...]:
        """The array's shape without its first axis."""
        return self._headers[name].shape[1:]

    def batches(self, size: int) -> Iterator[Batch]:
        """Read ``size`` samples of every array at a time."""
        with ExitStack() as stack:
            streams = dict(self._streams(stack))
            for name, stream in streams.items():
                _read_header(stream, name, self._path)
            for first in range(0, self.count, size):
                rows = min(size, self.count - first)
                arrays = {name: self._read(stream, name, rows) for name, stream in streams.items()}
                labels = arrays.pop(LABELS, None)
                yield Batch(arrays, labels, first)

    def digest(self) -> str:
        """sha256 of the file."""
        return files.sha256(self._path)

    def _streams(self, stack: ExitStack) -> Iterator[tuple[str, IO[bytes]]]:
        """One stream per array, each at its beginning."""
        try:
            if not self._zipped:
                yield "x", stack.enter_context(self._path.open("rb"))
                return
            archive = stack.enter_context(zipfile.ZipFile(self._path))
            for member in archive.namelist():
                if member.endswith(".npy"):
                    yield member.removesuffix(".npy"), stack.enter_context(archive.open(member))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
            raise _corrupt(self._path, error) from error

    def _read(self, stream: IO[bytes], name: str, rows: int) -> Array:
        header = self._headers[name]
        wanted = rows * header.sample_bytes
        try:
            content = stream.read(wanted)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise _corrupt(self._path, error) from error
        if len(content) < wanted:
            raise DataError(
                "EK203", f"{self._path} is truncated: {name} ends early.", "Copy or save the file once more."
            )
        # A bytearray instead of bytes makes the array writable, which some runtimes insist on.
        return np.frombuffer(bytearray(content), header.dtype).reshape(rows, *header.shape[1:])

    def _check_lengths(self) -> None:
        lengths = {name: header.shape[0] for name, header in self._headers.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise DataError(
                "EK205",
                f"The arrays of {self._path} have different numbers of samples: {listed}.",
                "Samples lie on the first axis of every array.",
            )
        if self.count == 0:
            raise DataError("EK202", f"{self._path} holds no samples.", "Save at least one.")


def _is_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        magic = stream.read(6)
    if not magic:
        raise DataError("EK202", f"{path} is empty.", "Save it once more.")
    if magic[:2] == _ZIP_MAGIC:
        return True
    if magic == b"\x93NUMPY":
        return False
    raise DataError(
        "EK203", f"{path} is neither an .npz nor an .npy file.", "Save it with np.savez(path, x=..., y=...)."
    )


def _read_header(stream: IO[bytes], name: str, path: Path) -> _Header:
    """Read an .npy header, leaving the stream at the first value."""
    try:
        version = np.lib.format.read_magic(stream)
        # Version 3 differs only for structured types, which no model takes.
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran_order, dtype = read(stream)
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, OSError, SyntaxError) as error:
        raise _corrupt(path, error) from error
    if dtype.hasobject:
        raise DataError(
            "EK204",
            f"{name} in {path} holds pickled Python objects, which edgekit does not open: they can run code.",
            "Save plain numbers: np.savez(path, x=np.stack(samples), y=np.array(labels)).",
        )
    if dtype.kind not in "buif":
        raise DataError(
            "EK212", f"{name} in {path} has values of type {dtype}, not numbers.", "Save numbers."
        )
    if not shape:
        raise DataError("EK206", f"{name} in {path} is a single number.", "Samples lie on the first axis.")
    if fortran_order and len(shape) > 1:
        raise DataError(
            "EK219",
            f"{name} in {path} is stored column by column (Fortran order), so samples cannot be streamed.",
            f"Save it with np.ascontiguousarray({name}).",
        )
    return _Header(tuple(int(side) for side in shape), dtype)


def _corrupt(path: Path, error: Exception) -> DataError:
    return DataError(
        "EK203",
        f"{path} is truncated or corrupt: {error}.".replace("..", "."),
        "Copy or save the file once more.",
    )
