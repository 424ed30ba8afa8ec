"""Other readings of the same samples: another range, the colors turned around, the axes in another order.

A mistake in preparing samples is one of few. Each is undone here, so that samples as they are can be held against what
they would be without it: the better reading is no matter of taste where labels or a reference judge.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.artifact import TensorSpec
from edgekit.tensor import Array

AS_GIVEN = "as given"
COLORS = "channels in reverse"
LAYOUT = "axes in another order"
_PIXEL_MAX = 255.0
# What users scale pictures to; the fourth is ImageNet's mean and standard deviation, the last 0..1 divided once more.
_RANGES: Mapping[str, tuple[float, float]] = {
    "0..255": (0.0, _PIXEL_MAX),
    "0..1": (0.0, 1.0),
    "-1..1": (-1.0, 1.0),
    "ImageNet's mean and deviation": (-2.1179, 2.6400),
    "0..1/255": (0.0, 1.0 / _PIXEL_MAX),
}
_SMALLEST_SIDE = 8
_MOST_CHANNELS = 4


@dataclass(frozen=True)
class Reading:
    """Samples read in another way: ``Reading("0..1", "range", x / 255)``."""

    name: str
    kind: str
    apply: Callable[[Array], Array]


@dataclass(frozen=True)
class Picture:
    """The input that takes pictures: (height, width, channels), or channels first."""

    name: str
    height: int
    width: int
    channels: int
    is_channels_first: bool

    @classmethod
    def of(cls, inputs: tuple[TensorSpec, ...]) -> "Picture | None":
        """Recognized by its shape: two long sides, and one of at most four."""
        for spec in inputs:
            shape = [size or 0 for size in spec.shape[1:]]
            if len(shape) != 3 or 0 in shape:
                continue
            first = shape[0] <= _MOST_CHANNELS and min(shape[1:]) >= _SMALLEST_SIDE
            last = shape[2] <= _MOST_CHANNELS and min(shape[:2]) >= _SMALLEST_SIDE
            if first or last:
                channels, height, width = shape if first else (shape[2], *shape[:2])
                return cls(spec.name, height, width, channels, first)
        return None

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of one sample."""
        size = self.height, self.width
        return (self.channels, *size) if self.is_channels_first else (*size, self.channels)

    def planes(self, values: Array) -> Array:
        """Samples as (n, channels, height, width)."""
        return values if self.is_channels_first else np.moveaxis(values, -1, 1)

    def readings(self) -> list[Reading]:
        """What else the memory of a sample may have meant: colors, and axes that were reshaped and not moved."""
        found = []
        if self.channels == 3:
            axis = 1 if self.is_channels_first else -1
            found.append(Reading(COLORS, "colors", lambda values: np.flip(values, axis)))
        if self.channels > 1 or self.height != self.width:
            found.append(Reading(LAYOUT, "layout", self._reshaped))
        return found

    def _reshaped(self, values: Array) -> Array:
        """The memory taken as what it would be if axes had been named and not moved."""
        count, (height, width, channels) = len(values), (self.height, self.width, self.channels)
        if channels == 1:
            return values.reshape(count, width, height).swapaxes(1, 2).reshape(values.shape)
        if self.is_channels_first:
            return np.moveaxis(values.reshape(count, height, width, channels), -1, 1)
        return np.moveaxis(values.reshape(count, channels, height, width), 1, -1)


def apparent_range(lowest: float, highest: float) -> str | None:
    """Which of the usual ranges samples seem to be in, by their lowest and highest values; None for none.

    >>> apparent_range(0, 251), apparent_range(-0.98, 0.99), apparent_range(-120, 24)
    ('0..255', '-1..1', None)
    """
    margin = 0.05
    if lowest < -margin * abs(highest):
        if lowest >= -1 - margin and highest <= 1 + margin:
            return "-1..1"
        is_standard = lowest >= -3 and 1 < highest <= 3
        return "ImageNet's mean and deviation" if is_standard else None
    if highest <= 2 / _PIXEL_MAX:
        return "0..1/255"
    if highest <= 1 + margin:
        return "0..1"
    return "0..255" if highest <= _PIXEL_MAX + 1 else None


def range_readings(lowest: float, highest: float) -> list[Reading]:
    """The same samples in the other usual ranges; where they are in none of these, a factor of 255 either way."""
    own = apparent_range(lowest, highest)
    if own is None:
        return [
            Reading("the values times 255", "range", lambda values: values * np.float32(_PIXEL_MAX)),
            Reading("the values over 255", "range", lambda values: values / np.float32(_PIXEL_MAX)),
        ]
    return [
        Reading(name, "range", _stretch(_RANGES[own], ends)) for name, ends in _RANGES.items() if name != own
    ]


def _stretch(before: tuple[float, float], after: tuple[float, float]) -> Callable[[Array], Array]:
    factor = (after[1] - after[0]) / (before[1] - before[0])
    shift = after[0] - before[0] * factor
    return lambda values: values * np.float32(factor) + np.float32(shift)
