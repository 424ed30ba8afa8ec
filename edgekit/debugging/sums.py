"""How far two tensors are apart, summed up over samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgekit.debugging.graph import Value
from edgekit.tensor import Array, Quantization


@dataclass
class Sums:
    """How far two arrays are apart, summed up over samples: ``add`` each, then ask."""

    signal: float = 0.0
    other: float = 0.0
    product: float = 0.0
    noise: float = 0.0
    largest: float = 0.0
    count: int = 0
    not_finite: int = 0

    def add(self, exact: Array, measured: Array) -> None:
        """Add a sample's tensor; both have the same shape."""
        one, two = exact.astype(np.float64).ravel(), measured.astype(np.float64).ravel()
        bad = np.isfinite(one) & ~np.isfinite(two)
        self.not_finite += int(bad.sum())
        known = np.isfinite(one) & np.isfinite(two)
        one, two = one[known], two[known]
        error = one - two
        self.signal += _product(one, one)
        self.other += _product(two, two)
        self.product += _product(one, two)
        self.noise += _product(error, error)
        self.largest = max(self.largest, float(np.max(np.abs(error), initial=0.0)))
        self.count += len(one)

    @property
    def snr_db(self) -> float:
        """Infinite where nothing differs."""
        return decibels(self.signal, self.noise)

    @property
    def noise_share(self) -> float:
        """The noise over the signal; 0 where nothing differs."""
        if self.noise == 0:
            return 0.0
        return self.noise / self.signal if self.signal > 0 else math.inf

    @property
    def cosine(self) -> float:
        """1 where both point the same way; 1 too where both are zero."""
        norms = math.sqrt(self.signal * self.other)
        return self.product / norms if norms else float(self.signal == self.other)


def _product(one: Array, two: Array) -> float:
    """The scalar product, without the threads of BLAS: to wake them takes longer than to multiply."""
    return float(np.einsum("i,i->", one, two))


def decibels(signal: float, noise: float) -> float:
    """A ratio of powers in dB; infinite where there is no noise."""
    if noise <= 0:
        return math.inf
    if math.isinf(noise):
        return -math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


@dataclass
class Seen:
    """What was seen of a pair of tensors.

    ``whole`` compares B with A as they run. ``own`` compares what B's operator wrote with what A's makes of the
    same inputs, values beyond B's range cut off: the error of this operator alone. ``clipping`` is what that cutting
    takes from A's tensor, ``weights`` what rounding A's weights to B's grid changes, and ``repeat`` compares A with
    itself in other kernels.
    """

    whole: Sums = field(default_factory=Sums)
    own: Sums = field(default_factory=Sums)
    clipping: Sums = field(default_factory=Sums)
    weights: Sums = field(default_factory=Sums)
    repeat: Sums = field(default_factory=Sums)
    saturated: int = 0
    rounded_count: int = 0
    hybrid_noise: float = 0.0
    has_rounded_weights: bool = False

    def add_own(self, exact: Array, rounded: Array, measured: Array, value: Value) -> None:
        """Add what B's operator should have written, also with rounded weights, and what it wrote."""
        if value.quantization is not None:
            low, high = _range(value, value.quantization)
            exact, rounded = np.clip(exact, low, high), np.clip(rounded, low, high)
            # Zeros behind a ReLU and what is cut off lie on the grid's ends, without any rounding.
            self.rounded_count += int(np.sum((exact > low) & (exact < high)))
        self.own.add(exact, measured)
        self.weights.add(exact, rounded)

    def add_clipping(self, reference: Array, value: Value) -> None:
        """Add A's tensor, of which B's may be too narrow to hold all."""
        if value.quantization is not None:
            inside = np.clip(reference, *_range(value, value.quantization))
            self.saturated += int(np.sum(np.abs(reference - inside) > value.quantization.scales[0] / 2))
            self.clipping.add(reference, inside)

    def add_hybrid(self, exact: Array, inputs: Sequence[Array], levels: int) -> None:
        """Add the noise to expect where a kernel rounds its real inputs to so many levels either side of zero."""
        for values in inputs:
            power = float(np.mean(np.square(values, dtype=np.float64)))
            if math.isfinite(power) and power > 0:
                step = float(np.max(np.abs(values))) / levels
                self.hybrid_noise += (
                    step * step / 12 / power * float(np.sum(np.square(exact, dtype=np.float64)))
                )

    @property
    def saturated_share(self) -> float:
        """The share of values that lie beyond what B's tensor can hold."""
        return self.saturated / self.whole.count if self.whole.count else 0.0


def _range(value: Value, quantization: Quantization) -> tuple[float, float]:
    """The smallest and the largest real number that a quantized tensor can hold."""
    limits = np.iinfo(value.dtype)
    scale, zero_point = quantization.scales[0], quantization.zero_points[0]
    return scale * (limits.min - zero_point), scale * (limits.max - zero_point)
