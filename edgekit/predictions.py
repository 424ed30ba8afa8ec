"""Predictions on disk: an ``.npz`` with one row per sample, written as the rows come."""

import tempfile
import zipfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from edgekit import files
from edgekit.answering import Result
from edgekit.tensor import Array

_CHUNK_BYTES = 1 << 20


class PredictionsFile:
    """Collects rows in temporary files, and packs them when the evaluation has ended without an error.

    The file holds ``digest`` (sha256 of each raw sample, as text), ``label`` where there are any, ``rows``
    (the metric's numbers) and ``output_0``, ``output_1`` ... with their names in ``output_names``.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._columns: dict[str, _Column] = {}
        self._names: list[str] = []

    def __enter__(self) -> Self:
        return self

    def add(self, result: Result) -> None:
        """Append the rows of a batch; nothing without a path."""
        if self._path is None or result.outputs is None or result.digests is None:
            return
        self._names = list(result.outputs)
        columns: dict[str, Array] = {"digest": result.digests, "rows": result.rows}
        if result.labels is not None:
            columns["label"] = result.labels
        columns |= {f"output_{number}": array for number, array in enumerate(result.outputs.values())}
        for name, array in columns.items():
            if name not in self._columns:
                self._columns[name] = _Column(array)
            self._columns[name].append(array)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._path is not None:
                self._pack(self._path)
        finally:
            for column in self._columns.values():
                column.close()

    def _pack(self, path: Path) -> None:
        with (
            files.atomic_write(path) as part,
            zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive,
        ):
            for name, column in self._columns.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    column.write_to(member)
            with archive.open("output_names.npy", "w") as member:
                np.lib.format.write_array(member, np.array(self._names), allow_pickle=False)


class _Column:
    """One array of growing length, its values in a temporary file."""

    def __init__(self, first: Array) -> None:
        self._dtype = first.dtype
        self._shape = first.shape[1:]
        self._count = 0
        self._values: IO[Any] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by PredictionsFile

    def append(self, rows: Array) -> None:
        self._values.write(np.ascontiguousarray(rows, self._dtype).tobytes())
        self._count += len(rows)

    def write_to(self, member: IO[bytes]) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._count, *self._shape),
        }
        np.lib.format.write_array_header_1_0(member, header)
        self._values.seek(0)
        while chunk := self._values.read(_CHUNK_BYTES):
            member.write(chunk)

    def close(self) -> None:
        self._values.close()
