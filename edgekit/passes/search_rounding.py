"""Round the weights of a quantized file for the sake of what their layer gives, and not each to the nearest.

Rounded one by one, the errors of a layer's weights add up at random. What counts is the error of its outputs,
``e' C e`` for the errors ``e`` of one output channel's weights and the covariance ``C`` of what the layer reads; the
mean is the bias's affair, which takes out what it shifts. This is the task of Nagel et al., "Up or Down? Adaptive
Rounding for Post-Training Quantization" (arXiv:2004.10568, equation 13), solved here by coordinate descent: one weight
after the other goes to its neighbour where that lowers the error, until none does.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.passes._layers import Change, Floats, Layer, Twins, snr_db
from edgekit.tensor import Array

_SWEEPS = 6
# Weights farther from their float value than a step would be another layer.
_FARTHEST_STEPS = 1.0
# Covariances of more inputs are taken in blocks, as if inputs of different blocks had nothing to do with each other.
_BLOCK = 1024
# Of a large image so many positions, at random, tell enough.
_POSITIONS = 1024

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Rounding:
    """The file with other integers, and the SNR in dB of its worst output before and after.

    Of all ``layers`` so many were ``tried`` before the time was over, and so many ``kept`` other integers.
    """

    model: bytes
    snr_before_db: float
    snr_after_db: float
    layers: int
    tried: int
    kept: int


def search_rounding(
    twins: Twins,
    *,
    calibration: Mapping[str, Array],
    held_back: Mapping[str, Array],
    seed: int = 0,
    seconds: float = float("inf"),
    progress: Progress | None = None,
) -> Rounding:
    """Search the rounding of convolutions and fully connected layers, layer by layer from the first.

    Args:
        twins: The float file, and the one with integer weights and activations that was made from it.
        calibration: Samples that the covariances are taken from, by input name: ``{"x": (256, 32, 32, 3)}``.
        held_back: Other samples; a layer keeps its new integers only where they bring these outputs nearer.
        seed: Chooses positions of large images.
        seconds: No layer is begun after so long.
        progress: Called with the number of layers done and of all.

    Returns:
        The file with what was kept.
    """
    started = time.monotonic()
    layers = twins.layers
    exact = list(twins.float_probe.outputs(held_back))
    before = best = snr_db(twins.probe, held_back, exact)
    model, tried, kept = twins.quantized, 0, dict[int, Change]()
    seen = _moments(twins, calibration, seed)
    for number, layer in enumerate(layers):
        if time.monotonic() - started > seconds:
            break
        if progress:
            progress(number, len(layers))
        tried += 1
        change = _searched(layer, seen[layer.position])
        if change is None:
            continue
        changed = twins.changed({**kept, layer.position: change})
        snr = snr_db(changed.probe, held_back, exact)
        if snr > best:
            model, best = changed.quantized, snr
            kept[layer.position] = change
    return Rounding(model, before, best, len(layers), tried, len(kept))


@dataclass
class _Moments:
    """Sums over what a layer reads: of the inputs of each weight, of their products in blocks, and their number.

    A depthwise layer of 16 channels has sums (16, 9) and products (16, 9, 9); one that reads all has sums (1, 2304)
    and blocks of products, (1, 1024, 1024) at most.
    """

    sums: Floats
    products: list[Floats]
    count: int = 0

    @property
    def mean(self) -> Floats:
        """The mean input of each weight."""
        return self.sums / self.count

    def covariances(self) -> Iterator[tuple[slice, Floats]]:
        """The blocks of the covariance, and which inputs they are of."""
        mean = self.mean
        for part, product in zip(_blocks(mean.shape[1]), self.products, strict=True):
            yield part, product / self.count - mean[:, part, None] * mean[:, None, part]


def _blocks(inputs: int) -> list[slice]:
    return [slice(first, min(first + _BLOCK, inputs)) for first in range(0, inputs, _BLOCK)]


def _moments(twins: Twins, calibration: Mapping[str, Array], seed: int) -> dict[int, _Moments]:
    """What every layer reads in the float model."""
    generator, found = np.random.default_rng(seed), dict[int, _Moments]()
    for layer, values in twins.float_probe.inputs(twins.layers, calibration):
        # Products of float32 lose the covariance where the mean is large.
        rows = layer.rows(values.astype(np.float64))
        if layer.window and rows.shape[1] > _POSITIONS:
            rows = rows[:, generator.choice(rows.shape[1], _POSITIONS, replace=False)]
        if layer.position not in found:
            groups, _, inputs = rows.shape
            products = [np.zeros((groups, p.stop - p.start, p.stop - p.start)) for p in _blocks(inputs)]
            found[layer.position] = _Moments(np.zeros((groups, inputs)), products)
        moments = found[layer.position]
        moments.count += rows.shape[1]
        moments.sums += rows.sum(axis=1)
        for number, part in enumerate(_blocks(rows.shape[2])):
            some = rows[:, :, part]
            moments.products[number] += some.transpose(0, 2, 1) @ some
    return found


def _searched(layer: Layer, moments: _Moments) -> Change | None:
    """Other integers for a layer, and the bias that takes out what they shift on average."""
    exact, rounded = (layer.columns(values / layer.steps) for values in (layer.weights, layer.rounded))
    before = np.rint(rounded)
    integers = before.copy()
    for part, covariance in moments.covariances():
        integers[:, part] = descend(integers[:, part], exact[:, part], covariance, layer.limit)
    if (integers == before).all():
        return None
    change = layer.shaped(before - integers) * layer.steps
    shift = (layer.columns(change) * moments.mean[:, :, None]).sum(axis=1).ravel()
    return Change(layer.shaped(integers).astype(np.int8), layer.rounded_bias + shift)


def descend(integers: Floats, exact: Floats, covariance: Floats, limit: int) -> Floats:
    """Coordinate descent on ``e' C e`` for the errors ``e`` of each column, in steps of the integers.

    Args:
        integers: Where to begin: (inputs, outputs), whole numbers; with a first axis of groups where there are some.
        exact: What they stand for, in the same steps.
        covariance: Of the inputs: (inputs, inputs); of each group, (groups, inputs, inputs).
        limit: The largest integer.

    Returns:
        Whole numbers within a step of ``exact``, whose error is nowhere larger than that of ``integers``.
    """
    errors = exact - integers
    gradient = covariance @ errors
    for _ in range(_SWEEPS):
        changed = False
        for row in range(covariance.shape[-1]):
            own = covariance[..., row, row, None]
            direction = np.sign(gradient[..., row, :])
            after = integers[..., row, :] + direction
            # Going one step along the gradient g changes the error by C_ii - 2 |g_i|.
            better = 2 * np.abs(gradient[..., row, :]) > own * (1 + 1e-9)
            allowed = (np.abs(after) <= limit) & (np.abs(exact[..., row, :] - after) <= _FARTHEST_STEPS)
            step = np.where(better & allowed, direction, 0.0)
            if step.any():
                integers[..., row, :] += step
                gradient -= covariance[..., row, :, None] * step[..., None, :]
                changed = True
        if not changed:
            break
    return integers
