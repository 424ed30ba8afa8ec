"""What the layers of a quantized file read, and what they should read, in sums over calibration samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.passes._layers import Floats, Layer, Probe
from edgekit.tensor import Array

# Covariances of more inputs are taken in blocks, as if inputs of different blocks had nothing to do with each other.
_BLOCK = 1024
# Of a large image so many positions, at random, tell enough.
_POSITIONS = 256


@dataclass
class Moments:
    """Sums over what a layer reads and what its float twin reads at the same places.

    ``read`` and ``wanted`` are sums of the inputs of each weight, (16, 9) for a depthwise layer of 16 channels and (1,
    2304) for one that reads all. ``products`` are of what is read with itself and ``crossed`` of it with what is
    wanted, in blocks: (16, 9, 9), or (1, 1024, 1024) at most.
    """

    read: Floats
    wanted: Floats
    products: list[Floats]
    crossed: list[Floats]
    count: int = 0

    @classmethod
    def none(cls, groups: int, inputs: int) -> "Moments":
        """Those of no samples."""
        sizes = [part.stop - part.start for part in _blocks(inputs)]
        products, crossed = ([np.zeros((groups, size, size)) for size in sizes] for _ in range(2))
        return cls(np.zeros((groups, inputs)), np.zeros((groups, inputs)), products, crossed)

    def add(self, read: Floats, wanted: Floats) -> None:
        """Take in rows of both: (1, 1024, 72)."""
        self.count += read.shape[1]
        self.read += read.sum(axis=1)
        self.wanted += wanted.sum(axis=1)
        for number, part in enumerate(_blocks(read.shape[2])):
            transposed = read[:, :, part].transpose(0, 2, 1)
            self.products[number] += transposed @ read[:, :, part]
            self.crossed[number] += transposed @ wanted[:, :, part]

    @property
    def mean_read(self) -> Floats:
        """The mean of what each weight reads."""
        return self.read / self.count

    @property
    def mean_wanted(self) -> Floats:
        """The mean of what the float layer's weights read."""
        return self.wanted / self.count

    def blocks(self) -> Iterator[tuple[slice, Floats, Floats]]:
        """Which inputs, the covariance of what they read, and that of it with what is wanted."""
        read, wanted = self.mean_read, self.mean_wanted
        for part, products, crossed in zip(_blocks(read.shape[1]), self.products, self.crossed, strict=True):
            yield (
                part,
                products / self.count - read[:, part, None] * read[:, None, part],
                crossed / self.count - read[:, part, None] * wanted[:, None, part],
            )


def _blocks(inputs: int) -> list[slice]:
    return [slice(first, min(first + _BLOCK, inputs)) for first in range(0, inputs, _BLOCK)]


def moments(
    layers: Sequence[Layer],
    wanted: Probe,
    calibration: Mapping[str, Array],
    *,
    read: Probe | None = None,
    seed: int = 0,
) -> dict[int, Moments]:
    """The moments of every layer by its position.

    Args:
        layers: The layers.
        wanted: The float file.
        calibration: The samples, by input name: ``{"x": (256, 32, 32, 3)}``.
        read: The quantized file; None to take what the float file reads for what is read.
        seed: Chooses positions of large images, the same in both files.
    """
    generator, found = np.random.default_rng(seed), dict[int, Moments]()
    exact = wanted.inputs(layers, calibration)
    seen = exact if read is None else read.inputs(layers, calibration)
    for layer, values in exact:
        rows = layer.rows(values)
        others = rows if read is None else layer.rows(next(seen)[1])
        if layer.window and rows.shape[1] > _POSITIONS:
            some = generator.choice(rows.shape[1], _POSITIONS, replace=False)
            rows, others = rows[:, some], others[:, some]
        if layer.position not in found:
            found[layer.position] = Moments.none(rows.shape[0], rows.shape[2])
        # Products of float32 lose the covariance where the mean is large.
        found[layer.position].add(others.astype(np.float64), rows.astype(np.float64))
    return found
