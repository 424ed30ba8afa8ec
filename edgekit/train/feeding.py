"""Samples for Keras: shuffled anew in each epoch by the seed, in memory where they fit and as a stream where not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from edgekit.data import Dataset
from edgekit.data.function import FunctionSource
from edgekit.errors import DataError
from edgekit.tensor import Array
from edgekit.train.augmentation import Augmentation, Changes, check_images
from edgekit.train.objective import Labels

# As much as may lie in memory; beyond it batches are drawn from a window of this many samples.
_MEMORY_BYTES = 2 << 30
_WINDOW = 8192
_READ = 512


class Feed:
    """Training samples as a ``tf.data.Dataset`` per epoch.

    Args:
        dataset: Labelled samples.
        names: The inputs of the model in their order.
        targets: Rows beside the labels, by name, one per sample.
        views: The same rows for each further view of the samples, where ``augmentation`` makes some: then an epoch
            takes one of the views of each sample.
        augmentation: How images change at random in ``epoch``.

    Raises:
        DataError: There are no labels, or nothing that could change.
    """

    def __init__(
        self,
        dataset: Dataset,
        names: tuple[str, ...],
        targets: Mapping[str, Array] | None = None,
        *,
        views: Sequence[Mapping[str, Array]] = (),
        augmentation: Augmentation | None = None,
    ) -> None:
        self._dataset, self._names, self._targets = dataset, names, dict(targets or {})
        self._augmentation = augmentation
        self._views = [self._targets, *views]
        fixed = augmentation or Augmentation()
        self._shown = [fixed.view(number, dataset.count) for number in range(len(self._views))]
        first = next(iter(dataset.batches(1)))
        if first.labels is None:
            raise DataError(
                "EK724", f"{dataset.spec} has no labels to train with.", "Add y to the .npz file."
            )
        if augmentation:
            check_images(first.inputs, first.labels)
        self.count = dataset.count
        each = sum(array[0].nbytes for array in first.inputs.values())
        # A user's function may give other samples each time: that is how it augments them.
        fresh = isinstance(dataset.source, FunctionSource)
        self._held = self._load() if not fresh and each * self.count <= _MEMORY_BYTES else None
        self._signature = self._specs(first)

    def epoch(self, batch_size: int, seed: int) -> Any:
        """All samples once, in the order of this seed: ``(x, y)`` or ``(x, {"label": y, "teacher": t})``."""

        def batches() -> Iterator[Any]:
            generator = np.random.default_rng(seed)
            return (
                self._from_memory(batch_size, generator)
                if self._held
                else self._streamed(batch_size, generator)
            )

        made = tf.data.Dataset.from_generator(batches, output_signature=self._signature)
        steps = -(-self.count // batch_size)
        return made.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)

    def in_order(self, batch_size: int) -> Any:
        """All samples once as they come: for validation."""

        def batches() -> Iterator[Any]:
            for batch in self._dataset.batches(batch_size):
                rows = np.arange(batch.first, batch.first + batch.count)
                yield self._pair(batch.inputs, batch.labels, rows)

        made = tf.data.Dataset.from_generator(batches, output_signature=self._signature)
        return made.apply(tf.data.experimental.assert_cardinality(-(-self.count // batch_size))).prefetch(2)

    def labels(self, count: int) -> Labels:
        """All labels where they are in memory, else the first; a tuple where there are several outputs."""
        if self._held:
            return _labels(self._held[1])
        return _labels(next(iter(self._dataset.batches(min(count, self.count)))).labels)

    def _load(self) -> tuple[dict[str, Array], Array]:
        parts = list(self._dataset.batches(_READ))
        inputs = {name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs}
        return inputs, np.concatenate([_given(part.labels) for part in parts])

    def _from_memory(self, batch_size: int, generator: np.random.Generator) -> Iterator[Any]:
        if self._held is None:
            return
        inputs, labels = self._held
        order = generator.permutation(len(labels))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            yield self._changed(
                {name: array[rows] for name, array in inputs.items()}, labels[rows], rows, generator
            )

    def _streamed(self, batch_size: int, generator: np.random.Generator) -> Iterator[Any]:
        for window in self._dataset.batches(max(1, _WINDOW // batch_size) * batch_size):
            order = generator.permutation(window.count)
            for start in range(0, window.count, batch_size):
                rows = order[start : start + batch_size]
                part = window.at([int(row) for row in rows], 0)
                yield self._changed(part.inputs, part.labels, rows + window.first, generator)

    def _changed(
        self, inputs: Mapping[str, Array], labels: Array | None, rows: Array, generator: np.random.Generator
    ) -> Any:
        if self._augmentation is None:
            return self._pair(inputs, labels, rows)
        if not self._targets:
            return self._pair(self._augmentation.drawn(len(rows), generator).applied(inputs), labels, rows)
        chosen = generator.integers(len(self._views), size=len(rows))
        return self._pair(self._shown_as(chosen, rows).applied(inputs), labels, rows, chosen)

    def _shown_as(self, chosen: Array, rows: Array) -> Changes:
        """What happens to each of these samples in the view that was chosen for it."""
        parts = [(self._shown[number].mirrored, self._shown[number].moves) for number in chosen]
        pairs = [(mirrored[row], moves[row]) for (mirrored, moves), row in zip(parts, rows, strict=True)]
        mirrored, moves = zip(*pairs, strict=True)
        return Changes(np.array(mirrored), np.array(moves))

    def _pair(
        self, inputs: Mapping[str, Array], labels: Array | None, rows: Array, chosen: Array | None = None
    ) -> Any:
        given = [np.asarray(inputs[name], np.float32) for name in self._names]
        x = given[0] if len(given) == 1 else tuple(given)
        y = _labels(labels)
        if not self._targets:
            return x, y
        said = {name: array[rows] for name, array in self._targets.items()}
        for number, view in enumerate(self._views if chosen is not None else ()):
            for name, array in view.items():
                said[name][chosen == number] = array[rows[chosen == number]]
        return x, {"label": y, **said}

    def _specs(self, first: Any) -> Any:
        return tf.nest.map_structure(
            lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype),
            self._pair(first.inputs, first.labels, np.zeros(1, np.intp)),
        )


def _given(labels: Array | None) -> Array:
    if labels is None:
        raise DataError("EK724", "Some samples have no label.", "Give labels for all of them.")
    return labels


def _labels(labels: Array | None) -> Labels:
    given = _given(labels)
    if given.dtype.names:
        return tuple(_flat(given[name]) for name in given.dtype.names)
    return _flat(given)


def _flat(given: Array) -> Array:
    flat = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 else given
    return flat.astype(np.int64 if flat.dtype.kind in "iub" else np.float32)
