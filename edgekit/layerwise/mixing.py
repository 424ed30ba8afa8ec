"""The noise of a model in which layers have different precisions, and which layers to spare.

1. Noise of different places is independent: powers add. That is an approximation; the shift of means that rounding
   weights causes does add up, until biases are corrected.
2. A tensor stays real only where the operator that writes it and all that read it do; between them and others
   an engine converts. An input of the model has no operator of its own: those that read it decide.
3. Operators that move values (RESHAPE, MAX_POOL_2D) lose nothing where what they read lies on their grid already.
4. More bits make the steps smaller: the noise of rounding falls with the square of the number of steps.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import UsageError
from edgekit.recipe import Mode, Precision, Rule

if TYPE_CHECKING:
    from edgekit.layerwise.sensitivity import LayerSensitivity

Noise = NDArray[np.float64]


def mixed_noise(
    layers: "Collection[LayerSensitivity]", kept: Mapping[int, Precision], *, only: int | None = None
) -> Noise:
    """The noise at each output, as a share of its power.

    Args:
        layers: All layers of the model.
        kept: Another precision for some of them, by their place.
        only: Count the noise of this layer's own weights and result alone.
    """
    factors = tensor_factors(layers, kept)
    parts = [np.zeros(len(next(iter(layers)).weights_noise))] if layers else [np.zeros(0)]
    for layer in layers:
        if only is not None and layer.place != only:
            continue
        factor = factors[layer.place]
        if layer.keeps_grid and all(factors.get(place, 0.0) >= factor for place in layer.reads):
            factor = 0.0
        parts.append(factor * np.asarray(layer.activations_noise))
        parts.append(weights_factor(layer, kept.get(layer.place)) * np.asarray(layer.weights_noise))
    total: Noise = np.sum(parts, axis=0)
    return total


def tensor_factors(layers: "Collection[LayerSensitivity]", kept: Mapping[int, Precision]) -> dict[int, float]:
    """How much of the noise of rounding each tensor is left, by the place of what writes it: 1 for all, 0 for none."""
    readers: dict[int, list[int]] = {}
    for layer in layers:
        for place in layer.reads:
            readers.setdefault(place, []).append(layer.place)
    return {layer.place: _tensor_factor(layer, readers.get(layer.place, []), kept) for layer in layers}


def weights_factor(layer: "LayerSensitivity", precision: Precision | None) -> float:
    """How much of the noise of rounding a layer's weights is left where it has another precision."""
    if precision is None or layer.weight_bits is None:
        return 1.0
    if precision.mode is Mode.FLOAT32:
        return 0.0
    return _fewer(layer.weight_bits, 16 if precision.mode is Mode.FLOAT16 else precision.weight_bits)


def spared(
    layers: "Sequence[LayerSensitivity]",
    precision: Precision,
    *,
    reach_db: float | None = None,
    count: int | None = None,
) -> "Iterator[LayerSensitivity]":
    """The layers to spare, one after the other the one that helps most.

    What a tensor would save is shared out over those that have to be spared for it.

    Args:
        layers: All layers of the model.
        precision: What the spared get instead.
        reach_db: Stop when the predicted SNR of the worst output is that high.
        count: Stop after so many.
    """
    left = {layer.place: layer for layer in layers if not layer.is_input}
    kept: dict[int, Precision] = {}
    limit = None if reach_db is None else 10 ** (-reach_db / 10)
    while left and (count is None or len(kept) < count):
        noise = mixed_noise(layers, kept)
        if limit is not None and float(np.max(noise, initial=0.0)) <= limit:
            return
        output = int(np.argmax(noise))
        gains = {place: _gain(layers, kept, place, precision, output) for place in left}
        best = max(gains, key=lambda place: (gains[place], -place))
        if gains[best] <= 0:
            return
        kept[best] = precision
        yield left.pop(best)


def rule_for(names: Sequence[str], precision: Precision, others: Collection[str] = ()) -> Rule:
    """A rule that speaks of the layer that writes these tensors, and of none that writes one of the others.

    Converters put names together, ``conv/Relu;conv/BiasAdd;conv/Conv2D``: the first is enough where no other layer
    begins with it.

    Raises:
        UsageError: The layer has no name.
    """
    if not all(names):
        raise UsageError(
            "EK561",
            "The layers of this model have no names, so that no recipe can speak of single ones.",
            "Give the model that this file was made from, or one that keeps its names: --keep-names.",
        )
    # ai-edge-quantizer puts a semicolon behind the names of an operator's results.
    heads = {name: name.split(";", maxsplit=1)[0] for name in names}
    taken = {other.split(";", maxsplit=1)[0] for other in others if other not in names}
    either = "|".join(re.escape(name if head in taken else head) for name, head in heads.items())
    return Rule(precision, f"^({either})(;|$)" if len(names) > 1 else f"^{either}(;|$)")


def _gain(
    layers: "Sequence[LayerSensitivity]",
    kept: Mapping[int, Precision],
    place: int,
    precision: Precision,
    output: int,
) -> float:
    """The noise that sparing a layer saves, with its part of what sparing its neighbours too would save."""
    by_place = {layer.place: layer for layer in layers}
    layer = by_place[place]
    saved = (1 - weights_factor(layer, precision)) * layer.weights_noise[output]
    for tensor in (place, *layer.reads):
        if tensor not in by_place:
            continue
        users = [one.place for one in layers if tensor in one.reads]
        if not by_place[tensor].is_input:
            users.append(tensor)
        waiting = {user for user in users if user not in kept}
        finer = 1 - _activation_factor(by_place[tensor], precision)
        saved += finer * by_place[tensor].activations_noise[output] / max(1, len(waiting))
    return float(saved)


def _tensor_factor(layer: "LayerSensitivity", readers: Sequence[int], kept: Mapping[int, Precision]) -> float:
    users = [*readers] if layer.is_input else [layer.place, *readers]
    return max((_activation_factor(layer, kept.get(user)) for user in users), default=1.0)


def _activation_factor(layer: "LayerSensitivity", precision: Precision | None) -> float:
    if precision is None or layer.activation_bits is None:
        return 1.0
    return (
        0.0 if precision.mode is not Mode.STATIC else _fewer(layer.activation_bits, precision.activation_bits)
    )


def _fewer(before: int, after: int) -> float:
    """How much of the noise is left where the number of bits changes."""
    return float(((2**before - 1) / (2**after - 1)) ** 2)
