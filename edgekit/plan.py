"""What a quantization will do, worked out before anything is done: this is what ``--dry-run`` prints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgekit.artifact import Format
from edgekit.catalog import names
from edgekit.engines import engine
from edgekit.errors import UsageError
from edgekit.recipe import Mode, Recipe
from edgekit.routes import way_to

# What a float file needs before an engine reads it, and a quantized file before a user gets it.
_BEFORE = {
    Format.TFLITE: ("fix_batch", "add_signature", "bound_pads", "fold_batch_norm", "subtract"),
    Format.ONNX: ("fold_batch_norm_onnx", "prepare_onnx"),
}
_AFTER = {
    Format.TFLITE: ("drop_conversions", "set_io", "pointwise", "compact"),
    Format.ONNX: ("compact_onnx",),
}


# Whether the channels of the float model are balanced before it is quantized: at effort "none" only if "always".
Equalize = Literal["auto", "always", "never"]
# What is done for the accuracy of static recipes, after the engine: more of it takes longer.
Effort = Literal["none", "low", "medium", "high"]
_CORRECTIONS: Mapping[Effort, tuple[str, ...]] = {
    "none": (),
    "low": ("ranges_and_biases",),
    "medium": ("ranges_and_biases", "search_rounding"),
    "high": ("ranges_and_biases", "search_rounding", "reconstruct"),
}


@dataclass(frozen=True)
class Candidate:
    """One way from the source to the output: ``("export_tflite", "fix_batch", ..., "compact")``."""

    engine: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The candidates that will be tried, and why the other engines are not among them."""

    source_format: Format
    output_format: Format
    recipe: Recipe
    candidates: tuple[Candidate, ...]
    refused: Mapping[str, str]

    def describe(self) -> dict[str, Any]:
        """The plan as it stands in JSON documents."""
        return {
            "source_format": self.source_format.value,
            "output_format": self.output_format.value,
            "recipe": self.recipe.describe(),
            "candidates": [{"engine": c.engine, "steps": list(c.steps)} for c in self.candidates],
            "refused": dict(self.refused),
        }


def plan_quantization(
    source: Format,
    output: Format,
    recipe: Recipe,
    *,
    engine_name: str = "auto",
    effort: Effort = "low",
    equalize: Equalize = "auto",
) -> Plan:
    """Which engines can make ``output`` out of ``source`` by ``recipe``, and by which steps.

    Raises:
        UsageError: None can, or the one that was asked for cannot.
    """
    if recipe.default.name == "float32" and not recipe.rules:
        raise UsageError("EK905", "The recipe float32 changes nothing.", "Choose one that quantizes: int8.")
    wanted = names("engines") if engine_name == "auto" else [engine_name.replace("-", "_")]
    candidates, refused = [], {}
    for name in wanted:
        steps, reason = _steps(name, source, output, recipe, (effort, equalize))
        if reason:
            refused[name] = reason
        else:
            candidates.append(Candidate(name, steps))
    if not candidates:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise UsageError(
            "EK905", f"No engine makes {output} out of {source} by {recipe.name}.", f"{reasons}."
        )
    return Plan(source, output, recipe, tuple(candidates), refused)


def _steps(
    name: str, source: Format, output: Format, recipe: Recipe, care: tuple[Effort, Equalize]
) -> tuple[tuple[str, ...], str]:
    """The steps with this engine, or the reason why there are none."""
    chosen = engine(name)
    if chosen.OUTPUT_FORMAT is not output:
        return (), f"it writes {chosen.OUTPUT_FORMAT}, not {output}"
    way = way_to(source, chosen.SOURCE_FORMATS)
    if way is None:
        return (), f"it reads {' and '.join(sorted(chosen.SOURCE_FORMATS))}, not {source}"
    reason = chosen.refuses(recipe)
    # Corrections compare the float file with the quantized one, layer by layer, so both are of one format.
    reads = next((format_ for format_ in _BEFORE if format_ in chosen.SOURCE_FORMATS), None)
    before = _BEFORE[reads] if reads else ()
    effort, equalize = care
    is_static = recipe.default.mode is Mode.STATIC
    corrections = _CORRECTIONS[effort] if reads and is_static else ()
    if reads and is_static and (equalize == "always" or (equalize == "auto" and effort != "none")):
        before = (*before, "equalize")
    if any(p.mode is Mode.STATIC and p.activation_bits > 8 for p in recipe.precisions):
        # With so many steps there is nothing to gain from clipping.
        corrections = tuple(step.replace("ranges_and_biases", "correct_bias") for step in corrections)
    return (*way, *before, "quantize", *corrections, *_AFTER[output]), reason
