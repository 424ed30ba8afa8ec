"""Reads a produced file back: does it run, how far is it from the float model, what stayed float."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.artifact import Artifact, Format
from edgekit.errors import ModelError
from edgekit.findings import Finding
from edgekit.operators import Operator, operators
from edgekit.recipe import Mode, Recipe
from edgekit.reference import Reference
from edgekit.tensor import Difference, difference

# Below this the largest error of the outputs is a third of their size.
_LOW_SNR_DB = 10.0
_NAMED = 5
_BORDER = frozenset({"INPUT", "OUTPUT"})


@dataclass(frozen=True)
class ReadBack:
    """What reading a file back told.

    ``differences`` are by output name. ``operators`` are in the order in which they run, and
    ``stayed_float`` are those that the recipe meant to quantize.
    """

    differences: Mapping[str, Difference]
    operators: tuple[Operator, ...]
    stayed_float: tuple[Operator, ...]
    samples: int
    findings: tuple[Finding, ...]

    @property
    def snr_db(self) -> float:
        """The SNR of the worst output in dB."""
        return min((d.snr_db for d in self.differences.values()), default=math.inf)

    def describe(self) -> dict[str, Any]:
        """The comparison as it stands in JSON documents."""
        outputs = [
            {"name": name, "snr_db": d.snr_db, "max_abs_difference": d.max_abs}
            for name, d in self.differences.items()
        ]
        return {"samples": self.samples, "snr_db": self.snr_db, "outputs": outputs}

    def describe_operators(self) -> dict[str, Any]:
        """The operators as they stand in JSON documents; conversions between number formats do not count."""
        counted = [operator for operator in self.operators if not operator.is_conversion]
        floats = [operator for operator in counted if operator.is_float]
        return {
            "total": len(counted),
            "quantized": len(counted) - len(floats),
            "float": len(floats),
            "float_ops": [{"op": operator.kind, "name": operator.names[-1]} for operator in floats],
        }


def read_back(
    artifact: Artifact, reference: Reference, recipe: Recipe, *, named: Path | None = None
) -> ReadBack:
    """Load a file in its runtime, run it, and compare it with the float model.

    Args:
        artifact: The produced file.
        reference: The float model's inputs and outputs.
        recipe: What the file should be.
        named: The same model with the names of its inner tensors, where ``artifact`` has lost them.

    Raises:
        ModelError: The file does not load or run, or its outputs have nothing to do with the float model's.
    """
    measured = reference.outputs_of(artifact)
    differences = {name: difference(exact, measured[name]) for name, exact in reference.outputs.items()}
    found = operators(named or artifact.path, artifact.format)
    stayed = tuple(operator for operator in found if _stayed_float(operator, recipe))
    partial = ReadBack(differences, found, stayed, reference.count, ())
    _refuse_garbage(artifact, partial, recipe)
    noticed = (*_findings(artifact, reference, partial), *_idle_rules(recipe, found))
    return ReadBack(differences, found, stayed, reference.count, noticed)


def _stayed_float(operator: Operator, recipe: Recipe) -> bool:
    """Whether the recipe meant to quantize an operator that is still float."""
    mode = recipe.precision_of(operator.kind, operator.names).mode
    if operator.is_conversion or mode is Mode.FLOAT32:
        return False
    return operator.is_float if mode is Mode.STATIC else operator.has_float_weights


def _refuse_garbage(artifact: Artifact, read: ReadBack, recipe: Recipe) -> None:
    if read.snr_db > 0:
        return
    # Signals of a wide range, as spectra are, drown in the steps of one scale for a whole tensor.
    wider = (
        "-r dynamic keeps the activations float"
        if recipe.needs_calibration
        else "use a recipe with more bits"
    )
    raise ModelError(
        "EK331",
        f"The quantized outputs have nothing to do with the float model's (SNR {read.snr_db:.1f} dB).",
        f"Check the calibration data against what the model expects; {wider}; `edgekit sensitivity` ranks the layers.",
        detail=f"{artifact.path.name}: {dict(read.differences)}",
    )


def _findings(artifact: Artifact, reference: Reference, read: ReadBack) -> Iterator[Finding]:
    if read.stayed_float:
        yield Finding(
            "EK301",
            f"{len(read.stayed_float)} operators stayed float: {_list(read.stayed_float)}.",
            "Accelerators of integers cannot run them; `edgekit inspect --ops` shows where they are.",
        )
    if artifact.size_bytes >= reference.source.size_bytes and artifact.format is reference.source.format:
        yield Finding(
            "EK302",
            f"The file is no smaller: {artifact.size_bytes:,} bytes, {reference.source.size_bytes:,} before.",
            "The recipe has nothing to quantize here; for convolutions use int8 or float16.",
        )
    if read.snr_db < _LOW_SNR_DB:
        yield Finding(
            "EK304",
            f"Outputs are far from the float model's: SNR {read.snr_db:.1f} dB over {read.samples} samples.",
            "Measure the accuracy with --evaluate DATA before using this file.",
        )
    yield from slow_kernels(artifact, read.operators)


def _idle_rules(recipe: Recipe, found: tuple[Operator, ...]) -> Iterator[Finding]:
    """A rule that speaks of no layer is most likely a typing error."""
    for rule in recipe.rules:
        # ai-edge-quantizer takes the model's border for operators; the file has none of these kinds.
        if not _BORDER.isdisjoint(rule.operators):
            continue
        if not any(rule.matches(operator.kind, operator.names) for operator in found):
            what = " ".join(
                filter(None, (", ".join(rule.operators), repr(rule.layers) if rule.layers else ""))
            )
            yield Finding(
                "EK322",
                f"The rule for {what} ({rule.precision.name}) matches no layer of this model.",
                "Layers are matched by the names that `edgekit inspect MODEL --ops` lists.",
            )


def slow_kernels(artifact: Artifact, found: Iterable[Operator]) -> Iterator[Finding]:
    """A finding about operators that no fast kernel takes, by what was measured."""
    slow = [o for o in found if not o.is_conversion and _is_slow(o, artifact.format)]
    if slow:
        yield Finding(
            "EK303",
            f"{len(slow)} operators run outside the fast kernels: {_list(slow)}.",
            "Expect them to be slower than in float; compare with `edgekit benchmark`.",
        )


def _is_slow(operator: Operator, format: Format) -> bool:  # noqa: A002
    if format is Format.ONNX:
        return operator.kind == "ConvInteger"
    has_int16 = any(operand.dtype == "int16" for operand in operator.activations)
    has_int4 = any(operand.dtype in {"int4", "int2"} for operand in operator.weights)
    return has_int16 or (has_int4 and "CONV" in operator.kind)


def _list(found: "tuple[Operator, ...] | list[Operator]") -> str:
    if not any(operator.names[-1] for operator in found):  # compact files have no names inside
        kinds = Counter(operator.kind for operator in found)
        return ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    names = [f"{operator.kind} {operator.names[-1]}".strip() for operator in found[:_NAMED]]
    more = len(found) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
