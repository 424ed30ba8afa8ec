"""``sensitivity``: which layers lose the most when a model is quantized, and a recipe that spares them."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.artifact import Artifact, Format
from edgekit.calibration import Samples, draw
from edgekit.data import Dataset, open_dataset
from edgekit.errors import UsageError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.layerwise.measuring import Outputs, measure
from edgekit.layerwise.sensitivity import LayerSensitivity, MetricDrop, Sensitivity, Spared
from edgekit.layerwise.sparing import settled, spare
from edgekit.layerwise.subject import Care, Subject, open_subject, planned
from edgekit.plan import Effort, Equalize
from edgekit.ranges import RangeMethod
from edgekit.recipe import PRECISIONS, Mode, Precision, Recipe
from edgekit.routes import output_format
from edgekit.tensor import Array
from edgekit.verbs.evaluate import Evaluation, evaluate, paired

Progress = Callable[[int, int], None]


def sensitivity(
    model: str | Path | Artifact,
    *,
    calibration: str | Path | Dataset,
    recipe: str | Recipe = "int8",
    format: str | None = None,  # noqa: A002 - the option's name
    preprocess: str | None = None,
    calibration_samples: int | None = None,
    samples: int = 64,
    noise_data: str | Path | Dataset | None = None,
    effort: Effort = "low",
    ranges: RangeMethod = "auto",
    equalize: Equalize = "auto",
    data: str | Path | Dataset | None = None,
    metric: str | None = None,
    top: int | None = 5,
    spare_precision: str | None = None,
    reach_db: float | None = None,
    spare_layers: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sensitivity:
    """Measure what the quantization of each layer does to a model's outputs.

    Args:
        model: The float model, of any format.
        calibration: Data that sets the ranges; a part of it is held back, and noise is measured on that.
        recipe: How the model would be quantized: a name, an alias, a TOML file or a recipe.
        format: ``"tflite"`` or ``"onnx"``: that of the quantized file; None for the model's own, or ``.tflite``.
        preprocess: The preprocessing contract of the samples.
        calibration_samples: How many samples calibrate; None for 256 or what there is.
        samples: Noise is measured on at most so many.
        noise_data: Samples on which noise is measured, in place of those held back from the calibration data.
        effort: As in ``quantize``, but for searches of roundings: more than ``"low"`` changes nothing here.
        ranges: As in ``quantize``.
        equalize: As in ``quantize``.
        data: Labelled samples: the paired drop of the metric where one layer alone is quantized.
        metric: Which metric; chosen from labels and outputs when None.
        top: The drop is measured of so many layers, those with the largest share of the noise; None for all.
        spare_precision: What spared layers get instead, ``"float32"`` or ``"static_wi8_ai16"``; None for float32 where
            ``reach_db`` or ``spare_layers`` is given, else for nothing.
        reach_db: Spare layers until the SNR of the worst output is that high.
        spare_layers: Spare at most so many.
        seed: Chooses the samples, the same as ``quantize`` does.
        progress: Called with the numbers of measurements done and of all.

    Returns:
        The layers, the one that causes the largest share of the noise first, and those to spare where asked for.

    Raises:
        UsageError: The recipe or the precision does not fit.
        ModelError: The model cannot be read, quantized or run.
        DataError: The data cannot be used.
        DependencyError: The model's format needs a framework that is not installed.
    """
    started = time.perf_counter()
    source = model if isinstance(model, Artifact) else open_artifact(Path(model))
    chosen = Recipe.load(recipe) if isinstance(recipe, str) else recipe
    wanted = _format(source, format)
    instead = None
    if (spare_precision, reach_db, spare_layers) != (None, None, None):
        instead = _spared_as(chosen, spare_precision or "float32", wanted)
    drawn, findings = draw(
        open_dataset(calibration, preprocess=preprocess), source.inputs, count=calibration_samples, seed=seed
    )
    held_back = _measuring(
        source,
        drawn,
        None if noise_data is None else open_dataset(noise_data, preprocess=preprocess),
        samples,
    )
    with tempfile.TemporaryDirectory(prefix="edgekit-") as temporary:
        folder = Path(temporary)
        subject = open_subject(
            source,
            chosen,
            Samples(drawn.calibration, held_back),
            folder,
            output=wanted,
            care=Care(effort, ranges, equalize),
        )
        outputs = Outputs(subject, folder)
        subject, whole = settled(subject, outputs)
        layers = measure(subject, outputs, folder, progress)
        if data is not None:
            before = evaluate(subject.original, open_dataset(data, preprocess=preprocess), metric=metric)
            first = layers[:top]
            measured = list[LayerSensitivity]()
            for layer in _drops(subject, first, open_dataset(data, preprocess=preprocess), before, folder):
                measured.append(layer)
                if progress:
                    progress(len(measured), len(first))
            layers = (*measured, *layers[len(first) :])
        spared = None
        if instead is not None:
            spared = spare(subject, outputs, layers, instead, reach_db=reach_db, count=spare_layers)
    return Sensitivity(
        source=source,
        recipe=chosen,
        output_format=wanted.value,
        samples=len(next(iter(held_back.values()))),
        layers=layers,
        measured_db=whole,
        spared=spared,
        findings=(*findings, *_findings(chosen, wanted, spared)),
        seconds=time.perf_counter() - started,
    )


def _measuring(source: Artifact, drawn: Samples, data: Dataset | None, samples: int) -> dict[str, Array]:
    """The samples on which noise is measured."""
    if data is None:
        return {name: values[:samples] for name, values in drawn.held_back.items()}
    some = data.bind(source.inputs).spread(min(samples, data.count))
    return dict(some.take(range(some.count)).inputs)


def plan_sensitivity(
    model: str | Path,
    recipe: str,
    format: str | None,  # noqa: A002 - the option's name
    spare_precision: str | None,
) -> dict[str, str]:
    """What ``sensitivity`` would do with a model; does nothing.

    Raises:
        UsageError: The recipe or the precision does not fit.
        ModelError: The model cannot be read.
    """
    source = open_artifact(Path(model))
    chosen, wanted = Recipe.load(recipe), _format(source, format)
    if spare_precision is not None:
        _spared_as(chosen, spare_precision, wanted)
    candidate = planned(source.format, wanted, chosen)
    return {"model": str(model), "recipe": chosen.name, "format": wanted.value, "engine": candidate.engine}


def _format(source: Artifact, name: str | None) -> Format:
    if name is None:
        return Format.ONNX if source.format is Format.ONNX else Format.TFLITE
    return output_format(Path(name), name)


def _spared_as(recipe: Recipe, name: str, output: Format) -> Precision:
    """The precision of spared layers.

    Raises:
        UsageError: It spares nothing, or no engine mixes it with the recipe's.
    """
    precision = Recipe.load(name).default
    base = recipe.default
    is_wider = precision.mode is Mode.FLOAT32 or (
        precision.mode is base.mode
        and precision.weight_bits >= base.weight_bits
        and precision.activation_bits >= base.activation_bits
        and precision != base
    )
    if not is_wider:
        finer = [one.name for one in PRECISIONS.values() if one.mode is base.mode and one != base]
        raise UsageError(
            "EK562",
            f"{precision.name} spares nothing where the recipe is {base.name}.",
            f"Spare layers as float32{''.join(f', or {name}' for name in finer)}.",
        )
    if output is Format.ONNX and precision.mode is not Mode.FLOAT32:
        raise UsageError(
            "EK562",
            f"In an .onnx file {base.name} is mixed with float32 alone, not with {precision.name}.",
            "Leave --spare at float32, or quantize to .tflite.",
        )
    return precision


def _drops(
    subject: Subject, layers: Sequence[LayerSensitivity], data: Dataset, before: Evaluation, folder: Path
) -> Iterator[LayerSensitivity]:
    """The layers with the drop of the metric where each alone is quantized, in pairs with the float model."""
    for layer in layers:
        path = folder / f"alone-{layer.place}.{subject.original.format}"
        path.write_bytes(subject.alone(layer.place))
        found = paired(before, evaluate(open_artifact(path), data, metric=before.metric))
        path.unlink()
        low, high = found.drop_ci95
        yield replace(
            layer, metric_drop=MetricDrop(before.metric, before.unit, found.drop, (low, high), found.n)
        )


def _findings(recipe: Recipe, output: Format, spared: Spared | None) -> Iterator[Finding]:
    if recipe.default.mode is Mode.DYNAMIC and output is Format.ONNX:
        yield Finding(
            "EK563",
            "What the kernels round by themselves, each layer's inputs, is not in these numbers.",
            "The ranking is that of the weights alone.",
            Level.NOTE,
        )
    if spared is None or spared.reach_db is None:
        return
    if not spared.layers:
        text = f"No layer has to be spared: the SNR is {spared.snr_db:.1f} dB, {spared.reach_db:g} dB were asked for."
        yield Finding("EK564", text, level=Level.NOTE)
    elif spared.snr_db < spared.reach_db:
        yield Finding(
            "EK565",
            f"Sparing {len(spared.layers)} layers reaches {spared.snr_db:.1f} dB, not {spared.reach_db:g} dB.",
            "Spare them as float32, spare more of them, or ask for less with --reach.",
        )
