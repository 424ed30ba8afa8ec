"""Make each layer of a quantized file give what its float twin gives, from what it really reads.

A layer deep inside a quantized file reads inputs with the errors of all layers before it. Its weights are fitted anew
so that on these inputs its outputs are nearest to the float layer's: the least squares ``(C + r I)^-1 (K + r I) w`` for
the covariance ``C`` of what it reads, the covariance ``K`` of it with what the float layer reads, and a little ridge
``r`` that keeps weights where they were when the samples say nothing. Then each output channel gets the step that
costs least after rounding, clipping its largest weights where that pays (4 bits have few steps to spend), and its
integers are searched as in ``search_rounding``. The task is that of Hubara et al., "Improving Post Training Neural
Quantization: Layer-wise Calibration and Integer Programming" (arXiv:2006.10518, section 3.1), and of Frantar and
Alistarh, "Optimal Brain Compression" (arXiv:2208.11580).
"""

from collections.abc import Mapping

import numpy as np

from edgekit.passes._layer_search import Progress, Searched, layer_by_layer
from edgekit.passes._layers import Change, Floats, Layer, Twins
from edgekit.passes._moments import Moments, moments
from edgekit.passes._steps import best_steps
from edgekit.passes.search_rounding import descend
from edgekit.tensor import Array

# Of the mean variance of the inputs.
_RIDGE = 0.1


def reconstruct(
    twins: Twins,
    *,
    calibration: Mapping[str, Array],
    held_back: Mapping[str, Array],
    seed: int = 0,
    seconds: float = float("inf"),
    progress: Progress | None = None,
) -> Searched:
    """Fit the weights, steps and biases of convolutions and fully connected layers, one layer after the other.

    Args:
        twins: The float file, and the one with integer weights and activations that was made from it.
        calibration: Samples that the fit is made on, by input name: ``{"x": (256, 32, 32, 3)}``.
        held_back: Other samples; a layer keeps what it got only where that brings these outputs nearer.
        seed: Chooses positions of large images.
        seconds: No layer is begun after so long.
        progress: Called with the number of layers done and of all.

    Returns:
        The file with what was kept.
    """

    def change_of(current: Twins, layer: Layer) -> Change:
        seen = moments([layer], twins.float_probe, calibration, read=current.probe, seed=seed)
        return _fitted(layer, seen[layer.position])

    return layer_by_layer(twins, change_of, held_back=held_back, seconds=seconds, progress=progress)


def _fitted(layer: Layer, seen: Moments) -> Change:
    exact = layer.columns(layer.weights)
    fitted, noise = np.empty_like(exact), list[tuple[slice, Floats]]()
    for part, covariance, crossed in seen.blocks():
        size = covariance.shape[-1]
        ridge = _RIDGE * np.trace(covariance, axis1=1, axis2=2)[:, None, None] / size + 1e-12
        metric = covariance + ridge * np.eye(size)
        fitted[:, part] = np.linalg.solve(metric, (crossed + ridge * np.eye(size)) @ exact[:, part])
        noise.append((part, metric))
    steps = best_steps(layer, fitted, noise)
    targets = fitted / steps[:, None]
    integers = np.clip(np.rint(targets), -layer.limit, layer.limit)
    for part, metric in noise:
        integers[:, part] = descend(integers[:, part], targets[:, part], metric, layer.limit)
    given = ((integers * steps[:, None]) * seen.mean_read[:, :, None]).sum(axis=1).ravel()
    wanted = (exact * seen.mean_wanted[:, :, None]).sum(axis=1).ravel()
    # Groups follow one another in the order of the output channels.
    return Change(layer.shaped(integers).astype(np.int8), layer.bias + wanted - given, steps.ravel())
