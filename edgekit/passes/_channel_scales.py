"""Which factor each channel of a group of tensors gets, so that int8 makes the least noise.

One scale has to do for a whole activation tensor, so its step is set by the channel with the widest range, and its
noise reaches the next layer through that layer's weights. One scale has to do for all weights of an output channel, so
their step is set by the input channel with the largest weight. Both are written down here as noise beside signal, for
any factors; weights alone, as in Nagel et al. (arXiv:1906.04721), do not tell how large the activations are.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.passes import _graph
from edgekit.passes._layers_tflite import TFLiteProbe
from edgekit.passes._scaling_groups import Floats, Graph, Group, Weighted
from edgekit.tensor import Array

_ACTIVATION_STEPS, _WEIGHT_STEPS = 255, 127
# The variance of a rounding error is a twelfth of the step's square.
_ROUNDING = 1 / 12
# How much of a channel's range comes from its own activations and how much from the weights that read it: 0 makes the
# ranges of all channels equal, 1 the weights.
_SHARES = np.linspace(0, 1, 11)
# A channel that no sample excites is taken for one that reaches this part of what its inputs could give.
_ASLEEP = 0.01
# Scaled channels stay this far below a bound on the calibration samples: other samples go beyond these.
_ROOM = 0.8
_AT_BOUND = 0.999
_LARGEST = 2.0**20
# The range of a channel that can give nothing at all.
_DEAD = 1e-30


@dataclass(frozen=True)
class Seen:
    """What a tensor was on samples, channel by channel: extremes, mean, mean square and standard deviation."""

    least: Floats
    largest: Floats
    mean: Floats
    power: Floats

    @property
    def span(self) -> Floats:
        """How wide a quantizer's range for each channel would be; zero is always in it."""
        return np.maximum(self.largest, 0) - np.minimum(self.least, 0)

    @property
    def deviation(self) -> Floats:
        """The standard deviation of each channel."""
        return np.sqrt(np.maximum(self.power - self.mean**2, 0))

    def less(self, shifts: Floats) -> "Seen":
        """The same with ``shifts`` taken off every value of a channel."""
        mean = self.mean - shifts
        # No mean square is less than the mean's square, which rounding might say where a channel hardly varies.
        power = np.maximum(self.power - 2 * self.mean * shifts + shifts**2, mean**2)
        return Seen(self.least - shifts, self.largest - shifts, mean, power)

    def folded(self, channels: int) -> "Seen":
        """The same for a last axis in which the channels repeat: (3136,) to (64,)."""
        return Seen(
            self.least.reshape(-1, channels).min(0),
            self.largest.reshape(-1, channels).max(0),
            self.mean.reshape(-1, channels).mean(0),
            self.power.reshape(-1, channels).mean(0),
        )


def observe(content: bytes, indices: set[int], samples: Mapping[str, Array]) -> dict[int, Seen]:
    """What these tensors of a float ``.tflite`` are on samples."""
    return gathered(TFLiteProbe(content, {}).tensors(sorted(indices), samples))


def gathered(values: Iterable[tuple[int, Array]]) -> dict[int, Seen]:
    """What tensors are, from their values sample by sample, channels last; nothing but sums is kept."""
    found: dict[int, Seen] = {}
    counts = Counter[int]()
    for index, one in values:
        found[index] = _joined(found.get(index), one, counts[index])
        counts[index] += 1
    return found


def _joined(before: Seen | None, values: Array, count: int) -> Seen:
    """One more sample after ``count`` others."""
    # Not as rows: tensors with channels in front would have to be copied for that.
    *axes, last = range(values.ndim)
    power = np.einsum(values, [*axes, last], values, [*axes, last], [last]) / (
        values.size // values.shape[-1]
    )
    found = (values.min(tuple(axes)), values.max(tuple(axes)), values.mean(tuple(axes)), power)
    now = Seen(*(one.astype(np.float64) for one in found))
    if before is None:
        return now
    return Seen(
        np.minimum(before.least, now.least),
        np.maximum(before.largest, now.largest),
        before.mean + (now.mean - before.mean) / (count + 1),
        before.power + (now.power - before.power) / (count + 1),
    )


def importances(graph: Graph, seen: Mapping[int, Seen]) -> dict[int, Floats]:
    """How much a unit of noise in each channel of a tensor matters for what comes behind, relative to its signal.

    From the last operator back: through a layer by the squares of its weights, through all else as it is.
    """
    found: dict[int, Floats] = {}
    for position in range(len(graph.operators) - 1, -1, -1):
        operator = graph.operators[position]
        made = int(operator.outputs[0])
        behind = found.get(made, np.ones(graph.shape(made)[-1:] or (1,)))
        for index in set(_graph.numbers(operator.inputs)):
            if index not in seen:
                continue
            matters = _through(graph.layers.get(position), behind, len(seen[index].power))
            signal = float((matters * seen[index].power).sum())
            if signal > 0:
                found[index] = found.get(index, 0.0) + matters / signal
    return found


def _through(layer: Weighted | None, behind: Floats, channels: int) -> Floats:
    if layer is None:
        fits = behind.size % channels == 0
        return behind.reshape(-1, channels).sum(0) if fits else np.ones(channels)
    taken = layer.weights**2 * behind
    if layer.is_depthwise:
        return np.asarray(taken.sum((0, 1)).reshape(-1, layer.multiplier).sum(1), np.float64)
    return np.asarray(taken.sum(-1).reshape(-1, channels).sum(0), np.float64)


