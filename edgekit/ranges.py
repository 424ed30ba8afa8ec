"""Ranges of activations: five ways to choose the ends of a quantized range from what was seen of a tensor."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.tensor import Array

# Bins on each side of zero. They double their width when a value lies beyond them, so that at least half of a
# side's bins are in use: four for each of the 255 steps of 8 bits.
BINS = 2048
# The decay of the moving average is that of TensorFlow's and ai-edge-quantizer's observers.
_DECAY = 0.95
# As in TensorRT: of 10,000 values one may be clipped.
_CLIPPED_SHARE = 1e-4
# Ends are tried at so many fractions of the extremes.
_TRIED_ENDS = np.linspace(0.2, 1.0, 41)
_SEARCH_ROUNDS = 2
# Of the values of one call so many are counted: they tell the shape of a histogram.
_COUNTED = 1 << 12

Range = tuple[float, float]
RangeMethod = Literal["auto", "min-max", "moving-average", "percentile", "mse", "entropy"]


@dataclass
class Observed:
    """What was seen of one tensor, value by value: exact extremes, and a histogram that widens as it has to.

    ``counts`` has ``2 * BINS`` bins of ``width`` each, zero in the middle; ``width`` is a power of two, or 0 before
    anything but zeros was seen. Zeros are not counted: every range stands for them without an error, and half of
    what a ReLU gives would hide the rest. ``moving`` are the extremes of one call after the other, averaged with
    a decay.
    """

    low: float = math.inf
    high: float = -math.inf
    moving: Range | None = None
    width: float = 0.0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * BINS, np.int64))

    def add(self, values: Array) -> None:
        """Take in the values of one call: ``(1, 32, 32, 16)``."""
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        before = self.moving or (low, high)
        self.moving = (_averaged(before[0], low), _averaged(before[1], high))
        self._widen(max(-low, high))
        if self.width:
            flat = _sparse(values.ravel())
            # Exact, because the width is a power of two.
            places = np.floor(np.multiply(flat, 1 / self.width, dtype=np.float64)).astype(np.int64) + BINS
            self.counts += np.bincount(np.minimum(places, 2 * BINS - 1), minlength=2 * BINS)
            self.counts[BINS] -= np.count_nonzero(flat == 0)

    def _widen(self, largest: float) -> None:
        if not largest:
            return
        if not self.width:
            self.width = 2.0 ** math.ceil(math.log2(largest / BINS))
        while largest > self.width * BINS:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate(
                [np.zeros(BINS // 2, np.int64), pairs, np.zeros(BINS // 2, np.int64)]
            )
            self.width *= 2

    @property
    def middles(self) -> NDArray[np.float64]:
        """The value in the middle of each bin."""
        return np.asarray((np.arange(-BINS, BINS) + 0.5) * self.width, np.float64)


def _sparse(flat: Array) -> Array:
    """At most so many of the values, evenly spread over every channel wherever the axis of channels is."""
    step = -(-flat.size // _COUNTED)
    while math.gcd(step, flat.size) > 1:
        step += 1
    return flat[::step]


def _averaged(average: float, value: float) -> float:
    return _DECAY * average + (1 - _DECAY) * value


def min_max(observed: Observed, bits: int) -> Range:
    """Everything that was seen, and zero."""
    del bits
    return min(observed.low, 0.0), max(observed.high, 0.0)


def moving_average(observed: Observed, bits: int) -> Range:
    """The extremes of one sample after the other, averaged: single extremes hardly count, and are clipped."""
    del bits
    low, high = observed.moving or (0.0, 0.0)
    return min(low, 0.0), max(high, 0.0)


def percentile(observed: Observed, bits: int) -> Range:
    """What is left when one of 10,000 values other than zero is clipped, half of them at each end."""
    total = observed.counts.sum()
    if not total:
        return min_max(observed, bits)
    below = np.cumsum(observed.counts) / total
    edges = np.arange(-BINS, BINS + 1) * observed.width
    low = edges[np.searchsorted(below, _CLIPPED_SHARE / 2, side="right")]
    high = edges[np.searchsorted(below, 1 - _CLIPPED_SHARE / 2) + 1]
    return _within(observed, low, high)


def mse(observed: Observed, bits: int) -> Range:
    """The ends that leave the least mean squared error of all values, rounded and clipped together."""
    used = observed.counts > 0
    middles, weights = observed.middles[used], observed.counts[used].astype(np.float64)
    low, high = min_max(observed, bits)

    def error(ends: Range) -> float:
        difference = fake_quantize(middles, ends, bits) - middles
        return float(weights @ (difference * difference))

    best = (low, high)
    for _ in range(_SEARCH_ROUNDS):
        best = min(((low * share, best[1]) for share in _TRIED_ENDS), key=error) if low else best
        best = min(((best[0], high * share) for share in _TRIED_ENDS), key=error) if high else best
    return best


def entropy(observed: Observed, bits: int) -> Range:
    """The ends whose rounded distribution is nearest to that of the values by Kullback-Leibler divergence.

    As in Migacz, "8-bit Inference with TensorRT" (GTC 2017): what is clipped counts at the ends of the clipped
    distribution, and nowhere in the rounded one.
    """
    low, high = min_max(observed, bits)
    if not observed.counts.any():
        return low, high
    candidates = [(max(low, -bound), min(high, bound)) for bound in _TRIED_ENDS[::2] * max(-low, high)]
    return min(dict.fromkeys(candidates), key=lambda ends: _divergence(observed, ends, bits))


METHODS: Mapping[str, Callable[[Observed, int], Range]] = {
    "min-max": min_max,
    "moving-average": moving_average,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}


def fake_quantize(values: Array, ends: Range, bits: int) -> Array:
    """Values rounded to the steps of a range and clipped to it, as real numbers.

    8 bits are asymmetric, with zero on a step; 16 bits are symmetric, as LiteRT's kernels want them.

    >>> fake_quantize(np.array([-1.0, 0.1, 0.5, 3.0]), (0.0, 2.55), 8).round(2).tolist()
    [0.0, 0.1, 0.5, 2.55]
    """
    low, high = ends
    if bits > 8:
        largest = 2 ** (bits - 1) - 1
        step = max(-low, high) / largest or 1.0
        return np.asarray(np.clip(np.rint(values / step), -largest, largest) * step)
    levels = 2**bits - 1
    step = (high - low) / levels or 1.0
    zero = round(-low / step)
    integers = np.asarray(np.rint(values / step))
    np.minimum(np.maximum(integers, -zero, out=integers), levels - zero, out=integers)
    integers *= step
    return integers


def _divergence(observed: Observed, ends: Range, bits: int) -> float:
    """D(P || Q) of the clipped distribution P and its rounding Q, over the bins within the ends."""
    edges = [int(np.clip(np.floor(end / observed.width) + BINS, 0, 2 * BINS - 1)) for end in ends]
    inside = observed.counts[edges[0] : edges[1] + 1].astype(np.float64)
    clipped = inside.copy()
    clipped[0] += observed.counts[: edges[0]].sum()
    clipped[-1] += observed.counts[edges[1] + 1 :].sum()
    levels = np.arange(len(inside)) * 2**bits // len(inside)
    used = inside > 0
    sums = np.bincount(levels, inside, 2**bits)
    shared = np.bincount(levels, used, 2**bits)
    rounded = np.where(used, (sums / np.maximum(shared, 1))[levels], 0.0)
    p, q = clipped / clipped.sum(), rounded / max(rounded.sum(), 1.0)
    # A value that P has and Q cannot have would be infinitely far: it is taken for one that is very rare.
    return float(np.sum(p[p > 0] * np.log(p[p > 0] / np.maximum(q[p > 0], 1e-12))))


def _within(observed: Observed, low: float, high: float) -> Range:
    return min(max(low, observed.low), 0.0), max(min(high, observed.high), 0.0)
