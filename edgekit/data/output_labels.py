"""Labels of a model with several outputs: the arrays ``y_<output>`` of the data, as one record for each sample."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.data.sources import Batch, Source
from edgekit.errors import DataError
from edgekit.tensor import Array


def with_output_labels(dataset: Dataset, outputs: Sequence[str]) -> Dataset:
    """The dataset with ``labels`` of a type with fields, one for each output: ``labels["boxes"]`` of (8, 4).

    With one output it is given back as it is.

    Args:
        dataset: Its data have the arrays ``y_<output>``.
        outputs: The names of the model's outputs, in their order.

    Raises:
        DataError: There are no labels for some of the outputs.
    """
    if len(outputs) == 1:
        return dataset
    missing = [name for name in outputs if f"y_{name}" not in dataset.source.names]
    if missing:
        example = ", ".join(f"y_{name}=..." for name in outputs)
        raise DataError(
            "EK737",
            f"The model has {len(outputs)} outputs, and {dataset.spec} has no labels for {', '.join(missing)}.",
            f"Save an array for each: np.savez(path, x=..., {example}).",
        )
    return replace(dataset, source=_Labelled(dataset.source, tuple(outputs)))


class _Labelled:
    """A source some of whose arrays are labels."""

    has_labels = True

    def __init__(self, source: Source, outputs: tuple[str, ...]) -> None:
        labels = {f"y_{name}" for name in outputs}
        self._source, self._outputs = source, outputs
        self.class_names = source.class_names
        self.names = tuple(name for name in source.names if name not in labels)

    @property
    def count(self) -> int:
        """Number of samples."""
        return self._source.count

    def sample_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of one sample."""
        return self._source.sample_shape(name)

    def digest(self) -> str:
        """That of the source."""
        return self._source.digest()

    def batches(self, size: int) -> Iterator[Batch]:
        """Batches whose labels are records."""
        for batch in self._source.batches(size):
            inputs = dict(batch.inputs)
            yield Batch(
                inputs, _records({name: inputs.pop(f"y_{name}") for name in self._outputs}), batch.first
            )


def _records(arrays: dict[str, Array]) -> Array:
    kinds = [(name, array.dtype, array.shape[1:]) for name, array in arrays.items()]
    records = np.empty(len(next(iter(arrays.values()))), kinds)
    for name, array in arrays.items():
        records[name] = array
    return records
