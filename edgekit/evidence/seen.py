"""One pass over samples: what is kept of each is a digest, its label and some numbers, never its values."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.artifact import TensorSpec
from edgekit.data import Batch, Dataset
from edgekit.data.fit import match_names
from edgekit.evidence.readings import AS_GIVEN, Picture
from edgekit.sample_digests import SampleDigests, digest_samples
from edgekit.tensor import Array

_BATCH = 16
# Lowest, 1st percentile, median, 99th percentile and highest of each sample's values.
_QUANTILES = (0.0, 0.01, 0.5, 0.99, 1.0)
LOWEST, LOW, MEDIAN, HIGH, HIGHEST = range(5)
_GRID = 3
_FAR = 0.05
# Fields and roughness are kept of this many, evenly spread, so that memory does not grow with the samples.
_MOST_PICTURES = 2048


@dataclass(frozen=True, eq=False)
class Seen:
    """What one pass over n samples saw, prepared as the model would be given them.

    ``shapes`` has the shape of one sample by input. ``digests`` has shape (n, 16); ``labels`` (n,) with class numbers,
    or is None. ``quantiles`` holds (n, 5) for each input, the columns being ``LOWEST`` to ``HIGHEST`` of a sample's
    finite values. ``finite`` and ``constant`` say of each sample whether all its values are numbers, and whether they
    are one and the same. ``fields`` holds the means of nine fields of each picture's channels, (m, 27), and
    ``roughness`` how much neighbours in it differ, (m,), by the reading, of some thousand samples at most; both are
    empty where the model takes no pictures. ``is_sorted_folder`` says that the order is that of folders of classes.
    """

    spec: str
    shapes: Mapping[str, tuple[int, ...]]
    digests: Array
    labels: Array | None
    quantiles: Mapping[str, Array]
    finite: NDArray[np.bool_]
    constant: NDArray[np.bool_]
    fields: Mapping[str, Array]
    roughness: Mapping[str, Array]
    class_names: tuple[str, ...] = ()
    is_sorted_folder: bool = False

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.digests)

    def ends(self, name: str) -> tuple[float, float]:
        """An input's range, without the farthest values of each sample and the farthest twentieth of the samples."""
        known = self.quantiles[name][self.finite]
        known = known if len(known) else self.quantiles[name]
        return float(np.quantile(known[:, LOW], _FAR)), float(np.quantile(known[:, HIGH], 1 - _FAR))


def main_input(inputs: tuple[TensorSpec, ...]) -> TensorSpec:
    """The input that is read in other ways: the largest."""
    return max(inputs, key=lambda spec: np.prod([size or 1 for size in spec.shape]))


def prepared(dataset: Dataset, inputs: tuple[TensorSpec, ...], size: int) -> Iterator[Batch]:
    """Batches under the names of the model's inputs, as real numbers where it takes such; NaN is let through."""
    for batch in dataset.batches(size):
        names = match_names(inputs, batch.inputs)
        arrays = {spec.name: _as_taken(batch.inputs[names[spec.name]], spec) for spec in inputs}
        yield Batch(arrays, batch.labels, batch.first)


def _as_taken(values: Array, spec: TensorSpec) -> Array:
    """Integers as they are for inputs that are no real numbers; one type for each input, so that digests agree."""
    if takes_reals(spec) or values.dtype.kind == "f":
        return values.astype(np.float32, copy=False)
    return values.astype(spec.dtype, copy=False)


def takes_reals(spec: TensorSpec) -> bool:
    """Whether an input takes real numbers, be it as integers with a scale."""
    return spec.dtype.startswith("float") or spec.quantization is not None


