"""Where each operator of a model would run on a target, and why: before anything is compiled, sent or run."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import pipeline
from edgekit.accelerators import Accelerator, Place, Verdict
from edgekit.arena import activation_bytes
from edgekit.artifact import Artifact, Format
from edgekit.catalog import load, names
from edgekit.errors import TargetError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.macs import macs
from edgekit.operators import Operator, operators
from edgekit.plan import Candidate
from edgekit.routes import way_to
from edgekit.target import Target
from edgekit.targeting import larger_than_memory

_NAMED = 3
# On a CPU target ONNX files run in another runtime than .tflite files, whose fast kernels are its own.
_OF_ONNX = {"xnnpack": "onnxruntime"}
_CODES = {Place.CPU: "EK371", Place.UNSUPPORTED: "EK372", Place.UNKNOWN: "EK373"}
_WORDS = {
    Place.CPU: ("stays on the CPU", "stay on the CPU"),
    Place.UNSUPPORTED: ("does not run there", "do not run there"),
    Place.UNKNOWN: ("may run anywhere", "may run anywhere"),
}


@dataclass(frozen=True)
class Placed:
    """An operator, where it would run, and its multiply-accumulates where they are known."""

    operator: Operator
    verdict: Verdict
    macs: int | None

    @property
    def name(self) -> str:
        """The last of its names, or none: small files have lost them."""
        return self.operator.names[-1] if self.operator.names else ""

    def describe(self) -> dict[str, Any]:
        """The operator as it stands in the JSON document."""
        return {
            "op": self.operator.kind,
            "name": self.name,
            "place": self.verdict.place.value,
            "reason": self.verdict.reason,
            "advice": self.verdict.advice,
            "macs": self.macs,
        }


@dataclass(frozen=True)
class Compatibility:
    """What of a model a target's accelerator would take.

    ``rules`` names the accelerator whose rules were used. ``activation_bytes`` is what the inner tensors need at
    least, None where shapes are not known.
    """

    artifact: Artifact
    target: Target
    rules: str
    placed: tuple[Placed, ...]
    activation_bytes: int | None
    findings: tuple[Finding, ...]

    @property
    def placed_pct(self) -> float:
        """The share of the operators that the accelerator would take, in percent."""
        taken = sum(one.verdict.place is Place.ACCELERATED for one in self.placed)
        return 100 * taken / len(self.placed) if self.placed else 0.0

    @property
    def placed_macs_pct(self) -> float | None:
        """Their share of the multiply-accumulates that are known; None where there are none."""
        total = sum(one.macs or 0 for one in self.placed)
        taken = sum(one.macs or 0 for one in self.placed if one.verdict.place is Place.ACCELERATED)
        return 100 * taken / total if total else None

    def describe(self) -> dict[str, Any]:
        """The result as it stands in the JSON document."""
        counts = {place.value: sum(one.verdict.place is place for one in self.placed) for place in Place}
        return {
            "model": self.artifact.describe(),
            "target": self.target.name,
            "rules": self.rules,
            "counts": counts,
            "placed_pct": self.placed_pct,
            "placed_macs_pct": self.placed_macs_pct,
            "activation_bytes": self.activation_bytes,
            "ops": [one.describe() for one in self.placed],
        }


def compat(model: str | Path, *, target: str | Target) -> Compatibility:
    """Say for each operator of a model whether a target's accelerator takes it, and why not.

    Nothing of the target is needed, and nothing is run: the rules are those of the accelerator's authors, and where
    a PC can run the accelerator or its compiler they were tried. A Keras model, a SavedModel or a program of PyTorch
    is looked at as the float file that it becomes.

    Args:
        model: A model in any format.
        target: A target's name or profile, ``"ethos-u55-128"``.

    Raises:
        UsageError: There is no such target.
        ModelError: The model cannot be read.
        TargetError: The target takes no file that the model could become.
        DependencyError: TensorFlow or PyTorch is needed and not installed.
    """
    profile = Target.load(target) if isinstance(target, str) else target
    source = open_artifact(model)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        seen, noticed = _as_target_takes(source, profile, Path(folder))
        found = operators(seen.path, seen.format)
        rules = _rules(profile, seen.format)
        verdicts = _judge(rules, found, profile)
        placed = tuple(
            Placed(operator, verdict, macs(operator, seen.format))
            for operator, verdict in zip(found, verdicts, strict=True)
        )
        needed = activation_bytes(found)
        findings = (
            *noticed,
            *_findings(profile, placed),
            *larger_than_memory(profile, seen),
            *_memory(profile, needed),
        )
    return Compatibility(source, profile, rules, placed, needed, findings)


def _as_target_takes(source: Artifact, target: Target, folder: Path) -> tuple[Artifact, tuple[Finding, ...]]:
    """The model in a format that the target reads: itself, or the float file that it becomes."""
    accepted = [Format(name) for name in target.formats.values]
    steps = way_to(source.format, accepted)
    if steps is None or (steps and source.format in (Format.TFLITE, Format.ONNX)):
        taken = " and ".join(target.formats.values)
        message = f"{target.name} takes {taken} files, and {source.path} is {source.format}."
        hint = f"Convert it: edgekit convert {source.path} -o model.{target.formats.values[0]}"
        raise TargetError("EK381", message, hint)
    if not steps:
        return source, ()
    made = pipeline.run(Candidate("compat", steps), source, pipeline.float_settings(), folder)
    suffix = made.artifact.format
    message = f"The operators are those of the float .{suffix} file that the model becomes."
    quantize = f"edgekit quantize {source.path} -o model.{suffix} -t {target.name}"
    hint = f"Look at the quantized file too: {quantize}"
    return made.artifact, (*made.findings, Finding("EK375", message, hint, Level.NOTE))


def _rules(target: Target, seen: Format) -> str:
    return _OF_ONNX.get(target.accelerator, target.accelerator) if seen is Format.ONNX else target.accelerator


def _judge(rules: str, found: Sequence[Operator], target: Target) -> list[Verdict]:
    if rules not in names("accelerators"):
        return [Verdict(Place.UNKNOWN, f"edgekit has no rules for {rules} yet")] * len(found)
    accelerator: Accelerator = load("accelerators", rules)
    return accelerator.judge(found, target)


def _findings(target: Target, placed: Sequence[Placed]) -> Iterator[Finding]:
    """One for each kind of operator and each reason."""
    groups: dict[tuple[str, Verdict], list[Placed]] = {}
    for one in placed:
        if one.verdict.place is not Place.ACCELERATED:
            groups.setdefault((one.operator.kind, one.verdict), []).append(one)
    for (kind, verdict), members in groups.items():
        named = [member.name for member in members if member.name]
        listed = f" ({', '.join(named[:_NAMED])}{', ...' if len(named) > _NAMED else ''})" if named else ""
        does = _WORDS[verdict.place][len(members) > 1]
        text = f"{target.name}: {len(members)} {kind}{listed} {does}: {verdict.reason}."
        level = Level.ERROR if verdict.place is Place.UNSUPPORTED else Level.WARNING
        yield Finding(_CODES[verdict.place], text, verdict.advice, level)


def _memory(target: Target, needed: int | None) -> Iterator[Finding]:
    for name in ("sram_bytes", "ram_bytes"):
        limit = target.limits[name].values[0] if name in target.limits else None
        if needed is not None and limit is not None and needed > limit:
            memory = name.removesuffix("_bytes").upper()
            text = (
                f"Inner tensors take {needed:,} bytes at once; the {memory} of {target.name} has {limit:,}."
            )
            yield Finding("EK374", text, "Use a smaller input, fewer channels, or integers for floats.")
