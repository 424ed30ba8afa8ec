"""What every kind of source gives: raw batches, and those samples of them that are wanted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from edgekit.errors import DataError
from edgekit.tensor import Array

SCAN_SAMPLES = 64


@dataclass(frozen=True)
class Batch:
    """Consecutive samples: ``inputs["x"]`` of shape (8, 32, 32, 3), ``labels`` of shape (8,) or None.

    ``first`` is the number of the first sample in the dataset.
    """

    inputs: dict[str, Array]
    labels: Array | None
    first: int

    @property
    def count(self) -> int:
        """How many samples it holds."""
        return len(next(iter(self.inputs.values())))

    def part(self, start: int, stop: int) -> "Batch":
        """The samples from ``start`` up to ``stop``, without a copy."""
        labels = None if self.labels is None else self.labels[start:stop]
        inputs = {name: array[start:stop] for name, array in self.inputs.items()}
        return Batch(inputs, labels, self.first + start)

    def at(self, rows: Sequence[int], first: int) -> "Batch":
        """Some of its samples as a batch of their own."""
        chosen = np.asarray(rows, np.intp)
        labels = None if self.labels is None else self.labels[chosen]
        return Batch({name: array[chosen] for name, array in self.inputs.items()}, labels, first)


class Source(Protocol):
    """Where raw samples come from. Raw images are their paths: decoding is left to the workers."""

    names: tuple[str, ...]
    has_labels: bool
    class_names: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of samples; a user's function is run once to know it."""

    def sample_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of one sample, None where only reading it would tell."""

    def batches(self, size: int) -> Iterator[Batch]:
        """Raw samples from the first to the last, ``size`` at a time."""

    def digest(self) -> str:
        """sha256 of the samples' files, or of the samples where there are none."""


def select(source: Source, indices: Sequence[int], size: int) -> Iterator[Batch]:
    """Only the samples of these rising indices, numbered anew from 0, ``size`` at a time.

    Reading stops after the last one.
    """
    pending: list[Batch] = []
    position = taken = 0
    for batch in source.batches(SCAN_SAMPLES):
        start = position
        while position < len(indices) and indices[position] < batch.first + batch.count:
            position += 1
        if position > start:
            rows = [indices[i] - batch.first for i in range(start, position)]
            is_whole = rows[-1] - rows[0] + 1 == len(rows)
            part = batch.part(rows[0], rows[-1] + 1) if is_whole else batch.at(rows, 0)
            pending.append(replace(part, first=0))
        while sum(part.count for part in pending) >= size:
            merged = merge(pending, 0)
            yield replace(merged.part(0, size), first=taken)
            taken += size
            rest = merged.count - size
            pending = [replace(merged.part(size, merged.count), first=0)] if rest else []
        if position == len(indices):
            break
    if pending:
        yield merge(pending, taken)


def merge(parts: Sequence[Batch], first: int) -> Batch:
    """Several batches as one; a single one is not copied."""
    if len(parts) == 1:
        return replace(parts[0], first=first)
    labels = [part.labels for part in parts if part.labels is not None]
    names = parts[0].inputs
    inputs = {name: np.concatenate([part.inputs[name] for part in parts]) for name in names}
    return Batch(inputs, np.concatenate(labels) if labels else None, first)


def check_count(wanted: int, available: int, spec: str) -> None:
    """Refuse to take more samples than there are.

    Raises:
        DataError: There are too few.
    """
    if wanted > available:
        raise DataError(
            "EK210",
            f"{wanted} samples were asked for, but {spec} has only {available}.",
            f"Ask for at most {available}, or give more samples.",
        )
