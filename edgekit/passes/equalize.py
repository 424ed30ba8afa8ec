"""Balance the channels of a float ``.tflite`` file, so that int8 has less to lose.

This is the cross-layer equalization of Nagel et al., "Data-Free Quantization through Weight Equalization and Bias
Correction" (arXiv:1906.04721, section 4.1), with three differences:

1. The factors come from activations on samples as well as from weights. With a scale for each output channel, a
   layer's own output channels cost nothing; what costs is the one scale of the tensor between two layers, and the one
   scale that all weights of an output channel of the next layer share.
2. It goes through everything that lets positive factors pass: ReLU, pools, means, flattening, sums of scaled tensors.
3. ReLU6 lets them pass only below its bound, and no file has a bound for each channel. So a channel that reaches the
   bound on a sample keeps its factor at 1, and the others are scaled only so far that they stay a fifth below it: on
   the samples the function stays, and beyond them a channel is clipped at 1.25 times what the samples reach. The range
   of the int8 tensor would clip it about there too.

High biases are absorbed as in section 4.1.3: of a channel that is always positive, ``max(0, mean - 3 deviations)`` goes
from the layer's bias into the next one's. Here it is never more than the least value on the samples, and only where the
next layer pads with nothing, so that the function stays; without an activation function any shift may be absorbed.

The result is compared with the original on samples, and thrown away where they differ by more than rounding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgekit import flatbuffer
from edgekit.passes import _channel_scales as scales
from edgekit.passes._layers import snr_db
from edgekit.passes._layers_tflite import TFLiteProbe
from edgekit.passes._scaling_groups import Floats, Graph, Group, Weighted, find_groups, write_layer
from edgekit.tensor import Array

# Float arithmetic in another order differs by 120 dB and more; what is nearer than that is the same function.
SAME_DB = 100.0
# A smaller gain in the noise of a group is not worth a change: with equal ranges, every channel of new samples is cut
# off where it goes beyond those of the calibration, and not the widest one alone.
WORTH_DB = 3.0
_DEVIATIONS = 3.0
# Ranges of channels are taken from so many samples, once so many have shown that there is something to gain.
SAMPLES, FIRST_SAMPLES = 128, 16
# So many samples show whether the outputs are the same.
CHECKED = 32


@dataclass(frozen=True)
class Equalization:
    """The file with balanced channels, and what was done: ``groups`` were scaled, ``absorbed`` channels shifted.

    ``gain_db`` is how much less noise int8 is expected to make in the group that gains the most. ``same_db`` is the
    SNR of the outputs against the original on samples, infinite where nothing was changed.
    """

    model: bytes
    groups: int = 0
    absorbed: int = 0
    gain_db: float = 0.0
    same_db: float = np.inf

    @property
    def is_refused(self) -> bool:
        """Whether the outputs changed, so that the file was left as it was."""
        return self.same_db < SAME_DB


def equalize(model: bytes, samples: Mapping[str, Array], *, imbalance_db: float = WORTH_DB) -> Equalization:
    """Balance the channels of a float file.

    Args:
        model: The file's bytes; it has a signature.
        samples: What the ranges of activations are taken from, by input name: ``{"x": (256, 32, 32, 3)}``.
        imbalance_db: Everything is left alone unless a group of channels is expected to gain so much.

    Returns:
        The new file, or the same bytes where nothing is to be gained, or where the outputs changed.

    Raises:
        ModelError: The file is unreadable or does not run.
    """
    graph = Graph(flatbuffer.read(model))
    groups = find_groups(graph)
    changes = Changes()
    for count in (FIRST_SAMPLES, SAMPLES):
        # Most models need nothing, and a few samples are enough to see that.
        some = {name: values[:count] for name, values in samples.items()}
        changes = planned(graph, groups, scales.observe(model, scales.needed(groups), some) if groups else {})
        if max(changes.gains, default=0.0) < imbalance_db:
            return Equalization(model)

    def write(tree: flatbuffer.Model) -> None:
        for layer in changes.layers.values():
            write_layer(tree, layer)

    result = flatbuffer.rewrite(model, write)
    few = {name: values[:CHECKED] for name, values in samples.items()}
    return changes.judged(
        model, result, snr_db(TFLiteProbe(result, {}), few, list(TFLiteProbe(model, {}).outputs(few)))
    )


def planned(graph: Graph, groups: list[Group], seen: Mapping[int, scales.Seen]) -> "Changes":
    """What to change by what the tensors were on samples."""
    matters = scales.importances(graph, seen)
    changes = Changes()
    for group in groups:
        shifts = _shifts(graph, group, seen)
        before = scales.Noise(group, seen, matters).of(np.ones(group.channels))
        noise = scales.Noise(group, seen, matters, shifts)
        factors = noise.best()
        after = noise.of(factors)
        if before > after * 10 ** (WORTH_DB / 10):
            changes.add(group, factors, shifts)
            changes.gains.append(float(10 * np.log10(before / after)))
    return changes


def _shifts(graph: Graph, group: Group, seen: Mapping[int, scales.Seen]) -> Floats:
    """What of each channel the next layer's bias can take."""
    nothing = np.zeros(group.channels)
    if len(group.tensors) != 1 or len(group.givers) != 1 or len(group.takers) != 1:
        return nothing
    giver, taker, index = group.givers[0], group.takers[0], group.tensors[0]
    is_read_once = len(graph.readers[index]) == 1
    if giver.bias is None or taker.bias is None or taker.pads or not is_read_once:
        return nothing
    one = seen[index].folded(group.channels)
    if giver.activation == "RELU":
        return np.minimum(np.maximum(one.mean - _DEVIATIONS * one.deviation, 0), np.maximum(one.least, 0))
    if giver.activation == "NONE":
        return (one.least + one.largest) / 2
    return nothing


