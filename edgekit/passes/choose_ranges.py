"""Choose the range of every activation by the error that it causes where the activation is read.

Which of the usual ways to choose a range is best differs from tensor to tensor: percentiles ruin a ReLU6 that needs
its bound, and extremes waste steps where one value in a million is large. Here every way has its turn, and what the
rounded and clipped values do to the outputs of the layers that read them decides. The mean of that error does not
count, because the bias takes it out.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from edgekit.passes._layers import Activation, Floats, InputSums, Layer, Means, Twins, ahead, others, some
from edgekit.ranges import METHODS, Observed, Range, RangeMethod, fake_quantize
from edgekit.tensor import Array

# Of an image so many positions, at random, tell enough.
_POSITIONS = 4


@dataclass(frozen=True)
class Ranges:
    """The range of each tensor by its name, and how many activations each method was chosen for."""

    ranges: Mapping[str, Range]
    methods: Mapping[str, int]

    def __str__(self) -> str:
        return ", ".join(f"{count} by {name}" for name, count in sorted(self.methods.items()))


@dataclass(frozen=True)
class Seen:
    """What one run over calibration samples shows of the float file.

    ``observed`` are its activations. Of every layer by its position, ``rows`` are what its sums read at some
    positions, (1, 1024, 72) for a 3x3 kernel over 8 channels, and ``means`` those of all that it reads, tap by tap.
    """

    activations: Sequence[Activation]
    layers: Sequence[Layer]
    observed: Sequence[Observed]
    rows: Mapping[int, Floats]
    means: Means

    @classmethod
    def of(cls, twins: Twins, calibration: Mapping[str, Array], seed: int) -> Self:
        """Run the float file over all samples; of what layers read, the first 128 tell enough."""
        layers, activations, probe = twins.layers, twins.activations, twins.float_probe
        generator, rows, sums = (
            np.random.default_rng(seed),
            defaultdict[int, list[Array]](list),
            InputSums(layers),
        )
        observed = [Observed() for _ in activations]
        names = {
            name: one
            for activation, one in zip(activations, observed, strict=True)
            for name in activation.names
        }

        def observe(values: Mapping[str, Array]) -> None:
            for name, one in names.items():
                one.add(values[name])

        for call in ahead(probe.calls(layers, list(names), some(calibration))):
            observe(call.values)
            sums.add(call)
            for layer in layers:
                values = probe.real(layer, call.inputs[layer.position])
                rows[layer.position].append(layer.some_rows(values, _POSITIONS, generator))
        for call in ahead(probe.calls((), list(names), others(calibration))):
            observe(call.values)
        joined = {position: np.concatenate(parts, axis=1) for position, parts in rows.items()}
        return cls(activations, layers, observed, joined, sums.means(probe))

    def choose(self, method: RangeMethod = "auto", *, bits: int = 8) -> Ranges:
        """The ranges by one of ``edgekit.ranges.METHODS`` for every activation, or by ``"auto"``."""
        if method == "auto":
            layers = {layer.position: layer for layer in self.layers}
            chosen = [
                _best(one, observed, [(layers[place], self.rows[place]) for place in one.layers], bits)
                for one, observed in zip(self.activations, self.observed, strict=True)
            ]
        else:
            chosen = [(method, METHODS[method](observed, bits)) for observed in self.observed]
        ranges = {
            name: ends
            for activation, (_, ends) in zip(self.activations, chosen, strict=True)
            for name in activation.names
        }
        return Ranges(ranges, Counter(name for name, _ in chosen))


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
    return Seen.of(twins, calibration, seed).choose(method, bits=bits)


def _best(
    activation: Activation, observed: Observed, readers: list[tuple[Layer, Floats]], bits: int
) -> tuple[str, Range]:
    """The method and the range with the least error; of equal ranges the first method has the name."""
    tried = dict[Range, str]()
    for name, method in METHODS.items():
        tried.setdefault(method(observed, bits), name)
    if len(tried) == 1:
        return next((name, ends) for ends, name in tried.items())
    products = [(rows, layer.columns(layer.weights).astype(rows.dtype)) for layer, rows in readers]
    powers = [_power(rows @ columns) for rows, columns in products]

    def noise(ends: Range) -> float:
        total = _own_noise(observed, ends, bits) if activation.is_read_elsewhere else 0.0
        for (rows, columns), power in zip(products, powers, strict=True):
            total += _power((fake_quantize(rows, ends, bits) - rows) @ columns) / power
        return total

    best = min(tried, key=noise)
    return tried[best], best


def _power(outputs: Floats) -> float:
    """The variance over the rows, summed over output channels; never 0."""
    return max(float(outputs.var(axis=1).sum()), 1e-30)


def _own_noise(observed: Observed, ends: Range, bits: int) -> float:
    """The squared error of the values themselves, against their squares."""
    used = observed.counts > 0
    middles, counts = observed.middles[used], observed.counts[used]
    error = fake_quantize(middles, ends, bits) - middles
    return float(counts @ (error * error)) / max(float(counts @ (middles * middles)), 1e-30)
