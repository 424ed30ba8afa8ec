"""Which layers a recipe harms most: by the noise that each layer's quantization alone causes at the outputs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.errors import EdgekitError
from edgekit.formats import open_artifact
from edgekit.operators import operators
from edgekit.workflows.searching.material import Material
from edgekit.workflows.sensitivity import sensitivity

_SAMPLES = 32


@dataclass(frozen=True)
class Harmed:
    """A layer with weights, by its name in the float file: its share of the noise at the outputs."""

    name: str
    noise: float
    weights: int


def harmed_layers(material: Material, recipe: str) -> tuple[Harmed, ...]:
    """The layers of the float model, those first that cause most noise; empty where none can be told."""
    try:
        found = sensitivity(
            material.model,
            calibration=material.calibration or material.search,
            recipe=recipe,
            preprocess="none",
            samples=_SAMPLES,
            seed=material.seed,
        )
    except EdgekitError:
        return ()
    counts: dict[str, int] = {}
    for operator in operators(material.model, open_artifact(material.model).format):
        count = sum(math.prod(size or 1 for size in weight.shape) for weight in operator.weights)
        counts |= dict.fromkeys(operator.names, count)
    return tuple(
        Harmed(layer.name, layer.share_of_noise, count)
        for layer in found.layers
        if (count := max((counts.get(name, 0) for name in layer.names), default=0))
    )


def by_noise(layers: Sequence[Harmed]) -> tuple[str, ...]:
    """Names, those first that lose most."""
    return tuple(layer.name for layer in layers)


def by_noise_per_weight(layers: Sequence[Harmed]) -> tuple[str, ...]:
    """Names, those first that lose most for what a more exact copy of their weights would take."""
    return by_noise(sorted(layers, key=lambda layer: (-layer.noise / layer.weights, layer.name)))
