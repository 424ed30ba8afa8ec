"""Runs the steps of a plan, one after the other, each from file to file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit import tensorflow_process
from edgekit.artifact import Artifact, align
from edgekit.engines import Job, engine
from edgekit.errors import EdgekitError
from edgekit.findings import Finding
from edgekit.formats import open_artifact
from edgekit.passes.add_signature import add_signature
from edgekit.passes.compact import compact
from edgekit.passes.compact_onnx import compact_onnx
from edgekit.passes.fix_batch import fix_batch
from edgekit.passes.set_io import IOType, set_io
from edgekit.plan import Candidate
from edgekit.recipe import Recipe
from edgekit.tensor import Array


@dataclass(frozen=True)
class Settings:
    """What the steps need beside the model."""

    recipe: Recipe
    calibration: Mapping[str, Array]
    io: IOType = "float32"
    batch: int | None = 1
    keep_names: bool = False


@dataclass(frozen=True)
class Produced:
    """What a candidate made: a file in the working folder, and what was noticed on the way.

    ``named`` is the same model before the names of inner tensors were dropped.
    """

    engine: str
    artifact: Artifact
    named: Path
    findings: tuple[Finding, ...]


def run(candidate: Candidate, source: Artifact, settings: Settings, folder: Path) -> Produced:
    """Run a candidate's steps in ``folder``.

    Raises:
        EdgekitError: A step failed; ``detail`` names it and those before it.
    """
    previous, current, findings = source, source, list[Finding]()
    for index, step in enumerate(candidate.steps):
        path = folder / f"{candidate.engine}-{index}-{step}"
        try:
            if step == "quantize":
                job = Job(
                    current, settings.recipe, path, _calibration(source, current, settings), settings.batch
                )
                findings += engine(candidate.engine).quantize(job)
            else:
                findings += _STEPS[step](current.path, path, settings)
            previous, current = current, open_artifact(path)
        except EdgekitError as error:
            before = ", ".join(candidate.steps[:index]) or "no other"
            error.detail += f"\nIn step {step} of engine {candidate.engine}, after {before}."
            raise
    named = previous if candidate.steps[-1].startswith("compact") else current
    return Produced(candidate.engine, current, named.path, tuple(findings))


def _calibration(source: Artifact, current: Artifact, settings: Settings) -> dict[str, Array]:
    """The calibration samples under the names that the inputs have by now."""
    names = align(source.inputs, current.inputs)
    return {names[name]: values for name, values in settings.calibration.items()}


def _export_tflite(source: Path, output: Path, settings: Settings) -> list[Finding]:
    options = tensorflow_process.TFLiteExport(batch=settings.batch)
    return list(tensorflow_process.export_tflite(source, output, options))


def _export_onnx(source: Path, output: Path, settings: Settings) -> list[Finding]:
    tensorflow_process.export_onnx(source, output, batch=settings.batch)
    return []


def _fix_batch(source: Path, output: Path, settings: Settings) -> list[Finding]:
    model = source.read_bytes()
    output.write_bytes(model if settings.batch is None else fix_batch(model, settings.batch))
    return []


def _add_signature(source: Path, output: Path, _settings: Settings) -> list[Finding]:
    output.write_bytes(add_signature(source.read_bytes()))
    return []


def _set_io(source: Path, output: Path, settings: Settings) -> list[Finding]:
    change = set_io(source.read_bytes(), settings.io)
    output.write_bytes(change.model)
    return list(change.findings)


def _compact(source: Path, output: Path, settings: Settings) -> list[Finding]:
    output.write_bytes(compact(source.read_bytes(), keep_names=settings.keep_names))
    return []


def _compact_onnx(source: Path, output: Path, settings: Settings) -> list[Finding]:
    output.write_bytes(compact_onnx(source.read_bytes(), keep_names=settings.keep_names))
    return []


_STEPS: dict[str, Callable[[Path, Path, Settings], list[Finding]]] = {
    "export_tflite": _export_tflite,
    "export_onnx": _export_onnx,
    "fix_batch": _fix_batch,
    "add_signature": _add_signature,
    "set_io": _set_io,
    "compact": _compact,
    "compact_onnx": _compact_onnx,
}
