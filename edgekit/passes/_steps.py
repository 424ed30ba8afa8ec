"""The steps of a layer's weights: the largest weights are clipped where finer steps for the others are worth more.

That is the clipping of Banner et al., "Post training 4-bit quantization of convolutional networks for rapid-deployment"
(arXiv:1810.05723, section 3), with the error of the layer's outputs for what is kept small, and tried step by step, so
that nothing is assumed of the distribution of the weights.
"""

import numpy as np

from edgekit.passes._layers import Floats, Layer

# Steps that are tried, as shares of the one by which nothing is clipped.
_STEPS = np.linspace(1.0, 0.4, 25)


def best_steps(layer: Layer, weights: Floats, noise: list[tuple[slice, Floats]]) -> Floats:
    """The step of each output channel by which rounding to the nearest costs least.

    Args:
        layer: Says how large integers may be, and whether channels have steps of their own.
        weights: What is rounded, as ``Layer.columns`` gives it: (groups, inputs, outputs of a group).
        noise: Which inputs, and how their errors count together: ``(slice(0, 72), (groups, 72, 72))``.

    Returns:
        (groups, outputs of a group).
    """
    largest = np.abs(weights).max(axis=1)
    if not layer.is_per_channel:
        largest = np.full_like(largest, largest.max())
    whole = np.maximum(largest / layer.limit, 1e-12)
    costs = np.stack([_cost(weights, share * whole, layer.limit, noise) for share in _STEPS])
    if not layer.is_per_channel:
        costs = np.broadcast_to(costs.sum(axis=(1, 2), keepdims=True), costs.shape)
    return np.asarray(whole * _STEPS[costs.argmin(axis=0)])


def _cost(weights: Floats, steps: Floats, limit: int, noise: list[tuple[slice, Floats]]) -> Floats:
    """The squared error of each output channel, rounded to the nearest: (groups, outputs of a group)."""
    error = weights - np.clip(np.rint(weights / steps[:, None]), -limit, limit) * steps[:, None]
    parts = [(error[:, part] * (metric @ error[:, part])).sum(axis=1) for part, metric in noise]
    return np.asarray(sum(parts))
