"""Choose the range of every activation by the error that it causes where the activation is read.

Which of the usual ways to choose a range is best differs from tensor to tensor: percentiles ruin a ReLU6 that needs
its bound, and extremes waste steps where one value in a million is large. Here every way has its turn, and what the
rounded and clipped values do to the outputs of the layers that read them decides. The mean of that error does not
count, because the bias takes it out.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgekit.passes._layers import Activation, Floats, Layer, Twins, some
from edgekit.ranges import METHODS, Observed, Range, RangeMethod, fake_quantize
from edgekit.tensor import Array

# Of an image so many positions, at random, tell enough.
_POSITIONS = 8


@dataclass(frozen=True)
class Ranges:
    """The range of each tensor by its name, and how many activations each method was chosen for."""

    ranges: Mapping[str, Range]
    methods: Mapping[str, int]


@dataclass(frozen=True)
class Seen:
    """What calibration samples show of every activation, and at some positions of what every layer reads."""

    twins: Twins
    calibration: Mapping[str, Array]
    seed: int

    def choose(self, method: RangeMethod = "auto", *, bits: int = 8) -> Ranges:
        """The ranges by one of ``edgekit.ranges.METHODS`` for every activation, or by ``"auto"``."""
        if method == "auto":
            layers = {layer.position: layer for layer in self.twins.layers}
            chosen = [
                _best(one, observed, [(layers[place], self._rows[place]) for place in one.layers], bits)
                for one, observed in zip(self.twins.activations, self._observed, strict=True)
            ]
        else:
            chosen = [(method, METHODS[method](observed, bits)) for observed in self._observed]
        ranges = {
            name: ends
            for activation, (_, ends) in zip(self.twins.activations, chosen, strict=True)
            for name in activation.names
        }
        return Ranges(ranges, Counter(name for name, _ in chosen))

    @cached_property
    def _observed(self) -> list[Observed]:
        return _observed(self.twins, self.twins.activations, self.calibration)

    @cached_property
    def _rows(self) -> dict[int, Floats]:
        return _rows(self.twins, self.calibration, self.seed)


def choose_ranges(
    twins: Twins,
    *,
    calibration: Mapping[str, Array],
    bits: int = 8,
    method: RangeMethod = "auto",
    seed: int = 0,
) -> Ranges:
    """Choose the ranges of activations.

    Args:
        twins: The float file, and one with integer weights and activations that was made from it.
        calibration: What the ranges are taken from, by input name: ``{"x": (256, 32, 32, 3)}``.
        bits: Of the activations.
        method: One of ``edgekit.ranges.METHODS`` for every activation, or ``"auto"``.
        seed: Chooses positions of images.

    Returns:
        The ranges.
    """
    return Seen(twins, calibration, seed).choose(method, bits=bits)


def _observed(
    twins: Twins, activations: Sequence[Activation], calibration: Mapping[str, Array]
) -> list[Observed]:
    """What the calibration samples show of every activation."""
    seen = [Observed() for _ in activations]
    place = {name: index for index, activation in enumerate(activations) for name in activation.names}
    for name, values in twins.float_probe.values(list(place), calibration):
        seen[place[name]].add(values)
    return seen


def _rows(twins: Twins, calibration: Mapping[str, Array], seed: int) -> dict[int, Floats]:
    """What the sums of every layer read, at some positions: (1, 1024, 72) for a 3x3 kernel over 8 channels."""
    generator, found = np.random.default_rng(seed), defaultdict[int, list[Array]](list)
    for layer, values in twins.float_probe.inputs(twins.layers, some(calibration)):
        rows = layer.rows(values)
        if layer.window and rows.shape[1] > _POSITIONS:
            rows = rows[:, generator.choice(rows.shape[1], _POSITIONS, replace=False)]
        found[layer.position].append(rows)
    return {position: np.concatenate(parts, axis=1) for position, parts in found.items()}


def _best(
    activation: Activation, observed: Observed, readers: list[tuple[Layer, Floats]], bits: int
) -> tuple[str, Range]:
    """The method and the range with the least error; of equal ranges the first method has the name."""
    tried: dict[Range, tuple[float, str]] = {}
    powers = [_power(rows @ layer.columns(layer.weights)) for layer, rows in readers]
    for name, method in METHODS.items():
        ends = method(observed, bits)
        if ends in tried:
            continue
        noise = sum(
            _power((fake_quantize(rows, ends, bits) - rows) @ layer.columns(layer.weights)) / power
            for (layer, rows), power in zip(readers, powers, strict=True)
        )
        if activation.is_read_elsewhere:
            noise += _own_noise(observed, ends, bits)
        tried[ends] = (noise, name)
    ends = min(tried, key=lambda ends: tried[ends][0])
    return tried[ends][1], ends


def _power(outputs: Floats) -> float:
    """The variance over the rows, summed over output channels; never 0."""
    return max(float(outputs.var(axis=1).sum()), 1e-30)


def _own_noise(observed: Observed, ends: Range, bits: int) -> float:
    """The squared error of the values themselves, against their squares."""
    used = observed.counts > 0
    middles, counts = observed.middles[used], observed.counts[used]
    error = fake_quantize(middles, ends, bits) - middles
    return float(counts @ (error * error)) / max(float(counts @ (middles * middles)), 1e-30)
