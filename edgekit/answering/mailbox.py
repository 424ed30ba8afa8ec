"""Batches passed to a worker through shared memory: what is sent over the socket says only where they lie.

Sending the arrays themselves would cost more than everything else around a small model: the bytes would be
pickled, copied into the kernel, out of it, and unpickled.
"""

import math
import mmap
import os
from dataclasses import dataclass

import numpy as np

from edgekit.data import Batch
from edgekit.tensor import Array

_ALIGNMENT = 64


@dataclass(frozen=True)
class _Place:
    """Where an array lies in the mailbox."""

    offset: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Letter:
    """A batch in the mailbox; ``batch`` itself where it was too large for its slot."""

    first: int = 0
    inputs: tuple[tuple[str, _Place], ...] = ()
    labels: Array | None = None
    batch: Batch | None = None


class Mailbox:
    """A block of memory that a worker sees too: ``slots`` batches of at most ``slot_bytes``.

    Args:
        slot_bytes: Room for one batch.
        slots: How many batches are under way at once.
        descriptor: The memory of a mailbox that another process made.
    """

    def __init__(self, slot_bytes: int, slots: int, descriptor: int | None = None) -> None:
        self.slot_bytes = slot_bytes
        self.slots = slots
        self.descriptor = os.memfd_create("edgekit") if descriptor is None else descriptor
        size = max(1, slot_bytes * slots)
        if descriptor is None:
            os.ftruncate(self.descriptor, size)
        self._memory = mmap.mmap(self.descriptor, size)
        self._next = 0

    def put(self, batch: Batch) -> Letter:
        """Copy a batch into the next slot, whose last batch has been answered."""
        if sum(_room(array) for array in batch.inputs.values()) > self.slot_bytes:
            return Letter(batch=batch)
        offset = self._next * self.slot_bytes
        self._next = (self._next + 1) % self.slots
        places = []
        for name, array in batch.inputs.items():
            place = _Place(offset, array.dtype.str, array.shape)
            np.copyto(self._view(place), array)
            places.append((name, place))
            offset += _room(array)
        return Letter(batch.first, tuple(places), batch.labels)

    def open(self, letter: Letter) -> Batch:
        """The batch of a letter, without a copy: it holds until it has been answered."""
        if letter.batch is not None:
            return letter.batch
        return Batch({name: self._view(place) for name, place in letter.inputs}, letter.labels, letter.first)

    def close(self) -> None:
        """Free the memory here; the other process has its own hold on it."""
        os.close(self.descriptor)

    def _view(self, place: _Place) -> Array:
        count = math.prod(place.shape)
        return np.frombuffer(self._memory, place.dtype, count, place.offset).reshape(place.shape)


def slot_bytes(batch: Batch) -> int:
    """The room that a batch like this one needs."""
    return sum(_room(array) for array in batch.inputs.values())


def _room(array: Array) -> int:
    return -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
