"""Batches passed to workers through shared memory: what is sent over a socket says only where they lie.

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

    def part(self, start: int, stop: int) -> "_Place":
        row_bytes = np.dtype(self.dtype).itemsize * math.prod(self.shape[1:])
        return _Place(self.offset + start * row_bytes, self.dtype, (stop - start, *self.shape[1:]))


@dataclass(frozen=True)
class Letter:
    """A batch in a slot of the mailbox, or ``batch`` itself where it was too large for one."""

    first: int
    count: int
    inputs: tuple[tuple[str, _Place], ...] = ()
    labels: Array | None = None
    batch: Batch | None = None
    slot: int = -1

    def part(self, start: int, stop: int) -> "Letter":
        """Some of its samples, which lie where they lay."""
        if self.batch is not None:
            return Letter(self.first + start, stop - start, batch=self.batch.part(start, stop))
        places = tuple((name, place.part(start, stop)) for name, place in self.inputs)
        labels = None if self.labels is None else self.labels[start:stop]
        return Letter(self.first + start, stop - start, places, labels, slot=self.slot)


class Mailbox:
    """A block of memory that workers see too: ``slots`` batches of at most ``slot_bytes``.

    Args:
        slot_bytes: Room for one batch.
        slots: How many batches it holds at once.
        descriptor: The memory of a mailbox that another process made.
    """

    def __init__(self, slot_bytes: int, slots: int, descriptor: int | None = None) -> None:
        self.slot_bytes = slot_bytes
        self.descriptor = os.memfd_create("edgekit") if descriptor is None else descriptor
        size = max(1, slot_bytes * slots)
        if descriptor is None:
            os.ftruncate(self.descriptor, size)
        # Workers take all pages at once while they start, or each would cost them a fault later.
        flags = mmap.MAP_SHARED if descriptor is None else mmap.MAP_SHARED | mmap.MAP_POPULATE
        self._memory = mmap.mmap(self.descriptor, size, flags)
        self._free = list(range(slots))
        self._waiting = [0] * slots

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return bool(self._free)

    def put(self, batch: Batch) -> Letter:
        """Copy a batch into a free slot."""
        if slot_bytes(batch) > self.slot_bytes:
            return Letter(batch.first, batch.count, batch=batch)
        slot = self._free.pop()
        self._waiting[slot] = batch.count
        offset = slot * self.slot_bytes
        places = []
        for name, array in batch.inputs.items():
            place = _Place(offset, array.dtype.str, array.shape)
            np.copyto(self._view(place), array)
            places.append((name, place))
            offset += _room(array)
        return Letter(batch.first, batch.count, tuple(places), batch.labels, slot=slot)

    def answered(self, letter: Letter) -> None:
        """Free the slot when all its samples have been answered."""
        if letter.batch is None:
            self._waiting[letter.slot] -= letter.count
            if not self._waiting[letter.slot]:
                self._free.append(letter.slot)

    def open(self, letter: Letter) -> Batch:
        """The batch of a letter, without a copy: it holds until it has been answered."""
        if letter.batch is not None:
            return letter.batch
        return Batch({name: self._view(place) for name, place in letter.inputs}, letter.labels, letter.first)

    def close(self) -> None:
        """Give up the descriptor; the memory goes with the last process that sees it."""
        os.close(self.descriptor)

    def _view(self, place: _Place) -> Array:
        count = math.prod(place.shape)
        return np.frombuffer(self._memory, place.dtype, count, place.offset).reshape(place.shape)


def slot_bytes(batch: Batch) -> int:
    """The room that a batch like this one needs."""
    return sum(_room(array) for array in batch.inputs.values())


def _room(array: Array) -> int:
    return -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
