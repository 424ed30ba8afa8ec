"""Quantize a model, and prove that it is still good."""

import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.artifact import Artifact, Format, Lineage, align, lineage_path
from edgekit.calibration import Samples, draw, random_samples
from edgekit.data import Dataset, open_dataset
from edgekit.errors import EdgekitError, ModelError, UsageError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.logits import logits_snr_db
from edgekit.operators import operators
from edgekit.passes.set_io import IOType
from edgekit.pipeline import Produced, Settings, run
from edgekit.plan import Effort, Equalize, Plan, plan_quantization
from edgekit.preprocessing import load_preprocessing
from edgekit.ranges import RangeMethod
from edgekit.readback import ReadBack, read_back
from edgekit.recipe import Mode, Recipe
from edgekit.reference import Reference
from edgekit.routes import output_format
from edgekit.target import Target
from edgekit.targeting import choose, judge
from edgekit.versions import installed_versions

Progress = Callable[[int, int], None]

# Candidates this close in SNR are equally near to the float model: the smaller file is kept.
_EQUALLY_NEAR_DB = 0.5
# Outputs this near are near enough to prefer a file for what it quantized.
_NEAR_DB = 20.0


@dataclass(frozen=True)
class Attempt:
    """What became of one engine: a file and how near it is, or why there is none."""

    engine: str
    read_back: ReadBack | None
    size_bytes: int | None
    error: str = ""

    def describe(self) -> dict[str, Any]:
        """The attempt as it stands in the JSON document."""
        snr = None if self.read_back is None else self.read_back.snr_db
        return {"engine": self.engine, "snr_db": snr, "size_bytes": self.size_bytes, "error": self.error}


@dataclass(frozen=True)
class Quantized:
    """The result: the file, what it was made from and how, and how far it is from the float model."""

    artifact: Artifact
    source: Artifact
    recipe: Recipe
    engine: str
    read_back: ReadBack
    attempts: tuple[Attempt, ...]
    findings: tuple[Finding, ...]
    seconds: float

    def describe(self) -> dict[str, Any]:
        """The result as it stands in the JSON document."""
        return {
            "artifact": self.artifact.describe(),
            "source": self.source.describe(),
            "recipe": self.recipe.name,
            "engine": self.engine,
            "ops": self.read_back.describe_operators(),
            "read_back": self.read_back.describe(),
            "attempts": [attempt.describe() for attempt in self.attempts],
            "lineage": str(lineage_path(self.artifact.path)),
            "seconds": self.seconds,
        }


