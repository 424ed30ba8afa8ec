"""The noun ``Dataset``, and how a data spec becomes one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from edgekit import catalog
from edgekit.artifact import TensorSpec
from edgekit.data.arrays import ArraySource
from edgekit.data.fit import Preparation, check_shape, match_names
from edgekit.data.function import FunctionSource
from edgekit.data.images import FolderSource
from edgekit.data.sources import Batch, Source, check_count, merge, select
from edgekit.errors import DataError, UsageError
from edgekit.preprocessing import Preprocessing, load_preprocessing, read_spec


@dataclass(frozen=True)
class Dataset:
    """Samples as a stream, with optional labels. It never holds more than one batch.

    Made by ``open_dataset``. ``indices`` are the samples of ``source`` that belong to it, None for all.
    """

    spec: str
    source: Source
    preparation: Preparation = field(default_factory=Preparation)
    indices: tuple[int, ...] | None = None

    @cached_property
    def count(self) -> int:
        """Number of samples."""
        return self.source.count if self.indices is None else len(self.indices)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the model's outputs, empty where nothing names them."""
        contract = self.preprocessing
        return (contract.labels if contract else ()) or self.source.class_names

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The contract that is applied to every sample, None for none."""
        return self.preparation.preprocessing

    @property
    def has_labels(self) -> bool:
        """Whether every sample has a label."""
        return self.source.has_labels

    def digest(self) -> str:
        """sha256 of the raw samples; all of them, also where this is a part."""
        return self.source.digest()

    def raw_batches(self, size: int) -> Iterator[Batch]:
        """Batches as they are stored, to be prepared elsewhere by ``preparation``."""
        return self.source.batches(size) if self.indices is None else select(self.source, self.indices, size)

    def batches(self, size: int) -> Iterator[Batch]:
        """Prepared batches from the first sample to the last, ``size`` at a time."""
        return (self.preparation(raw) for raw in self.raw_batches(size))

    def take(self, indices: Sequence[int]) -> Batch:
        """The samples of these rising indices, in memory.

        Raises:
            DataError: There are fewer samples than an index says.
        """
        part = self.subset(indices)
        return merge(list(part.batches(max(1, len(indices)))), 0)

    def subset(self, indices: Sequence[int]) -> "Dataset":
        """The samples of these rising indices, still as a stream.

        Raises:
            DataError: There are fewer samples than an index says, or none is asked for.
        """
        if not indices:
            raise DataError("EK210", f"No samples of {self.spec} were asked for.", "Ask for at least one.")
        check_count(max(indices) + 1, self.count, self.spec)
        rising = tuple(sorted(indices))
        chosen = rising if self.indices is None else tuple(self.indices[index] for index in rising)
        return replace(self, indices=chosen)

    def spread(self, samples: int) -> "Dataset":
        """So many samples, evenly spread: files sorted by class would give their first class alone.

        Raises:
            DataError: There are fewer.
        """
        check_count(samples, self.count, self.spec)
        return (
            self
            if samples == self.count
            else self.subset([i * self.count // samples for i in range(samples)])
        )

    def bind(self, inputs: tuple[TensorSpec, ...]) -> "Dataset":
        """The dataset as a model with these inputs takes it.

        What is known without reading samples is checked at once, the rest as they stream by.

        Raises:
            DataError: An input has no array, or an array has the wrong shape.
        """
        names = match_names(inputs, self.source.names)
        if self.preprocessing is None:
            for spec in inputs:
                shape = self.source.sample_shape(names[spec.name])
                if shape is not None:
                    check_shape(shape, spec)
        return replace(self, preparation=replace(self.preparation, inputs=inputs))


def open_dataset(spec: str | Path | Dataset, *, preprocess: str | None = None) -> Dataset:
    """Open a data spec: a .npz or .npy file, a folder of images, a TOML spec, or ``FILE.py:function``.

    Args:
        spec: A path, the name of a spec in ``calibration/``, or ``FILE.py:function``. A dataset stays as it is.
        preprocess: A TOML file with a preprocessing contract, or its name in ``calibration/``; ``"none"`` for none.

    Raises:
        DataError: There is nothing there, or it cannot be read.
        UsageError: A spec file is wrong, or two contracts are given.
        DependencyError: Images are given and Pillow is not installed.
    """
    if isinstance(spec, Dataset):
        return spec
    text = str(spec)
    location, contract = _resolve(text)
    if preprocess not in {None, "none"}:
        if contract is not None and contract != Preprocessing(contract.name):
            raise UsageError(
                "EK220",
                f"{text} has a preprocessing contract of its own, and --preprocess names another.",
                "Give one of them.",
            )
        contract = load_preprocessing(str(preprocess))
    source = _open_source(location, contract.labels if contract else ())
    return Dataset(text, source, Preparation(contract))


def _resolve(text: str) -> tuple[str, Preprocessing | None]:
    """Where the samples are; a TOML spec also gives the contract."""
    path = Path(text)
    named = path.suffix != ".toml" and not path.exists() and text in _spec_names()
    if path.suffix != ".toml" and not named:
        return text, None
    if not named and not path.is_file():
        raise _missing(text)
    file = catalog.data_file("calibration", text)
    data, contract = read_spec(file)
    if data is None:
        raise UsageError(
            "EK221",
            f"{file.name} says how samples are preprocessed, but not where they are.",
            f"Use it beside data: --preprocess {text}.",
        )
    return str(file.parent / data), contract


def _spec_names() -> set[str]:
    folders = (Path("calibration"), catalog.data_folder("calibration"))
    return {file.stem for folder in folders for file in folder.glob("*.toml")}


def _open_source(location: str, labels: Sequence[str]) -> Source:
    file, _, function = location.rpartition(":")
    if file.endswith(".py"):
        if not Path(file).is_file():
            raise _missing(file)
        return FunctionSource(Path(file), function)
    path = Path(location)
    if not path.exists():
        raise _missing(location)
    if path.suffix == ".py":
        raise DataError(
            "EK213", f"{path} is Python code.", f"Name the function that yields (x, y): {path}:function."
        )
    try:
        return FolderSource(path, labels) if path.is_dir() else ArraySource(path)
    except OSError as error:
        raise DataError("EK203", f"{path} cannot be read: {error.strerror}.") from error


def _missing(location: str) -> DataError:
    known = ", ".join(sorted(_spec_names()))
    hint = "Data are a .npz or .npy file, a folder of images, a TOML spec or FILE.py:function."
    return DataError(
        "EK201", f"There are no data at {location}.", f"{hint} Shipped specs: {known}." if known else hint
    )
