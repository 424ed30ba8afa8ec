"""Images changed at random while a model is trained on them: mirrored, and moved by a few pixels."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import DataError, UsageError
from edgekit.tensor import Array

_HINT = "Write --augment flip, --augment shift:4, or --augment flip,shift:4."
_CHANNELS = (1, 3, 4)
_IMAGE_AXES = 4


@dataclass(frozen=True)
class Augmentation:
    """What may happen to an image: ``flip`` mirrors half of them, ``shift`` moves them by so many pixels at most.

    Pixels beyond the border are those mirrored at it. Where a teacher is listened to, each sample has a few views that
    stay the same, so that the teacher can be asked about each of them once.
    """

    flip: bool = False
    shift: int = 0

    @classmethod
    def parse(cls, text: str) -> "Augmentation":
        """``"flip,shift:4"`` as an object.

        Raises:
            UsageError: It says something else.
        """
        flip, shift = False, 0
        for part in text.split(","):
            found = re.fullmatch(r"\s*(flip)\s*|\s*shift:(\d{1,3})\s*", part)
            if found is None:
                raise UsageError("EK785", f"{part.strip()!r} changes no image.", _HINT)
            flip, shift = flip or bool(found[1]), int(found[2]) if found[2] else shift
        return cls(flip, shift)

    def drawn(self, count: int, generator: np.random.Generator) -> "Changes":
        """What happens to so many images."""
        mirrored = generator.random(count) < 0.5 if self.flip else np.zeros(count, np.bool_)
        moves = (
            generator.integers(-self.shift, self.shift, (count, 2), endpoint=True)
            if self.shift
            else np.zeros((count, 2), np.int64)
        )
        return Changes(mirrored, moves)

    def view(self, number: int, count: int) -> "Changes":
        """What happens to each sample of a dataset in one of its views: the same each time.

        The first is every image as it is.
        """
        if number == 0:
            return Changes(np.zeros(count, np.bool_), np.zeros((count, 2), np.int64))
        return self.drawn(count, np.random.default_rng(number))


@dataclass(frozen=True)
class Changes:
    """What happens to some images.

    ``mirrored`` tells which are, ``(128,)`` of bool; ``moves`` by how many pixels each shows what lies further down
    and right, ``(128, 2)``.
    """

    mirrored: Array
    moves: Array

    def of(self, rows: Any) -> "Changes":
        """Those of some of the images."""
        return Changes(self.mirrored[rows], self.moves[rows])

    def applied(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """A batch changed.

        Args:
            inputs: Arrays by the names of the inputs; those of four axes are images, ``(128, 32, 32, 3)``. All
                images of one sample change alike.
        """
        return {name: self._changed(array) for name, array in inputs.items()}

    def _changed(self, images: Array) -> Array:
        if images.ndim != _IMAGE_AXES:
            return images
        rows, columns = axes = image_axes(images.shape)
        changed = images.copy()
        changed[self.mirrored] = np.flip(images[self.mirrored], columns)
        if not self.moves.any():
            return changed
        room = [min(int(np.abs(self.moves).max()), images.shape[axis] - 1) for axis in axes]
        widths = [(0, 0)] * _IMAGE_AXES
        for axis, width in zip(axes, room, strict=True):
            widths[axis] = (width, width)
        padded = np.pad(changed, widths, mode="reflect")
        window = [slice(None)] * (_IMAGE_AXES - 1)
        for index, (down, right) in enumerate(np.clip(self.moves, [-edge for edge in room], room)):
            window[rows - 1] = slice(room[0] + down, room[0] + down + images.shape[rows])
            window[columns - 1] = slice(room[1] + right, room[1] + right + images.shape[columns])
            changed[index] = padded[index][tuple(window)]
        return changed


def image_axes(shape: Sequence[int | None]) -> tuple[int, int]:
    """The axes of height and width: ``(1, 2)`` of ``(n, 32, 32, 3)``, ``(2, 3)`` of ``(n, 3, 32, 32)``."""
    return (2, 3) if shape[1] in _CHANNELS and shape[-1] not in _CHANNELS else (1, 2)


def check_images(inputs: Mapping[str, Array], labels: Array | None) -> None:
    """Refuse samples that cannot be changed like this.

    Raises:
        DataError: There is no image among them, or the labels are images too, which would have to change alike.
    """
    if not any(array.ndim == _IMAGE_AXES for array in inputs.values()):
        shapes = ", ".join(str(list(array.shape[1:])) for array in inputs.values())
        hint = "Leave --augment out, or give FILE.py:function with changes of your own."
        raise DataError("EK786", f"--augment changes images, and a sample has the shape {shapes}.", hint)
    if labels is not None and labels.ndim >= _IMAGE_AXES - 1:
        message = "The labels are images too, and would have to change with those that they belong to."
        raise DataError(
            "EK786", message, "Leave --augment out, or give FILE.py:function, which changes both."
        )
