"""Runs the steps of a plan, one after the other, each from file to file."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit import onnx_model, tensorflow_process, torch_process
from edgekit.artifact import Artifact, align
from edgekit.corrections import CORRECTIONS, Subject
from edgekit.engines import Job, engine
from edgekit.equalization import Balanced, Trial, balance
from edgekit.errors import EdgekitError
from edgekit.findings import Finding
from edgekit.formats import open_artifact
from edgekit.onnx_to_tflite import onnx_to_tflite
from edgekit.passes._layer_search import Progress
from edgekit.passes.add_signature import add_signature
from edgekit.passes.bound_pads import bound_pads
from edgekit.passes.compact import compact
from edgekit.passes.compact_onnx import compact_onnx
from edgekit.passes.drop_conversions import drop_conversions
from edgekit.passes.equalize import WORTH_DB
from edgekit.passes.fix_batch import fix_batch
from edgekit.passes.fold_batch_norm import fold_batch_norm
from edgekit.passes.fold_batch_norm_onnx import fold_batch_norm_onnx
from edgekit.passes.pointwise import pointwise
from edgekit.passes.prepare_onnx import prepare_onnx
from edgekit.passes.set_io import IOType, set_io
from edgekit.passes.spell_out import spell_out
from edgekit.passes.subtract import subtract
from edgekit.plan import Candidate, Effort, Equalize
from edgekit.ranges import RangeMethod
from edgekit.recipe import Recipe
from edgekit.tensor import Array

# Channels are far from balanced where int8 makes so much more noise in them than it would have to.
_IMBALANCE_DB = 10.0


@dataclass(frozen=True)
class Settings:
    """What the steps need beside the model.

    ``ranges`` says how ranges of activations are chosen, ``until`` when searches end, as ``time.monotonic`` tells it.
    ``progress`` is called with the numbers of layers done and of all while one is under way.
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
    effort: Effort = "low"
    equalize: Equalize = "auto"
    progress: Progress | None = None


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
    done = tuple[str, ...]()
    for index, step in enumerate(candidate.steps):
        path = folder / f"{candidate.engine}-{index}-{step}"
        if step in done:
            continue
        kept: Produced | None = None
        try:
            if step == "quantize":
                calibration = _renamed(settings.calibration, source, made[-1])
                job = Job(made[-1], settings.recipe, path, calibration, settings.batch)
                findings += engine(candidate.engine).quantize(job)
            elif step == "equalize":
                tried = _trial_of(candidate)
                balanced = _balance(made[-1], path, source, tried, settings)
                findings += balanced.findings
                kept = balanced.kept
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
                    settings.progress,
                )
                findings += CORRECTIONS[step](subject, path)
            else:
                findings += _STEPS[step](made[-1].path, path, settings)
            made.append(open_artifact(path))
            if kept is not None:
                # The trial has done the next steps with the very file that was chosen.
                done = tried.steps
                calibration = _renamed(settings.calibration, source, made[-1])
                job = replace(job, source=made[-1], calibration=calibration, batch=settings.batch)
                made.append(kept.artifact)
                findings += kept.findings
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


def _trial_of(candidate: Candidate) -> Candidate:
    """What a trial of balanced channels does to both models: biases decide much, and are soon corrected once."""
    is_corrected = any(step in CORRECTIONS for step in candidate.steps)
    return Candidate(candidate.engine, ("quantize", "correct_bias") if is_corrected else ("quantize",))


def _balance(
    model: Artifact, output: Path, source: Artifact, following: Candidate, settings: Settings
) -> Balanced[Produced]:
    """Low effort balances channels only where they are far from it; where the user wants it, no trial decides."""
    parts = [_renamed(samples, source, model) for samples in (settings.calibration, settings.held_back)]
    own = replace(settings, calibration=parts[0], held_back=parts[1])

    def attempt(model: Artifact, name: str) -> Produced:
        folder = output.with_name(f"{output.name}-{name}")
        folder.mkdir()
        return run(following, model, own, folder)

    is_wanted = settings.equalize == "always"
    imbalance = _IMBALANCE_DB if settings.effort == "low" and not is_wanted else WORTH_DB
    trial = None if is_wanted else Trial(attempt, lambda tried: tried.artifact, parts[1])
    return balance(model, output, parts[0], imbalance_db=imbalance, trial=trial)


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


def _fold_batch_norm(source: Path, output: Path, _settings: Settings) -> list[Finding]:
    output.write_bytes(fold_batch_norm(source.read_bytes()))
    return []


def _fold_batch_norm_onnx(source: Path, output: Path, _settings: Settings) -> list[Finding]:
    model = onnx_model.load(source)
    onnx_model.make_constant(model)
    fold_batch_norm_onnx(model)
    onnx_model.save(model, output, named=source)
    return []


def _subtract(source: Path, output: Path, _settings: Settings) -> list[Finding]:
    output.write_bytes(subtract(source.read_bytes()))
    return []


def _drop_conversions(source: Path, output: Path, _settings: Settings) -> list[Finding]:
    output.write_bytes(drop_conversions(source.read_bytes()))
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
    "fold_batch_norm": _fold_batch_norm,
    "fold_batch_norm_onnx": _fold_batch_norm_onnx,
    "subtract": _subtract,
    "drop_conversions": _drop_conversions,
    "prepare_onnx": _prepare_onnx,
    "set_io": _set_io,
    "pointwise": _pointwise,
    "compact": _compact,
    "compact_onnx": _compact_onnx,
}
