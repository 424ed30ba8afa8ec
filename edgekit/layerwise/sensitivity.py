"""The nouns of sensitivity: a layer and the noise that its quantization causes, and a model's layers, ranked."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import files
from edgekit.artifact import Artifact
from edgekit.errors import UsageError
from edgekit.findings import Finding
from edgekit.layerwise.mixing import mixed_noise, rule_for, spared
from edgekit.layerwise.recipe_file import write_recipe
from edgekit.pages.sensitivity import page
from edgekit.recipe import PRECISIONS, Mode, Precision, Recipe, Rule

Shares = tuple[float, ...]


@dataclass(frozen=True)
class MetricDrop:
    """What quantizing one layer alone costs in a metric, in pairs on n samples; a fraction for accuracies."""

    metric: str
    unit: str
    drop: float
    ci95: tuple[float, float]
    n: int

    def describe(self) -> dict[str, Any]:
        """The drop as it stands in JSON documents."""
        return {
            "metric": self.metric,
            "unit": self.unit,
            "drop": self.drop,
            "ci95": list(self.ci95),
            "n": self.n,
        }


@dataclass(frozen=True)
class LayerSensitivity:
    """One operator of the float model, or one of its inputs, and the noise that its quantization causes.

    ``weights_noise`` is the power of the error at each of the model's outputs, as a share of the output's power,
    where this layer's weights alone are quantized, and ``activations_noise`` where the tensor that it writes is.
    ``place`` numbers the layers in the order in which they run, ``names`` are those by which rules of a recipe find
    it, the last that of its result, and ``reads`` are the places of those whose results it
    reads. ``weights_imbalance`` is the largest weight of the widest output channel over that of the narrowest,
    ``inputs_imbalance`` the same of its input channels, and ``activations_imbalance`` that of the values of its
    result's channels: one scale has to fit them all. ``calibrated_range`` is what its result can hold in integers, and
    ``seen_range`` what it holds on the samples.
    """

    place: int
    names: tuple[str, ...]
    operator: str
    precision: str
    weight_bits: int | None
    activation_bits: int | None
    weights_noise: Shares
    activations_noise: Shares
    share_of_noise: float = 0.0
    reads: tuple[int, ...] = ()
    keeps_grid: bool = False
    is_output: bool = False
    weights_imbalance: float | None = None
    inputs_imbalance: float | None = None
    activations_imbalance: float | None = None
    calibrated_range: tuple[float, float] | None = None
    seen_range: tuple[float, float] | None = None
    metric_drop: MetricDrop | None = None

    @property
    def name(self) -> str:
        """That of the tensor that it writes."""
        return self.names[-1]

    @property
    def is_input(self) -> bool:
        """Whether it is an input of the model, which no recipe can leave in float while its readers are quantized."""
        return self.operator == "INPUT"

    @property
    def snr_db(self) -> float:
        """The SNR of the worst output in dB where this layer alone is quantized: its weights and its result."""
        return decibels(np.add(self.weights_noise, self.activations_noise))

    @property
    def weights_snr_db(self) -> float:
        """The same for its weights alone."""
        return decibels(self.weights_noise)

    @property
    def activations_snr_db(self) -> float:
        """The same for its result alone."""
        return decibels(self.activations_noise)

    def describe(self) -> dict[str, Any]:
        """The layer as it stands in JSON documents; infinite SNRs become null."""
        return {
            "place": self.place,
            "name": self.name,
            "op": self.operator,
            "precision": self.precision,
            "weight_bits": self.weight_bits,
            "activation_bits": self.activation_bits,
            "snr_db": self.snr_db,
            "weights_snr_db": self.weights_snr_db,
            "activations_snr_db": self.activations_snr_db,
            "share_of_noise": self.share_of_noise,
            "weights_imbalance": self.weights_imbalance,
            "inputs_imbalance": self.inputs_imbalance,
            "activations_imbalance": self.activations_imbalance,
            "calibrated_range": None if self.calibrated_range is None else list(self.calibrated_range),
            "seen_range": None if self.seen_range is None else list(self.seen_range),
            "metric_drop": None if self.metric_drop is None else self.metric_drop.describe(),
        }


@dataclass(frozen=True)
class Spared:
    """The layers that get another precision, and what comes of it.

    ``snr_db`` is measured: the float file was run with everything rounded but these layers. ``recipe`` is the one that
    was asked for with a rule for each of them, and ``reach_db`` the SNR that was asked for, None where a number was.
    """

    layers: tuple[LayerSensitivity, ...]
    precision: Precision
    snr_db: float
    recipe: Recipe
    reach_db: float | None = None

    def describe(self) -> dict[str, Any]:
        """As it stands in JSON documents."""
        return {
            "precision": self.precision.name,
            "layers": [layer.name for layer in self.layers],
            "predicted_snr_db": self.snr_db,
            "reach_db": self.reach_db,
            "recipe": self.recipe.describe(),
        }


@dataclass(frozen=True)
class Sensitivity:
    """The layers of a model, the one whose quantization costs most first.

    ``measured_db`` is the SNR of the worst output where everything is rounded at once, ``predicted_db`` that of the
    layers' noise added up. ``spared`` is there where layers were to be spared.
    """

    source: Artifact
    recipe: Recipe
    output_format: str
    samples: int
    layers: tuple[LayerSensitivity, ...]
    measured_db: float
    spared: Spared | None = None
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0

    @property
    def predicted_db(self) -> float:
        """The SNR of the worst output where all layers are quantized, their noise added up."""
        return self.predict({})

    def predict(self, kept: Mapping[int, Precision]) -> float:
        """The SNR of the worst output in dB where some layers, by their place, have another precision.

        The noise of two layers is taken to be independent, so that powers add. A tensor stays real only where its
        operator and all that read it do, as the engines have it.
        """
        return decibels(mixed_noise(self.layers, kept))

    def worst(self, *, reach_db: float | None = None, count: int | None = None,
              precision: str = "float32") -> tuple[LayerSensitivity, ...]:  # fmt: skip
        """The layers to spare, the one that helps most first.

        Args:
            reach_db: As many as it takes until the predicted SNR is that high.
            count: At most so many.
            precision: What they get instead.

        Returns:
            All that can be spared where the SNR cannot be reached.
        """
        return tuple(spared(self.layers, PRECISIONS[precision], reach_db=reach_db, count=count))

    def sparing(self, layers: Collection[LayerSensitivity], precision: str = "float32") -> Recipe:
        """The recipe with another precision for these layers.

        Raises:
            UsageError: A layer has no name, so that no rule can speak of it.
        """
        return with_rules(self.recipe, layers, PRECISIONS[precision], self.layers)

    def sentence(self) -> str:
        """What it comes to, for people."""
        text = (
            f"{self.recipe.name} of all layers leaves {self.measured_db:.1f} dB on {self.samples} samples; the noise "
            f"of {len(self.layers)} layers adds up to {self.predicted_db:.1f} dB."
        )
        if self.spared is not None:
            count = len(self.spared.layers)
            text += (
                f" With {count} layer{'' if count == 1 else 's'} spared as {self.spared.precision.name} "
                f"{self.spared.snr_db:.1f} dB are left."
            )
        return text

    def write_page(self, path: Path) -> None:
        """Write one page that needs no network and no other file.

        Raises:
            OutputError: It cannot be written.
        """
        findings = [finding.describe() for finding in self.findings]
        files.write_bytes(path, page(self.describe(), findings, self.sentence()).encode())

    def write_recipe(self, path: Path) -> None:
        """Write the recipe that spares layers, as ``quantize`` reads it.

        Raises:
            UsageError: No layers were to be spared.
            OutputError: It cannot be written.
        """
        if self.spared is None:
            raise UsageError(
                "EK566", "No layers were to be spared.", "Ask for them with reach_db or spare_layers."
            )
        comment = (
            f"{self.recipe.name} with {len(self.spared.layers)} layers of {self.source.path.name} spared as "
            f"{self.spared.precision.name}: SNR {self.spared.snr_db:.1f} dB on {self.samples} samples."
        )
        write_recipe(self.spared.recipe, path, comments=(comment.replace("\n", " "),))

    def describe(self) -> dict[str, Any]:
        """The result as it stands in JSON documents; infinite SNRs become null."""
        return {
            "source": self.source.describe(),
            "recipe": self.recipe.name,
            "format": self.output_format,
            "samples": self.samples,
            "measured_snr_db": self.measured_db,
            "predicted_snr_db": self.predicted_db,
            "layers": [layer.describe() for layer in self.layers],
            "spared": None if self.spared is None else self.spared.describe(),
            "seconds": self.seconds,
        }


def decibels(noise: Shares | NDArray[np.float64]) -> float:
    """The SNR of the worst output in dB, from the noise of each as a share of its power; infinite without noise."""
    worst = float(np.max(np.asarray(noise, np.float64), initial=0.0))
    if worst <= 0:
        return math.inf
    return -math.inf if math.isinf(worst) else -10 * math.log10(worst)


def with_rules(
    recipe: Recipe,
    spared: Collection[LayerSensitivity],
    precision: Precision,
    layers: Collection[LayerSensitivity],
) -> Recipe:
    """A recipe with one more rule for each spared layer, and for the model's border where that can be spared too.

    Args:
        recipe: The recipe.
        spared: The layers that get another precision.
        precision: What they get.
        layers: All layers of the model.

    Raises:
        UsageError: A layer has no name, so that no rule can speak of it.
    """
    names = [name for layer in layers for name in layer.names]
    rules = [rule_for(layer.names, precision, names) for layer in spared]
    if precision.mode is Mode.STATIC:
        # ai-edge-quantizer rounds inputs and outputs by rules of their own, real ones it leaves as they are.
        places = {layer.place for layer in spared}
        readers = {layer.place for layer in layers for read in layer.reads if _is_input(layers, read)}
        if readers and readers <= places:
            rules.append(Rule(precision, operators=("INPUT",)))
        if {layer.place for layer in layers if layer.is_output} <= places:
            rules.append(Rule(precision, operators=("OUTPUT",)))
    return replace(recipe, rules=(*recipe.rules, *rules))


def _is_input(layers: Collection[LayerSensitivity], place: int) -> bool:
    return any(layer.place == place and layer.is_input for layer in layers)


def ranked(layers: Collection[LayerSensitivity]) -> Iterator[LayerSensitivity]:
    """The layers with their share of the noise at the output that suffers most, the largest share first."""
    total = mixed_noise(layers, {})
    output = int(np.argmax(total)) if len(total) else 0
    whole = float(total[output]) if len(total) else 0.0
    own = {
        layer.place: float(mixed_noise(layers, {}, only=layer.place)[output]) / whole if whole > 0 else 0.0
        for layer in layers
    }
    for layer in sorted(layers, key=lambda one: (-own[one.place], one.place)):
        yield replace(layer, share_of_noise=own[layer.place])
