"""What a target asks of a quantized file, and whether a file is what it asks for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from edgekit.artifact import Artifact, Format
from edgekit.errors import TargetError
from edgekit.findings import Finding, Level
from edgekit.operators import Operator
from edgekit.passes.set_io import IOType
from edgekit.recipe import Mode, Precision, Recipe
from edgekit.target import Target

_NAMED = 3
# Where a whole model has to fit, smallest first.
_MEMORIES = ("flash_bytes", "ram_bytes", "model_bytes")


@dataclass(frozen=True)
class Choice:
    """How a model is quantized, and where a target decided that.

    ``needs_names``: the target's runtime refuses files whose inner tensors have lost their names.
    """

    recipe: Recipe
    io: IOType
    findings: tuple[Finding, ...] = ()
    needs_names: bool = False


def choose(target: Target | None, recipe: str | Recipe | None, io: IOType | None, output: Format) -> Choice:
    """The recipe and the type of inputs and outputs: those asked for, else the target's, else int8 and float32.

    Raises:
        TargetError: The target does not take files of this format.
        UsageError: There is no such recipe.
    """
    asked = Recipe.load(recipe) if isinstance(recipe, str) else recipe
    if target is None:
        return Choice(asked or Recipe.load("int8"), io or "float32")
    if output not in target.formats.values:
        raise TargetError(
            "EK381",
            f"{target.name} takes {' and '.join(target.formats.values)} files, not {output}.",
            f"Let the output end with .{target.formats.values[0]}.",
        )
    chosen = asked or target.default_recipe
    if "per_channel" not in target.granularity.values:
        chosen = replace(chosen, is_per_tensor=True)
    integer = output is Format.TFLITE and chosen.default.mode is Mode.STATIC
    ends: IOType = io or (target.io.values[0] if integer else "float32")
    said = tuple(_said(target, chosen, ends, own_recipe=asked is None, own_io=io is None))
    return Choice(chosen, ends, said, needs_names=target.accelerator == "openvino")


def _said(target: Target, recipe: Recipe, io: IOType, *, own_recipe: bool, own_io: bool) -> Iterator[Finding]:
    if own_recipe:
        text = f"{target.name} chose the recipe {recipe.name}. {target.recipe.note}"
        yield Finding("EK380", text, f"See {target.recipe.source}; -r chooses another.", Level.NOTE)
    if own_io and io != "float32":
        text = f"{target.name} chose {io} for inputs and outputs. {target.io.note}".strip()
        yield Finding("EK380", text, "--io chooses another.", Level.NOTE)
    if "per_channel" not in target.granularity.values:
        text = f"{target.name} wants one scale for all weights of a layer. {target.granularity.note}".strip()
        yield Finding("EK380", text, f"See {target.granularity.source}.", Level.NOTE)
    needed = _type(recipe.default)
    if needed not in target.dtypes.values:
        computes = ", ".join(target.dtypes.values)
        text = f"The recipe {recipe.name} needs {needed}, and {target.name} computes {computes}."
        yield Finding("EK382", text, f"Its own recipe is {target.default_recipe.name}.")


def judge(target: Target, artifact: Artifact, found: tuple[Operator, ...]) -> Iterator[Finding]:
    """What of a produced file the target has no place for."""
    floats = [operator for operator in found if operator.is_float and not operator.is_conversion]
    if floats and "float32" not in target.dtypes.values:
        named = ", ".join(dict.fromkeys(operator.kind for operator in floats[:_NAMED]))
        text = f"{len(floats)} operators compute in float ({named}), and {target.name} computes none."
        yield Finding("EK383", text, "They run on the CPU beside it, or the file is refused.")
    yield from larger_than_memory(target, artifact)


def larger_than_memory(target: Target, artifact: Artifact) -> Iterator[Finding]:
    """Whether a file alone is larger than what the target has to hold it."""
    for name in _MEMORIES:
        if name in target.limits and artifact.size_bytes > target.limits[name].values[0]:
            limit = target.limits[name].values[0]
            what = name.removesuffix("_bytes")
            text = f"The file has {artifact.size_bytes:,} bytes; the {what} of {target.name} has {limit:,}."
            yield Finding("EK384", text, "Make it smaller: `edgekit prune --structured --target-size`.")
            return


def _type(precision: Precision) -> str:
    """What a target must compute for a precision, in the words of the profiles."""
    if precision.mode is Mode.STATIC:
        if precision.weight_bits == 4:
            return "int4"
        return "int8" if precision.activation_bits == 8 else "int16x8"
    return "float16" if precision.mode is Mode.FLOAT16 else "float32"