class Noise:
    """The noise that int8 makes in a group, relative to the signal, for any factors of its channels.

    ``shifts`` are taken off the channels first. They are no part of the signal's loss: the next bias adds them again.
    """

    def __init__(
        self,
        group: Group,
        seen: Mapping[int, Seen],
        matters: Mapping[int, Floats],
        shifts: Floats | None = None,
    ) -> None:
        self._group = group
        whole = {index: seen[index].folded(group.channels) for index in group.tensors}
        self._signals = {index: one.power for index, one in whole.items()}
        self._seen = whole if shifts is None else {index: one.less(shifts) for index, one in whole.items()}
        self.floor = self._asleep(seen)
        self._activations = list(self._tensors(matters))
        self._weights = list(self._layers(matters))
        spans = [np.maximum(one.span, self.floor) for one in self._seen.values()]
        self.spans: Floats = np.max(spans, axis=0)

    def _asleep(self, seen: Mapping[int, Seen]) -> Floats:
        """A range for channels that the samples never excited."""
        reach = np.full(self._group.channels, _DEAD)
        for layer in self._group.givers:
            span = seen[layer.source].span
            if layer.is_depthwise:
                most = np.abs(layer.weights).sum((0, 1)) * np.repeat(span, layer.multiplier)
            else:
                inputs = np.tile(span, layer.read // span.size)
                most = (
                    np.abs(layer.weights).reshape(-1, layer.read, layer.weights.shape[-1]).sum(0).T @ inputs
                )
            reach = np.maximum(reach, _ASLEEP * most.reshape(-1, self._group.channels).max(0))
        return reach

    def _tensors(self, matters: Mapping[int, Floats]) -> Iterator[tuple[Floats, Floats]]:
        """Ranges of every tensor that is rounded, and how much noise in its channels matters."""
        for index in self._group.rounded:
            if index in matters:
                weight = matters[index].reshape(-1, self._group.channels).sum(0)
                yield np.maximum(self._seen[index].span, self.floor), weight

    def _layers(self, matters: Mapping[int, Floats]) -> Iterator[tuple[Floats, Floats, Floats]]:
        """For every layer that takes: its largest weights (in, out), what noise in them makes (in,), and (out,)."""
        channels = self._group.channels
        for layer in self._group.takers:
            if layer.is_depthwise:
                continue  # each of its output channels reads one channel: a factor changes no rounding
            behind = matters.get(layer.made, np.ones(layer.weights.shape[-1]))
            weights = np.abs(layer.weights).reshape(-1, channels, layer.weights.shape[-1])
            signal = float(((weights**2).sum(0) * behind * self._signals[layer.source][:, None]).sum())
            if signal > 0:
                yield weights.max(0), self._seen[layer.source].power * len(weights) / signal, behind

    def of(self, factors: Floats) -> float:
        """Noise beside signal."""
        total = 0.0
        for span, weight in self._activations:
            step = float((factors * span).max()) / _ACTIVATION_STEPS
            total += step**2 * _ROUNDING * float((weight / factors**2).sum())
        for largest, power, behind in self._weights:
            steps = (largest / factors[:, None]).max(0) / _WEIGHT_STEPS
            total += float((steps**2 * behind).sum()) * _ROUNDING * float((factors**2 * power).sum())
        return total

    def best(self) -> Floats:
        """The factors with the least noise among those that lie between equal ranges and equal weights."""
        spans = self.spans
        weights = np.zeros(self._group.channels)
        for largest, _, _ in self._weights:
            reach = (largest * spans[:, None]).max(0)
            weights = np.maximum(weights, (largest / np.where(reach > 0, reach, 1)).max(1))
        # What nothing reads may be as large as the others.
        weights = np.where(weights > 0, weights, 1 / spans)
        alive = spans > _DEAD
        tried = [
            self._fitted(np.where(alive, weights**share / spans ** (1 - share), np.nan)) for share in _SHARES
        ]
        return min([np.ones(self._group.channels), *tried], key=self.of)

    def _fitted(self, factors: Floats) -> Floats:
        """Factors that keep every channel on the same side of every bound, and are neither huge nor tiny."""
        factors = np.nan_to_num(factors / np.nanmedian(factors), nan=1.0)
        if self._group.bounded:
            limits, held = self._limits()
            if held.any():
                factors = factors / np.exp(np.log(factors[held]).mean())
            else:
                factors = factors * float((limits / factors).min())
            factors = np.where(held, 1.0, np.minimum(factors, limits))
        return np.clip(factors, 1 / _LARGEST, _LARGEST)

    def _limits(self) -> tuple[Floats, NDArray[np.bool_]]:
        """How large factors may be, and which channels reach a bound and so keep theirs at 1."""
        limits = np.full(self._group.channels, _LARGEST)
        held = np.zeros(self._group.channels, bool)
        for index, bound in self._group.bounded.items():
            largest = self._seen[index].largest
            held |= largest >= bound * _AT_BOUND
            limits = np.minimum(limits, np.maximum(1.0, _ROOM * bound / np.maximum(largest, self.floor)))
        return limits, held


def needed(groups: list[Group]) -> set[int]:
    """The tensors whose values the choice of factors depends on."""
    found = {index for group in groups for index in group.tensors}
    return found | {layer.source for group in groups for layer in group.givers}