def see(
    dataset: Dataset, inputs: tuple[TensorSpec, ...], *, progress: Callable[[int, int], None] | None = None
) -> Seen:
    """Read every sample once.

    Args:
        dataset: The samples, not bound to a model, so that broken ones get this far.
        inputs: The model's inputs.
        progress: Called with the numbers of samples done and of all.

    Raises:
        DataError: The samples cannot be read, or an input has no array.
    """
    picture, every = Picture.of(inputs), max(1, dataset.count // _MOST_PICTURES)
    parts, shapes = [], {}
    for batch in prepared(dataset, inputs, _BATCH):
        looked_at = np.flatnonzero((batch.first + np.arange(batch.count)) % every == 0)
        parts.append(_part(batch) | _pictures(batch, picture, looked_at))
        shapes = {name: values.shape[1:] for name, values in batch.inputs.items()}
        if progress:
            progress(batch.first + batch.count, dataset.count)
    # Labels of another kind than numbers of classes are left out from the first batch on that has them.
    joined = {key: np.concatenate([part[key] for part in parts if key in part]) for key in parts[0]}
    labels = joined.get("label")
    names = dataset.source.names
    return Seen(
        dataset.spec,
        shapes,
        joined["digest"],
        labels if labels is not None and len(labels) == len(joined["digest"]) else None,
        {spec.name: joined[f"quantiles {spec.name}"] for spec in inputs},
        joined["finite"],
        joined["constant"],
        _named(joined, "fields "),
        _named(joined, "roughness "),
        dataset.class_names,
        dataset.has_labels and len(names) == 1 and dataset.source.sample_shape(names[0]) is None,
    )


def _named(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {key.removeprefix(prefix): values for key, values in arrays.items() if key.startswith(prefix)}


def class_numbers(labels: Array) -> Array | None:
    """Labels as class numbers (n,), from numbers or one-hot rows; None for labels of any other kind."""
    if labels.dtype.names is not None:
        return None
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] > 1:
        hot = flat.argmax(axis=1)
        return hot if np.array_equal(flat, np.eye(flat.shape[1])[hot]) else None
    numbers = flat[:, 0]
    if numbers.dtype.kind == "f" and not np.array_equal(numbers, np.rint(numbers)):
        return None
    return numbers.astype(np.int64)


def _part(batch: Batch) -> dict[str, Any]:
    """What is kept of a batch."""
    finite, constant = np.ones(batch.count, bool), np.ones(batch.count, bool)
    part: dict[str, Any] = {}
    for name, values in batch.inputs.items():
        flat = values.reshape(batch.count, -1)
        known = np.isfinite(flat)
        finite &= known.all(axis=1)
        constant &= (flat == flat[:, :1]).all(axis=1)
        part[f"quantiles {name}"] = _quantiles(flat, known)
    digests = SampleDigests.of(digest_samples(batch), None).samples
    part |= {"finite": finite, "constant": constant, "digest": digests}
    labels = None if batch.labels is None else class_numbers(batch.labels)
    return part if labels is None else part | {"label": labels}


def _pictures(batch: Batch, picture: Picture | None, rows: NDArray[np.intp]) -> dict[str, Any]:
    """Fields and roughness of some of the pictures of a batch, in every reading."""
    part: dict[str, Any] = {}
    if picture is not None and batch.inputs[picture.name].shape[1:] == picture.shape:
        values = np.nan_to_num(batch.inputs[picture.name][rows], posinf=0.0, neginf=0.0)
        readings = {AS_GIVEN: values} | {
            reading.name: reading.apply(values) for reading in picture.readings()
        }
        for name, read in readings.items():
            planes = picture.planes(read)
            part[f"fields {name}"] = _fields(planes)
            part[f"roughness {name}"] = _roughness(planes)
    return part


def _quantiles(flat: Array, known: NDArray[np.bool_]) -> Array:
    """Those of each sample's finite values: (n, 5); zeros where it has none."""
    if known.all():
        return np.quantile(flat, _QUANTILES, axis=1).T
    rows = [row[mask] if mask.any() else np.zeros(1) for row, mask in zip(flat, known, strict=True)]
    return np.stack([np.quantile(row, _QUANTILES) for row in rows])


def _fields(planes: Array) -> Array:
    """The means of 3 x 3 fields of each channel: (n, channels, height, width) to (n, 9 channels)."""
    bands = np.array_split(planes, _GRID, axis=2)
    fields = [
        field.mean(axis=(2, 3), dtype=np.float64)
        for band in bands
        for field in np.array_split(band, _GRID, axis=3)
    ]
    return np.concatenate(fields, axis=1)


def _roughness(planes: Array) -> Array:
    """How much neighbours differ along both sides, as a share of how much all values of the picture do: (n,)."""
    steps = [np.abs(np.diff(planes, axis=axis)).mean(axis=(1, 2, 3), dtype=np.float64) for axis in (2, 3)]
    spread = planes.std(axis=(1, 2, 3), dtype=np.float64)
    rough: Array = (steps[0] + steps[1]) / np.where(spread > 0, spread, 1.0)
    return rough