def quantize(
    model: str | Path,
    output: str | Path,
    *,
    recipe: str | Recipe | None = None,
    target: str | Target | None = None,
    calibration: str | Path | Dataset | None = None,
    preprocess: str | None = None,
    calibration_samples: int | None = None,
    format: str | None = None,  # noqa: A002 - the option's name
    engine: str = "auto",
    io: IOType | None = None,
    batch: int | None = 1,
    keep_float: Sequence[str] = (),
    keep_names: bool = False,
    effort: Effort = "low",
    ranges: RangeMethod = "auto",
    equalize: Equalize = "auto",
    time_budget_s: float | None = None,
    overwrite: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Quantized:
    """Quantize a model file after training, and read the result back.

    Args:
        model: A Keras, SavedModel, TFLite or ONNX model.
        output: The file to write; its suffix says the format where ``format`` does not.
        recipe: A recipe's name, alias or TOML file: ``"static_wi8_ai8"``, ``"int8"``; None for the target's, or int8.
        target: A target's name or profile, ``"ethos-u55-128"``: it chooses what is not given, and says why.
        calibration: Data; needed by recipes with static ranges, used by the others to compare outputs.
        preprocess: The preprocessing contract of the calibration data, and of all that the model will see.
        calibration_samples: How many samples calibrate; None for 256 or what there is.
        format: ``"tflite"`` or ``"onnx"``.
        engine: An engine's name; ``"auto"`` tries all that apply and keeps the nearest to the float model.
        io: Type of quantized inputs and outputs in a ``.tflite``: ``"float32"``, ``"int8"`` or ``"uint8"``; None for
            the target's, or float32.
        batch: Size of the batch axis in the file, None for a free one.
        keep_float: Regular expressions; layers whose tensor names match stay float32.
        keep_names: Keep the names of inner tensors.
        effort: What is done for the accuracy of static recipes in a ``.tflite``: ``"low"`` chooses ranges and
            corrects biases, ``"medium"`` searches the rounding of the weights too, ``"high"`` fits weights, steps and
            roundings to what each layer reads, ``"none"`` leaves what the engine wrote.
        ranges: How ranges of 8-bit activations are chosen: ``"auto"`` tries all methods tensor by tensor;
            ``"min-max"``, ``"moving-average"``, ``"percentile"``, ``"mse"`` and ``"entropy"`` are one for all.
        equalize: Whether channels are balanced before a static recipe: ``"auto"`` where a trial shows that it helps,
            ``"always"`` or ``"never"``.
        time_budget_s: Seconds after which searches end with what they have, None for no end.
        overwrite: Replace ``output`` where it exists.
        seed: Chooses the samples.
        progress: Called with the numbers of engines done and of all; in a search, of layers.

    Returns:
        What was written, how near it is to the float model, and what became of each engine.

    Raises:
        UsageError: The recipe, the engine or the output does not fit.
        TargetError: The target does not take files of this format.
        ModelError: The model cannot be read or quantized, or what came out has nothing to do with it.
        DataError: The calibration data cannot be used.
        DependencyError: The way to the output needs TensorFlow.
    """
    started, path = time.perf_counter(), Path(output)
    for written in (path, lineage_path(path)):
        files.check_output(written, overwrite=overwrite)
    profile = Target.load(target) if isinstance(target, str) else target
    choice = choose(profile, recipe, io, output_format(path, format))
    source = open_artifact(Path(model))
    _refuse_quantized(source)
    plan = plan_quantize(
        source.format,
        path,
        recipe=choice.recipe,
        format=format,
        engine=engine,
        keep_float=keep_float,
        effort=effort,
        equalize=equalize,
    )
    _check_io(plan, choice.io)
    dataset = _dataset(plan.recipe, calibration, preprocess)
    samples, findings = _samples(source, dataset, calibration_samples, seed)
    if dataset is None and preprocess not in {None, "none"}:
        # The model is for such samples all the same, and whoever uses it has to know.
        samples = replace(samples, preprocessing=load_preprocessing(str(preprocess)).describe())
    settings = Settings(
        recipe=plan.recipe,
        calibration=samples.calibration,
        held_back=samples.held_back,
        io=choice.io,
        batch=batch,
        keep_names=keep_names or choice.needs_names,
        ranges=ranges,
        seed=seed,
        until=math.inf if time_budget_s is None else time.monotonic() + time_budget_s,
        effort=effort,
        equalize=equalize,
        progress=progress,
    )
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        reference = Reference.of(source, samples.held_back)
        (produced, read), attempts = _best(plan, reference, settings, Path(folder), progress)
        files.copy_file(produced.artifact.path, path)
    artifact = replace(produced.artifact, path=path)
    lineage = _lineage(source, produced, settings, samples)
    files.write_bytes(lineage_path(path), json.dumps(lineage.describe(), indent=2).encode())
    findings += [*choice.findings, *_losers(attempts), *produced.findings, *read.findings]
    findings += judge(profile, artifact, read.operators) if profile else []
    return Quantized(
        artifact=artifact,
        source=source,
        recipe=plan.recipe,
        engine=produced.engine,
        read_back=read,
        attempts=tuple(attempts),
        findings=tuple(dict.fromkeys(findings)),
        seconds=time.perf_counter() - started,
    )


def plan_quantize(
    source: Format,
    output: Path,
    *,
    recipe: str | Recipe | None = None,
    target: str | Target | None = None,
    format: str | None = None,  # noqa: A002 - the option's name
    engine: str = "auto",
    keep_float: Sequence[str] = (),
    effort: Effort = "low",
    equalize: Equalize = "auto",
) -> Plan:
    """What ``quantize`` would do with a model of this format; does nothing.

    Raises:
        UsageError: The recipe, the engine or the output does not fit.
        TargetError: The target does not take files of this format.
    """
    wanted = output_format(output, format)
    profile = Target.load(target) if isinstance(target, str) else target
    chosen = choose(profile, recipe, None, wanted).recipe
    kept = chosen.keeping_float(keep_float)
    return plan_quantization(source, wanted, kept, engine_name=engine, effort=effort, equalize=equalize)


def _refuse_quantized(source: Artifact) -> None:
    if source.format not in {Format.TFLITE, Format.ONNX}:
        return
    if any(operator.has_integer_weights for operator in operators(source.path, source.format)):
        raise ModelError(
            "EK332",
            f"{source.path} is quantized already.",
            "Quantize the float model that it was made from: every step after the first only loses.",
        )


def _check_io(plan: Plan, io: IOType) -> None:
    if io == "float32":
        return
    precision = plan.recipe.default
    if plan.output_format is not Format.TFLITE or precision.mode is not Mode.STATIC:
        raise UsageError(
            "EK907",
            f"--io {io} needs .tflite and a static recipe, not {plan.output_format} and {precision.name}.",
            "Leave --io at float32, or use -r int8 and a .tflite output.",
        )


def _dataset(
    recipe: Recipe, calibration: str | Path | Dataset | None, preprocess: str | None
) -> Dataset | None:
    if calibration is None:
        if recipe.needs_calibration:
            raise UsageError(
                "EK908",
                f"The recipe {recipe.name} needs calibration data.",
                "Add --calibration DATA (100 to 500 samples), or use -r dynamic, which needs none.",
            )
        return None
    return open_dataset(calibration, preprocess=preprocess)


def _samples(
    source: Artifact, dataset: Dataset | None, count: int | None, seed: int
) -> tuple[Samples, list[Finding]]:
    if dataset is not None:
        return draw(dataset, source.inputs, count=count, seed=seed)
    message = "Outputs were compared on random inputs, because no data was given."
    hint = "Add --calibration DATA to compare them on real samples."
    return random_samples(source.inputs, seed=seed), [Finding("EK320", message, hint, Level.NOTE)]


def _best(
    plan: Plan, reference: Reference, settings: Settings, folder: Path, progress: Progress | None
) -> tuple[tuple[Produced, ReadBack], list[Attempt]]:
    """Try every candidate, and keep the one whose outputs are nearest to the float model's."""
    made: list[_Made] = []
    attempts: list[Attempt] = []
    errors: list[EdgekitError] = []
    for index, candidate in enumerate(plan.candidates):
        if progress:
            progress(index, len(plan.candidates))
        try:
            produced = run(candidate, reference.source, settings, folder)
            read = read_back(produced.artifact, reference, plan.recipe, named=produced.named)
        except ModelError as error:
            errors.append(error)
            attempts.append(Attempt(candidate.engine, None, None, error.message))
            continue
        made.append(_Made(produced, read, read.snr_db))
        attempts.append(Attempt(candidate.engine, read, produced.artifact.size_bytes))
    if not made:
        raise errors[0]
    best = _nearest(_by_logits(made, reference))
    return (best.produced, best.read), attempts


@dataclass(frozen=True)
class _Made:
    """A candidate's file, and the SNR in dB by which it is judged beside the others."""

    produced: Produced
    read: ReadBack
    snr_db: float


def _by_logits(made: list[_Made], reference: Reference) -> list[_Made]:
    """Several candidates are judged by what goes into a final softmax, if one began with a float file of its format."""
    format_ = made[0].produced.artifact.format
    originals = [one.produced.original for one in made if one.produced.original.format is format_]
    if len(made) == 1 or not originals:
        return made
    names = align(reference.source.inputs, originals[0].inputs)
    inputs = {names[name]: values for name, values in reference.inputs.items()}
    return [replace(one, snr_db=logits_snr_db(originals[0], one.produced.artifact, inputs)) for one in made]


def _nearest(made: list[_Made]) -> _Made:
    """The candidate nearest to the float model among those that did most of what the recipe asks for."""
    # A file in which nothing was quantized would be the nearest of all.
    fewest = min(len(one.read.stayed_float) for one in made)
    complete = [one for one in made if len(one.read.stayed_float) == fewest]
    if max(one.snr_db for one in complete) < _NEAR_DB:
        complete = made
    limit = max(one.snr_db for one in complete) - _EQUALLY_NEAR_DB
    near = [one for one in complete if one.snr_db >= limit]
    return min(near, key=lambda one: one.produced.artifact.size_bytes)


def _losers(attempts: Sequence[Attempt]) -> list[Finding]:
    """An engine that failed while another did the work is worth a word."""
    return [
        Finding("EK321", f"Engine {attempt.engine} failed: {attempt.error}", level=Level.NOTE)
        for attempt in attempts
        if attempt.error
    ]


def _lineage(source: Artifact, produced: Produced, settings: Settings, samples: Samples) -> Lineage:
    return Lineage(
        source_path=source.path.name,
        source_sha256=source.sha256,
        recipe=settings.recipe.name,
        engine=produced.engine,
        seed=settings.seed,
        versions=installed_versions(),
        calibration=samples.source,
        preprocessing=samples.preprocessing,
        options={
            "io": settings.io,
            "batch": settings.batch,
            "effort": settings.effort,
            "ranges": settings.ranges,
            "equalize": settings.equalize,
            "recipe": settings.recipe.describe(),
        },
    )
