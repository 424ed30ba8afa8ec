"""Runs the steps of a plan, one after the other, each from file to file."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit import tensorflow_process, torch_process
from edgekit.artifact import Artifact, align
from edgekit.corrections import CORRECTIONS, Subject
from edgekit.engines import Job, engine
from edgekit.errors import EdgekitError
from edgekit.findings import Finding
from edgekit.formats import open_artifact
from edgekit.onnx_to_tflite import onnx_to_tflite
from edgekit.passes.add_signature import add_signature
from edgekit.passes.bound_pads import bound_pads
from edgekit.passes.compact import compact
from edgekit.passes.compact_onnx import compact_onnx
from edgekit.passes.fix_batch import fix_batch
from edgekit.passes.pointwise import pointwise
from edgekit.passes.prepare_onnx import prepare_onnx
from edgekit.passes.set_io import IOType, set_io
from edgekit.passes.spell_out import spell_out
from edgekit.plan import Candidate
from edgekit.ranges import RangeMethod
from edgekit.recipe import Recipe
from edgekit.tensor import Array


@dataclass(frozen=True)
class Settings:
    """What the steps need beside the model.

    ``ranges`` says how ranges of activations are chosen, ``until`` when searches end, as ``time.monotonic`` tells it.
    """

    recipe: Recipe
    calibration: Mapping[str, Array]
    held_back: Mapping[str, Array]
    io: IOType = "float32"
    batch: int | None = 1
    keep_names: bool = False
    ranges: RangeMethod = "auto"
    seed: int = 0
    until: float = math.inf


def float_settings(batch: int | None = 1) -> Settings:
    """What a conversion alone needs."""
    return Settings(Recipe.load("float32"), {}, {}, batch=batch)


@dataclass(frozen=True)
class Produced:
    """What a candidate made: a file in the working folder, and what was noticed on the way.

    ``named`` is the same model before the names of inner tensors were dropped, ``original`` the float file that the
    engine read.
    """

    engine: str
    artifact: Artifact
    named: Path
    original: Artifact
    findings: tuple[Finding, ...]


def run(candidate: Candidate, source: Artifact, settings: Settings, folder: Path) -> Produced:
    """Run a candidate's steps in ``folder``.

    Raises:
        EdgekitError: A step failed; ``detail`` names it and those before it.
    """
    made, findings = [source], list[Finding]()
    job = Job(source, settings.recipe, folder)
    for index, step in enumerate(candidate.steps):
        path = folder / f"{candidate.engine}-{index}-{step}"
        try:
            if step == "quantize":
                calibration = _renamed(settings.calibration, source, made[-1])
                job = Job(made[-1], settings.recipe, path, calibration, settings.batch)
                findings += engine(candidate.engine).quantize(job)
            elif step in CORRECTIONS:
                held_back = _renamed(settings.held_back, source, job.source)
                subject = Subject(
                    job,
                    candidate.engine,
                    made[-1],
                    held_back,
                    settings.ranges,
                    settings.seed,
                    settings.until,
                )
                findings += CORRECTIONS[step](subject, path)
            else:
                findings += _STEPS[step](made[-1].path, path, settings)
            made.append(open_artifact(path))
        except EdgekitError as error:
            before = ", ".join(candidate.steps[:index]) or "no other"
            # Files between the steps are nothing that a user knows.
            error.message = error.message.replace(str(path), f"the file that {step} made")
            for between in made[1:]:
                error.message = error.message.replace(str(between.path), str(source.path))
                error.message = error.message.replace(between.path.name, source.path.name)
            error.detail += f"\nIn step {step} of engine {candidate.engine}, after {before}."
            raise
    named = made[-2] if candidate.steps[-1].startswith("compact") else made[-1]
    return Produced(candidate.engine, made[-1], named.path, job.source, tuple(findings))


def _renamed(samples: Mapping[str, Array], source: Artifact, current: Artifact) -> dict[str, Array]:
    """Samples of the source's inputs under the names that the inputs have by now."""
    names = align(source.inputs, current.inputs)
    return {names[name]: values for name, values in samples.items()}


def _export_tflite(source: Path, output: Path, settings: Settings) -> list[Finding]:
    options = tensorflow_process.TFLiteExport(batch=settings.batch)
    return list(tensorflow_process.export_tflite(source, output, options))


def _export_onnx(source: Path, output: Path, settings: Settings) -> list[Finding]:
    tensorflow_process.export_onnx(source, output, batch=settings.batch)
    return []


def _torch_to_tflite(source: Path, output: Path, settings: Settings) -> list[Finding]:
    torch_process.export_tflite(source, output, batch=settings.batch)
    return []


def _torch_to_onnx(source: Path, output: Path, settings: Settings) -> list[Finding]:
    torch_process.export_onnx(source, output, batch=settings.batch)
    return []


def _onnx_to_tflite(source: Path, output: Path, settings: Settings) -> list[Finding]:
    onnx_to_tflite(source, output, batch=settings.batch)
    return []


def _fix_batch(source: Path, output: Path, settings: Settings) -> list[Finding]:
    model = source.read_bytes()
    output.write_bytes(model if settings.batch is None else fix_batch(model, settings.batch))
    return []


def _spell_out(source: Path, output: Path, _settings: Settings) -> list[Finding]:
    output.write_bytes(spell_out(source.read_bytes()))
    return []


def _add_signature(source: Path, output: Path, _settings: Settings) -> list[Finding]:
    output.write_bytes(add_signature(source.read_bytes()))
    return []


def _bound_pads(source: Path, output: Path, _settings: Settings) -> list[Finding]:
    output.write_bytes(bound_pads(source.read_bytes()))
    return []


def _prepare_onnx(source: Path, output: Path, settings: Settings) -> list[Finding]:
    prepare_onnx(source, output, settings.recipe.default, batch=settings.batch)
    return []


def _set_io(source: Path, output: Path, settings: Settings) -> list[Finding]:
    change = set_io(source.read_bytes(), settings.io)
    output.write_bytes(change.model)
    return list(change.findings)


def _pointwise(source: Path, output: Path, _settings: Settings) -> list[Finding]:
    output.write_bytes(pointwise(source.read_bytes()))
    return []


def _compact(source: Path, output: Path, settings: Settings) -> list[Finding]:
    output.write_bytes(compact(source.read_bytes(), keep_names=settings.keep_names))
    return []


def _compact_onnx(source: Path, output: Path, settings: Settings) -> list[Finding]:
    output.write_bytes(compact_onnx(source.read_bytes(), keep_names=settings.keep_names))
    return []


_STEPS: dict[str, Callable[[Path, Path, Settings], list[Finding]]] = {
    "export_tflite": _export_tflite,
    "export_onnx": _export_onnx,
    "torch_to_tflite": _torch_to_tflite,
    "torch_to_onnx": _torch_to_onnx,
    "onnx_to_tflite": _onnx_to_tflite,
    "fix_batch": _fix_batch,
    "spell_out": _spell_out,
    "add_signature": _add_signature,
    "bound_pads": _bound_pads,
    "prepare_onnx": _prepare_onnx,
    "set_io": _set_io,
    "pointwise": _pointwise,
    "compact": _compact,
    "compact_onnx": _compact_onnx,
}
