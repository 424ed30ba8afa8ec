"""Which sample is which: digests, and the pairing of two evaluations by them."""

import hashlib
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgekit.data import Batch
from edgekit.errors import DataError
from edgekit.tensor import Array

_SAMPLE_BYTES = 16
_LABEL_BYTES = 8


def digest_samples(raw: Batch) -> NDArray[np.str_]:
    """sha256 of each raw sample, so that predictions of different runs can be paired.

    For arrays it covers names, types, shapes and values, for images the file's content.
    """
    found = []
    for row in range(raw.count):
        digest = hashlib.sha256()
        for name in sorted(raw.inputs):
            value = raw.inputs[name][row]
            if value.dtype.kind == "U":
                digest.update(Path(str(value)).read_bytes())
            else:
                digest.update(f"{name} {value.dtype.str} {value.shape} ".encode() + value.tobytes())
        found.append(digest.hexdigest())
    return np.array(found)


@dataclass(frozen=True, eq=False)
class SampleDigests:
    """The samples of an evaluation in their order.

    ``samples`` holds the first 16 bytes of each sample's sha256, shape (n, 16) of uint8: enough that two of a
    billion different samples are never taken for one. ``labels`` holds 8 bytes of each label's, or is None.
    """

    samples: Array
    labels: Array | None = None

    @classmethod
    def of(cls, digests: NDArray[np.str_], labels: Array | None) -> Self:
        """From ``digest_samples`` and the labels of the same samples."""
        samples = [bytes.fromhex(str(digest)[: 2 * _SAMPLE_BYTES]) for digest in digests]
        if labels is None:
            return cls(_rows(samples, _SAMPLE_BYTES))
        # Whole numbers are one label whether they were saved as int64 or uint8.
        plain = labels.astype(np.int64) if labels.dtype.kind in "iub" else labels
        shortened = [hashlib.sha256(label.tobytes()).digest()[:_LABEL_BYTES] for label in plain]
        return cls(_rows(samples, _SAMPLE_BYTES), _rows(shortened, _LABEL_BYTES))

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def digest(self) -> str:
        """sha256 over all samples and labels in their order."""
        labels = b"" if self.labels is None else self.labels.tobytes()
        return hashlib.sha256(self.samples.tobytes() + labels).hexdigest()

    def places_in(self, other: Self, name: str) -> NDArray[np.intp]:
        """For each of these samples its number among another's; equal samples are paired in their order.

        Args:
            other: Samples that these should be among.
            name: What the others are, for messages: ``"baseline.json"``.

        Raises:
            DataError: A sample is not among the others, or has another label there.
        """
        free: dict[bytes, deque[int]] = defaultdict(deque)
        for place, sample in enumerate(other.samples):
            free[sample.tobytes()].append(place)
        found = np.full(self.count, -1, np.intp)
        for row, sample in enumerate(self.samples):
            places = free.get(sample.tobytes())
            if places:
                found[row] = places.popleft()
        self._check(found, other, name)
        return found

    def _check(self, found: NDArray[np.intp], other: Self, name: str) -> None:
        strange = np.flatnonzero(found < 0)
        if len(strange) == self.count:
            raise DataError(
                "EK472",
                f"None of the {self.count} samples is among the {other.count} of {name}.",
                "These are other data, or the same in another type or scale; give those of the baseline.",
            )
        if len(strange):
            raise DataError(
                "EK472",
                f"{len(strange)} of {self.count} samples are not among the {other.count} of {name}, first "
                f"sample {strange[0]}.",
                "Give the data that the baseline was made with, or make a new baseline.",
            )
        if (self.labels is None) != (other.labels is None):
            which = "The data have" if self.labels is None else f"{name} has"
            raise DataError("EK472", f"{which} no labels, the other has.", "Give the same data with labels.")
        if self.labels is None or other.labels is None:
            return
        changed = np.flatnonzero((self.labels != other.labels[found]).any(axis=1))
        if len(changed):
            raise DataError(
                "EK472",
                f"{len(changed)} of {self.count} labels differ from those of {name}, first that of sample "
                f"{changed[0]}.",
                "Were labels corrected or classes put in another order? Then make a new baseline.",
            )


def _rows(digests: list[bytes], width: int) -> Array:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), width)