class Changes:
    """The constants that a file gets instead of its own."""

    def __init__(self) -> None:
        self.gains: list[float] = []
        self.absorbed = 0
        self.layers: dict[int, Weighted] = {}

    def add(self, group: Group, factors: Floats, shifts: Floats) -> None:
        """Scale and shift a group's channels."""
        self.absorbed += int(np.count_nonzero(shifts))
        for giver in group.givers:
            layer = self.layers.get(giver.position, giver)
            given = np.tile(factors, layer.weights.shape[-1] // factors.size)
            bias = layer.bias
            if bias is not None:
                bias = (bias - np.tile(shifts, bias.size // shifts.size)) * given
            self.layers[giver.position] = replace(layer, weights=layer.weights * given, bias=bias)
        for taker in group.takers:
            layer = self.layers.get(taker.position, taker)
            bias = layer.bias
            if bias is not None and shifts.any():
                bias = bias + _contribution(layer, shifts)
            taken = np.tile(factors, layer.read // factors.size)
            # Depthwise weights have one axis for both: output channel c reads input channel c // multiplier.
            taken = np.repeat(taken, layer.multiplier) if layer.is_depthwise else taken[:, None]
            self.layers[taker.position] = replace(layer, weights=layer.weights / taken, bias=bias)

    def judged(self, model: bytes, result: bytes, same_db: float) -> Equalization:
        """The result, where its outputs are those of the model."""
        if same_db < SAME_DB:
            return Equalization(model, same_db=same_db)
        return Equalization(result, len(self.gains), self.absorbed, max(self.gains), same_db)


def _contribution(layer: Weighted, shifts: Floats) -> Floats:
    """What a shift of each input channel makes in each output channel."""
    if layer.is_depthwise:
        return np.asarray(layer.weights.sum((0, 1)) * np.repeat(shifts, layer.multiplier), np.float64)
    inputs = np.tile(shifts, layer.read // shifts.size)
    taps = layer.weights.reshape(-1, layer.read, layer.weights.shape[-1])
    return np.asarray(inputs @ taps.sum(0), np.float64)
