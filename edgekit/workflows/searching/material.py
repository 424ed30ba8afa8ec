"""What all trials of a search are made from and judged on: prepared once, in one folder, for every worker."""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgekit import pipeline
from edgekit.artifact import Artifact, Format, align
from edgekit.calibration import draw
from edgekit.data import Dataset
from edgekit.documents import plain
from edgekit.engines import engine
from edgekit.errors import UsageError
from edgekit.formats import open_artifact
from edgekit.plan import Candidate
from edgekit.routes import way_to
from edgekit.tensor import Array
from edgekit.verbs.evaluate import evaluate
from edgekit.versions import installed_versions

_DOCUMENT, _CALIBRATION, _SEARCH, _BEFORE = "material.json", "calibration.npz", "search.npz", "before.npy"
_BATCH = 64
# Of a larger calibration set no more than what quantize draws is copied.
_MOST_COPIED = 4096


@dataclass(frozen=True)
class Asked:
    """What a search is about: the float model, samples that calibrate, and labelled ones that it may look at.

    ``calibration`` is None where none was given, ``search`` holds the samples on which trials are compared.
    """

    source: Artifact
    output_format: Format
    calibration: Dataset | None
    search: Dataset
    metric: str | None
    batch: int | None = 1
    io: str | None = None
    seed: int = 0
    # The calibration is drawn as `quantize` would draw it from the whole, if it is not searched how many to draw.
    draws_vary: bool = False

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides a trial's result, apart from its configuration."""
        found: dict[str, Any] = plain(
            {
                "model": self.source.sha256,
                "format": self.output_format.value,
                "calibration": None if self.calibration is None else identified(self.calibration),
                "search": identified(self.search),
                "metric": self.metric,
                "batch": self.batch,
                "io": self.io,
                "seed": self.seed,
                "versions": installed_versions(),
            }
        )
        return found


@dataclass(frozen=True)
class Material:
    """A folder with the prepared model, the samples as arrays, and what the float model made of them."""

    folder: Path
    original: Path
    model: Path
    metric: str
    unit: str
    n: int
    batch: int | None
    io: str | None
    seed: int
    has_calibration: bool

    @classmethod
    def prepare(cls, asked: Asked, folder: Path) -> Self:
        """Convert the model once, write the samples as it takes them, and run it on those of the search.

        Raises:
            EdgekitError: The model cannot be converted or run, or the samples do not fit it.
        """
        prepared = _prepared(asked, folder)
        search = folder / _SEARCH
        _write(asked.search.bind(asked.source.inputs), search, _renaming(asked.source, prepared))
        if asked.calibration is not None:
            _write_calibration(asked, folder / _CALIBRATION, _renaming(asked.source, prepared))
        before = evaluate(prepared, str(search), metric=asked.metric, preprocess="none", reference=None)
        np.save(folder / _BEFORE, before.rows)
        material = cls(
            folder,
            asked.source.path.absolute(),
            prepared.path,
            before.metric,
            before.unit,
            before.n,
            asked.batch,
            asked.io,
            asked.seed,
            asked.calibration is not None,
        )
        (folder / _DOCUMENT).write_text(json.dumps(material._describe()), encoding="utf-8")
        return material

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What ``prepare`` left, in a folder that may have moved since."""
        document = json.loads((folder / _DOCUMENT).read_text(encoding="utf-8"))
        original = folder / document.pop("original_copy", "")
        given = Path(document.pop("original"))
        return cls(
            folder=folder,
            model=folder / document.pop("model"),
            original=given if given.exists() else original,
            **document,
        )

    @property
    def calibration(self) -> str | None:
        """The samples that calibrate."""
        return str(self.folder / _CALIBRATION) if self.has_calibration else None

    @property
    def search(self) -> str:
        """The labelled samples on which trials are compared."""
        return str(self.folder / _SEARCH)

    @cached_property
    def before(self) -> NDArray[np.float64]:
        """The float model's row of numbers for each of those samples, as its metric makes them."""
        rows: NDArray[np.float64] = np.load(self.folder / _BEFORE)
        return rows

    def source_of(self, engine_name: str) -> Path:
        """The file that an engine starts from: the prepared one, or the original where it reads no other."""
        reads = engine(engine_name).SOURCE_FORMATS
        return self.model if open_artifact(self.model).format in reads else self.original

    def packed(self, *, with_original: bool) -> dict[str, bytes]:
        """The folder's files by name, for machines that cannot see it; ``unpacked`` is the reverse."""
        found = {path.name: path.read_bytes() for path in sorted(self.folder.iterdir()) if path.is_file()}
        document = json.loads(found[_DOCUMENT])
        if with_original and self.original.is_dir():
            members = [path for path in sorted(self.original.rglob("*")) if path.is_file()]
            found |= {f"original/{path.relative_to(self.original)}": path.read_bytes() for path in members}
            document["original_copy"] = "original"
        elif with_original:
            document["original_copy"] = f"original{self.original.suffix}"
            found[document["original_copy"]] = self.original.read_bytes()
        return found | {_DOCUMENT: json.dumps(document).encode()}

    @classmethod
    def unpacked(cls, contents: Mapping[str, bytes], folder: Path) -> Self:
        """The files of ``packed`` in a folder of this machine."""
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return cls.read(folder)

    def _describe(self) -> dict[str, Any]:
        return {
            "original": str(self.original),
            "model": self.model.name,
            "metric": self.metric,
            "unit": self.unit,
            "n": self.n,
            "batch": self.batch,
            "io": self.io,
            "seed": self.seed,
            "has_calibration": self.has_calibration,
        }


