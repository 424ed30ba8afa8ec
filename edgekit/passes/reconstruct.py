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
from dataclasses import replace

import numpy as np

from edgekit.passes._layer_search import ChangeOf, LayerSearch
from edgekit.passes._layers import Change, Floats, Layer, Twins
from edgekit.passes._moments import Moments, moments
from edgekit.passes.search_rounding import rounded
from edgekit.tensor import Array

# Of the mean variance of the inputs.
_RIDGE = 0.1


@LayerSearch
def reconstruct(twins: Twins, calibration: Mapping[str, Array], seed: int) -> ChangeOf:
    """Fit the weights, steps and biases of one layer after the other to what the layer really reads by then."""

    def change_of(current: Twins, layer: Layer) -> Change:
        seen = moments([layer], twins.float_probe, calibration, read=current.probe, seed=seed)
        return _fitted(layer, seen[layer.position])

    return change_of


def _fitted(layer: Layer, seen: Moments) -> Change:
    exact = layer.columns(layer.weights)
    fitted, noise = np.empty_like(exact), list[tuple[slice, Floats]]()
    for part, covariance, crossed in seen.blocks():
        size = covariance.shape[-1]
        ridge = _RIDGE * np.trace(covariance, axis1=1, axis2=2)[:, None, None] / size + 1e-12
        metric = covariance + ridge * np.eye(size)
        fitted[:, part] = np.linalg.solve(metric, (crossed + ridge * np.eye(size)) @ exact[:, part])
        noise.append((part, metric))
    found, values = rounded(layer, fitted, noise)
    given = (values * seen.mean_read[:, :, None]).sum(axis=1).ravel()
    wanted = (exact * seen.mean_wanted[:, :, None]).sum(axis=1).ravel()
    return replace(found, bias=layer.bias + wanted - given)
