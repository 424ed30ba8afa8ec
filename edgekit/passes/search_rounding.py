"""Round the weights of a quantized file for the sake of what their layer gives, and not each to the nearest.

Rounded one by one, the errors of a layer's weights add up at random. What counts is the error of its outputs,
``e' C e`` for the errors ``e`` of one output channel's weights and the covariance ``C`` of what the layer reads; the
mean is the bias's affair, which takes out what it shifts. This is the task of Nagel et al., "Up or Down? Adaptive
Rounding for Post-Training Quantization" (arXiv:2004.10568, equation 13), solved here by coordinate descent: one weight
after the other goes to its neighbour where that lowers the error, until none does.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgekit.passes._layer_search import ChangeOf, LayerSearch
from edgekit.passes._layers import Change, Floats, Layer, Twins, some
from edgekit.passes._moments import Moments, moments
from edgekit.passes._steps import best_steps
from edgekit.tensor import Array

_SWEEPS = 6
# Weights farther from their float value than a step would be another layer.
_FARTHEST_STEPS = 1.0


@LayerSearch
def search_rounding(twins: Twins, calibration: Mapping[str, Array], seed: int) -> ChangeOf:
    """Search steps and rounding of every layer, by the covariance of what its float twin reads."""
    seen = moments(twins.layers, twins.float_probe, some(calibration), seed=seed)
    return lambda _, layer: _searched(layer, seen[layer.position])


def _searched(layer: Layer, seen: Moments) -> Change | None:
    """Other steps and integers for a layer, and the bias that takes out what they shift on average."""
    exact, before = (layer.columns(values) for values in (layer.weights, layer.rounded))
    found, given = rounded(layer, exact, [(part, covariance) for part, covariance, _ in seen.blocks()])
    change = before - given
    if np.allclose(change, 0, atol=1e-9 * np.abs(before).max()):
        return None
    shift = (change * seen.mean_wanted[:, :, None]).sum(axis=1).ravel()
    return replace(found, bias=layer.rounded_bias + shift)


def rounded(layer: Layer, weights: Floats, noise: list[tuple[slice, Floats]]) -> tuple[Change, Floats]:
    """The steps and integers of weights by which a layer's outputs err least; all is as ``best_steps`` takes it.

    Returns:
        The change without its bias, and what the integers stand for, as ``weights`` lie.
    """
    steps = best_steps(layer, weights, noise)[:, None]
    targets = weights / steps
    integers = np.clip(np.rint(targets), -layer.limit, layer.limit)
    for part, metric in noise:
        integers[:, part] = descend(integers[:, part], targets[:, part], metric, layer.limit)
    # Groups follow one another in the order of the output channels.
    return Change(layer.shaped(integers).astype(np.int8), steps=steps.ravel()), integers * steps


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