def identified(dataset: Dataset) -> list[Any]:
    """What tells samples from others: their digest, which of them, and their preprocessing."""
    contract = None if dataset.preprocessing is None else dataset.preprocessing.describe()
    indices = (
        None if dataset.indices is None else hashlib.sha256(np.array(dataset.indices).tobytes()).hexdigest()
    )
    return [dataset.digest(), indices, plain(contract)]


def halves(labels: Array, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two halves of labelled samples, each with half of every class; rising numbers, the same for one seed.

    Where labels are no classes (one number or word for each sample), any half is as good as another.

    >>> [len(half) for half in halves(np.array([0, 0, 0, 0, 1, 1]), seed=0)]
    [3, 3]
    """
    generator = np.random.default_rng(seed)
    flat = labels.reshape(len(labels), -1)
    classes = flat[:, 0] if flat.shape[1] == 1 and flat.dtype.kind in "iubU" else np.zeros(len(flat))
    first: list[int] = []
    second: list[int] = []
    for one in np.unique(classes):
        members = generator.permutation(np.flatnonzero(classes == one)).tolist()
        # What is left over of odd classes goes to the smaller half.
        small, large = sorted((first, second), key=len)
        small += members[::2]
        large += members[1::2]
    return tuple(sorted(first)), tuple(sorted(second))


def labels_of(dataset: Dataset) -> Array:
    """The labels of all samples.

    Raises:
        UsageError: There are none.
    """
    if not dataset.has_labels:
        raise UsageError(
            "EK571",
            f"{dataset.spec} has no labels, so no drop can be measured on it.",
            "Save labels as y, or search with --objective size and snr.",
        )
    return np.concatenate([batch.labels for batch in dataset.raw_batches(_BATCH) if batch.labels is not None])


def _prepared(asked: Asked, folder: Path) -> Artifact:
    """The float model in the format that is written, with the names of its tensors."""
    way = way_to(asked.source.format, [asked.output_format])
    if way is None:
        raise UsageError(
            "EK905",
            f"Nothing makes {asked.output_format} out of {asked.source.format}.",
            "Choose another format for the output.",
        )
    path = folder / f"model.{asked.output_format.value}"
    if not way:
        path.write_bytes(asked.source.path.read_bytes())
        return open_artifact(path)
    produced = pipeline.run(
        Candidate("tensorflow", way), asked.source, pipeline.float_settings(asked.batch), folder
    )
    produced.artifact.path.replace(path)
    return open_artifact(path)


def _renaming(source: Artifact, prepared: Artifact) -> dict[str, str]:
    return align(source.inputs, prepared.inputs)


def _write_calibration(asked: Asked, path: Path, names: Mapping[str, str]) -> None:
    """All samples, or of a large set those that ``quantize`` would draw: it then draws the same from them again."""
    dataset = asked.calibration
    if dataset is None:
        return
    if asked.draws_vary or dataset.count <= _MOST_COPIED:
        _write(dataset.bind(asked.source.inputs), path, names)
        return
    samples, _ = draw(dataset, asked.source.inputs, count=None, seed=asked.seed)
    chosen = {
        names[name]: _woven(values, samples.held_back[name]) for name, values in samples.calibration.items()
    }
    np.savez(path, **chosen)  # type: ignore[arg-type]


def _woven(calibration: Array, held_back: Array) -> Array:
    """Both parts in the order in which ``draw`` took them apart."""
    count = len(calibration) + len(held_back)
    marks = np.zeros(count, bool)
    marks[np.linspace(0, count - 1, len(held_back)).round().astype(int)] = True
    woven = np.empty((count, *calibration.shape[1:]), calibration.dtype)
    woven[marks], woven[~marks] = held_back, calibration
    return woven


def _write(dataset: Dataset, path: Path, names: Mapping[str, str]) -> None:
    """Prepared samples as an .npz file, batch by batch: memory does not grow with their number."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        arrays: dict[str, Any] = {}
        for batch in dataset.batches(_BATCH):
            parts = {names[name]: values for name, values in batch.inputs.items()}
            parts |= {} if batch.labels is None else {"y": batch.labels}
            for name, values in parts.items():
                if name not in arrays:
                    arrays[name] = _member(Path(folder), len(arrays), values, dataset.count)
                arrays[name][batch.first : batch.first + len(values)] = values
        with zipfile.ZipFile(path, "w") as archive:
            for number, name in enumerate(arrays):
                arrays[name].flush()
                archive.write(Path(folder) / f"{number}.npy", f"{name}.npy")


def _member(folder: Path, number: int, values: Array, count: int) -> Any:
    shape: Sequence[int] = (count, *values.shape[1:])
    dtype = values.dtype
    return np.lib.format.open_memmap(folder / f"{number}.npy", "w+", dtype, tuple(shape))
