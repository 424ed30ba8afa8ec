"""Round the weights of a quantized ``.tflite`` for the sake of what their layer gives, and not each to the nearest.

Rounded one by one, the errors of a layer's weights add up at random. What counts is the error of its outputs,
``e' C e`` for the errors ``e`` of one output channel's weights and the covariance ``C`` of what the layer reads; the
mean is the bias's affair, which takes out what it shifts. This is the task of Nagel et al., "Up or Down? Adaptive
Rounding for Post-Training Quantization" (arXiv:2004.10568, equation 13), solved here by coordinate descent: one weight
after the other goes to its neighbour where that lowers the error, until none does.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit import flatbuffer
from edgekit.passes._layers import Layer, Probe, bias_of, paired_layers, set_bias, set_weights, snr_db
from edgekit.tensor import Array

_SWEEPS = 6
# Weights farther from their float value than a step would be another layer.
_FARTHEST_STEPS = 1.0
# Covariances of more inputs are taken in blocks, as if inputs of different blocks had nothing to do with each other.
_BLOCK = 1024
# Of a large image so many positions, at random, tell enough.
_POSITIONS = 1024

_Floats = NDArray[np.float64]
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
    quantized: bytes,
    original: bytes,
    *,
    calibration: Mapping[str, Array],
    held_back: Mapping[str, Array],
    seed: int = 0,
    seconds: float = float("inf"),
    progress: Progress | None = None,
) -> Rounding:
    """Search the rounding of convolutions and fully connected layers, layer by layer from the first.

    Args:
        quantized: A file with integer weights and activations, made from ``original`` operator by operator.
        original: The float file; both have a signature with the same names.
        calibration: Samples that the covariances are taken from, by input name: ``{"x": (256, 32, 32, 3)}``.
        held_back: Other samples; a layer keeps its new integers only where they bring these outputs nearer.
        seed: Chooses positions of large images.
        seconds: No layer is begun after so long.
        progress: Called with the number of layers done and of all.

    Returns:
        The file with what was kept.
    """
    started = time.monotonic()
    layers = paired_layers(flatbuffer.read(original), flatbuffer.read(quantized))
    exact = list(Probe(original).outputs(held_back))
    before = best = snr_db(Probe(quantized), held_back, exact)
    model, tried, kept = quantized, 0, 0
    seen = _moments(layers, Probe(original), calibration, seed)
    for number, layer in enumerate(layers):
        if time.monotonic() - started > seconds:
            break
        if progress:
            progress(number, len(layers))
        changed = _searched(model, layer, seen[layer.position])
        snr = before if changed == model else snr_db(Probe(changed), held_back, exact)
        tried += 1
        if snr > best:
            model, best, kept = changed, snr, kept + 1
    return Rounding(model, before, best, len(layers), tried, kept)


@dataclass
class _Moments:
    """Sums over what a layer reads: of the inputs of each weight, of their products in blocks, and their number.

    A depthwise layer has products for each channel, (channels, 9, 9); another has blocks of (1024, 1024) at most.
    """

    sums: _Floats
    products: list[_Floats]
    count: int = 0

    @property
    def mean(self) -> _Floats:
        """The mean input of each weight."""
        return self.sums / self.count

    def covariances(self) -> list[_Floats]:
        """The blocks of the covariance."""
        mean, found, first = self.mean, [], 0
        for product in self.products:
            if product.ndim == 3:
                found.append(product / self.count - mean.T[:, :, None] * mean.T[:, None, :])
            else:
                part = mean[first : first + len(product)]
                found.append(product / self.count - np.outer(part, part))
                first += len(product)
        return found


def _moments(
    layers: list[Layer], probe: Probe, calibration: Mapping[str, Array], seed: int
) -> dict[int, _Moments]:
    """What every layer reads in the float model."""
    generator, found = np.random.default_rng(seed), dict[int, _Moments]()
    for layer, values in probe.inputs(layers, calibration, side="float_input"):
        rows = _rows(layer, values, generator)
        if layer.position not in found:
            found[layer.position] = _empty(layer, rows.shape[1:])
        moments = found[layer.position]
        moments.count += len(rows)
        moments.sums += rows.sum(axis=0, dtype=np.float64)
        if layer.is_depthwise:
            by_channel = rows.transpose(2, 1, 0)
            moments.products[0] += by_channel @ by_channel.transpose(0, 2, 1)
        else:
            for number, first in enumerate(range(0, rows.shape[1], _BLOCK)):
                part = rows[:, first : first + _BLOCK]
                moments.products[number] += part.T @ part
    return found


def _rows(layer: Layer, values: Array, generator: np.random.Generator) -> Array:
    """The inputs of one sum in each row: (1024, 72) for a 3x3 kernel over 8 channels, (1024, 9, 8) depthwise."""
    # Products of float32 lose the covariance where the mean is large.
    values = values.astype(np.float64)
    if layer.window is None:
        return values.reshape(-1, layer.weights.shape[0])
    patches = np.concatenate([layer.window.patches(image) for image in values])
    rows = patches.reshape(-1, patches.shape[2] * patches.shape[3], patches.shape[4])
    if len(rows) > _POSITIONS:
        rows = rows[generator.choice(len(rows), _POSITIONS, replace=False)]
    return rows if layer.is_depthwise else rows.reshape(len(rows), -1)


def _empty(layer: Layer, shape: tuple[int, ...]) -> _Moments:
    if layer.is_depthwise:
        taps, channels = shape
        return _Moments(np.zeros(shape), [np.zeros((channels, taps, taps))])
    sizes = [min(_BLOCK, shape[0] - first) for first in range(0, shape[0], _BLOCK)]
    return _Moments(np.zeros(shape), [np.zeros((size, size)) for size in sizes])


def _searched(model: bytes, layer: Layer, moments: _Moments) -> bytes:
    """The file with other integers in one layer, and the bias that takes out what they shift on average."""
    outputs = layer.weights.shape[-1]
    exact, rounded = (values.reshape(-1, outputs) / layer.steps for values in (layer.weights, layer.rounded))
    integers, first = np.rint(rounded), 0
    for block in moments.covariances():
        # Output channel c of a depthwise layer reads input channel c // multiplier.
        covariance = (
            block.repeat(outputs // len(block), 0).transpose(1, 2, 0) if layer.is_depthwise else block
        )
        part = slice(first, first + len(covariance))
        integers[part] = descend(integers[part], exact[part], covariance, layer.limit)
        first += len(covariance)
    change = (np.rint(rounded) - integers) * layer.steps
    if not change.any():
        return model
    mean = moments.mean
    if layer.is_depthwise:
        mean = np.repeat(mean, outputs // mean.shape[1], axis=1)
    shift = (change * mean.reshape(len(change), -1)).sum(axis=0)

    def write(tree: flatbuffer.Model) -> None:
        bias = bias_of(tree, layer)
        set_weights(tree, layer, integers.reshape(layer.weights.shape).astype(np.int8))
        set_bias(tree, layer, bias + shift)

    return flatbuffer.rewrite(model, write)


def descend(integers: _Floats, exact: _Floats, covariance: _Floats, limit: int) -> _Floats:
    """Coordinate descent on ``e' C e`` for the errors ``e`` of each column, in steps of the integers.

    Args:
        integers: Where to begin: (inputs, outputs), whole numbers.
        exact: What they stand for, in the same steps.
        covariance: Of the inputs: (inputs, inputs), or (inputs, inputs, outputs) where each output has its own.
        limit: The largest integer.

    Returns:
        Whole numbers within a step of ``exact``, whose error is nowhere larger than that of ``integers``.
    """
    errors = exact - integers
    gradient = covariance @ errors if covariance.ndim == 2 else np.einsum("ijo,jo->io", covariance, errors)
    for _ in range(_SWEEPS):
        changed = False
        for row, (column, own) in enumerate(_columns(covariance)):
            direction = np.sign(gradient[row])
            after = integers[row] + direction
            # Going one step along the gradient g changes the error by C_ii - 2 |g_i|.
            better = 2 * np.abs(gradient[row]) > own * (1 + 1e-9)
            allowed = (np.abs(after) <= limit) & (np.abs(exact[row] - after) <= _FARTHEST_STEPS)
            step = np.where(better & allowed, direction, 0.0)
            if step.any():
                integers[row] += step
                gradient -= column * step
                changed = True
        if not changed:
            break
    return integers


def _columns(covariance: _Floats) -> "list[tuple[_Floats, _Floats]]":
    """Each column, shaped to multiply a row of outputs, with its diagonal element."""
    if covariance.ndim == 2:
        return [(covariance[:, row : row + 1], covariance[row, row]) for row in range(len(covariance))]
    return [(covariance[:, row], covariance[row, row]) for row in range(len(covariance))]
