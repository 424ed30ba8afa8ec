"""What a teacher says of each sample, computed once and kept on disk as one ``.npy`` file per output."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any

import numpy as np

from edgekit import files
from edgekit.errors import ModelError, OutputError
from edgekit.tensor import Array

MOST_BYTES = 8 << 30
_ABANDONED_S = 24 * 3600

Rows = Iterator[Mapping[str, Array]]


@dataclass(frozen=True)
class TeacherRows:
    """Arrays by name with one row per sample, read from disk as they are needed.

    ``{"probabilities": (20000, 10)}``. ``cached`` is True where they were there already.
    """

    folder: Path
    arrays: Mapping[str, Array]
    cached: bool


def cache_folder() -> Path:
    """Where rows are kept between trainings."""
    import platformdirs

    return platformdirs.user_cache_path("edgekit") / "teachers"


def key(**what: Any) -> str:
    """A name for rows that depend on all of this: digests of the teacher and of the data, the preprocessing."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]


def rows(
    place: Path, count: int, compute: Callable[[], Rows], *, most_bytes: int = MOST_BYTES
) -> TeacherRows:
    """The rows in a folder, computed and written there where they are missing.

    Args:
        place: The folder of these rows. Its siblings are rows of other teachers: the longest unused are removed
            when all together exceed ``most_bytes``.
        count: Number of samples.
        compute: Gives a dict of arrays for each batch, in the order of the samples.
        most_bytes: What all rows may take.

    Raises:
        OutputError: They would take more than that, the disk is full, or the folder cannot be written.
        ModelError: The teacher gives NaN or infinite values.
    """
    found = _read(place, count)
    if found is not None:
        place.touch()
        return TeacherRows(place, found, cached=True)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(mkdtemp(dir=place.parent, prefix=f".{place.name}."))
        try:
            _write(partial, count, compute(), most_bytes)
            if _read(place, count) is None:
                shutil.rmtree(place, ignore_errors=True)
            try:
                partial.rename(place)
            except OSError:
                if _read(place, count) is None:
                    raise
                # Another training of the same teacher was faster.
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise files.output_error(place, error) from error
    _trim(place, most_bytes)
    written = _read(place, count)
    if written is None:
        raise OutputError("EK605", f"{place} cannot be read back.", "Look whether the disk is in order.")
    return TeacherRows(place, written, cached=False)


def read(folder: Path, count: int) -> dict[str, Array]:
    """The rows that were written into a folder.

    Raises:
        OutputError: They are gone, or are those of other samples.
    """
    found = _read(folder, count)
    if found is None:
        hint = "Run the same command again; it computes them anew."
        raise OutputError("EK605", f"The teacher's rows in {folder} cannot be read.", hint)
    return found


def _read(place: Path, count: int) -> dict[str, Array] | None:
    """Memory maps of the files; None where one is missing, damaged or of another length."""
    try:
        names = json.loads((place / "names.json").read_text(encoding="utf-8"))
        arrays = {
            name: np.load(place / f"{index}.npy", mmap_mode="r", allow_pickle=False)
            for index, name in enumerate(names)
        }
    except (OSError, ValueError):
        return None
    return arrays if all(len(array) == count for array in arrays.values()) else None


def _write(folder: Path, count: int, batches: Rows, most_bytes: int) -> None:
    """One file per array, written as a stream: a full disk is an error then, and no crash as in a memory map."""
    with ExitStack() as opened:
        streams: dict[str, IO[bytes]] = {}
        first = 0
        for batch in batches:
            if not streams:
                _check_size(batch, count, most_bytes)
                for index, (name, array) in enumerate(batch.items()):
                    streams[name] = opened.enter_context((folder / f"{index}.npy").open("wb"))
                    shape = (count, *array.shape[1:])
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(streams[name], header)
            for name, stream in streams.items():
                _check_finite(batch[name], name, first)
                stream.write(np.ascontiguousarray(batch[name], "<f4").data)
            first += len(next(iter(batch.values())))
    files.write_bytes(folder / "names.json", json.dumps(list(streams)).encode())


def _check_size(batch: Mapping[str, Array], count: int, most_bytes: int) -> None:
    needed = sum(4 * count * int(np.prod(array.shape[1:])) for array in batch.values())
    if needed > most_bytes:
        raise OutputError(
            "EK764",
            f"The teacher's rows for {count:,} samples take {needed / 1e9:.1f} GB; {most_bytes / 1e9:.1f} GB are "
            "the most.",
            "Take smaller feature maps, --feature-loss attention or relation, or fewer samples.",
        )


def _check_finite(values: Array, name: str, first: int) -> None:
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        sample = first + int(np.argmax(bad))
        raise ModelError(
            "EK766",
            f"The teacher's {name} has NaN or infinite values for sample {sample}.",
            "Look at that sample with edgekit evaluate; a teacher must answer every sample.",
        )


def _trim(kept: Path, most_bytes: int) -> None:
    """Remove what was not used for longest until all fits, and what killed processes left behind."""
    folders = [path for path in kept.parent.iterdir() if path.is_dir() and path != kept]
    for path in folders:
        if path.name.startswith(".") and time.time() - path.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(path, ignore_errors=True)
    others = [path for path in folders if not path.name.startswith(".")]
    total = files.size_bytes(kept) + sum(map(files.size_bytes, others))
    for path in sorted(others, key=lambda folder: folder.stat().st_mtime):
        if total <= most_bytes:
            return
        total -= files.size_bytes(path)
        shutil.rmtree(path, ignore_errors=True)
