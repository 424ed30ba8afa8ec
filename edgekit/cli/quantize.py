"""``edgekit quantize``: post-training quantization."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._auto import auto, auto_options, taken
from edgekit.cli._devices import Duration
from edgekit.cli._group import edgekit_command
from edgekit.cli._options import batch_option
from edgekit.cli._output import Outcome, command_line, progress
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from edgekit.verbs.quantize import Quantized
    from edgekit.workflows.before_after import BeforeAfter
    from edgekit.workflows.diagnosis import Diagnosis

_EPILOG = """\b
Examples:
  edgekit quantize model.keras -o model.tflite --calibration train.npz
  edgekit quantize model.tflite -o int8.tflite -r int8 --calibration train.npz --evaluate test.npz
  edgekit quantize model.onnx -o model.int8.onnx --calibration images/ --preprocess imagenet-torch
  edgekit quantize model.h5 -o small.tflite -r dynamic
  edgekit quantize model.keras -o npu.tflite -t ethos-u55-128 --calibration train.npz
  edgekit quantize model.keras -o s.tflite --auto --max-drop 0.5 --calibration train.npz --evaluate test.npz
"""


@edgekit_command(epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write (.tflite, .onnx)."
)
@click.option(
    "-r", "--recipe", metavar="NAME|FILE.toml", help="How to quantize.  [default: the target's, or int8]"
)
@click.option(
    "-t", "--target", metavar="NAME|FILE.toml", help="What it is for: chooses recipe and --io, and says why."
)
@click.option(
    "--calibration", metavar="DATA", help="Samples that set the ranges: .npz, .npy, folder, spec, FILE.py:f."
)
@click.option(
    "--calibration-samples", type=click.IntRange(min=1), metavar="N", help="How many of them.  [default: 256]"
)
@click.option(
    "--evaluate", metavar="DATA", help="Labelled samples: accuracy before, after, and the paired drop."
)
@click.option(
    "--max-drop",
    type=float,
    metavar="POINTS",
    help="The largest drop, 0.5 is half a point: more fails, and edgekit says what mends it.",
)
@click.option("--metric", help="What to evaluate.  [default: chosen from labels and outputs]")
@click.option("--preprocess", metavar="SPEC", help="Preprocessing contract of the samples.")
@click.option(
    "-f", "--format", type=click.Choice(["tflite", "onnx"]), help="Output format.  [default: OUTPUT's suffix]"
)
@click.option(
    "--engine", default="auto", show_default=True, help="auto, ai-edge-quantizer, tensorflow, onnxruntime."
)
@click.option(
    "--io",
    type=click.Choice(["float32", "int8", "uint8"]),
    help="Type of quantized inputs and outputs.  [default: the target's, or float32]",
)
@batch_option()
@click.option(
    "--keep-float", multiple=True, metavar="REGEX", help="Layers that stay float32. May be repeated."
)
@click.option(
    "--effort",
    type=click.Choice(["none", "low", "medium", "high"]),
    default="low",
    show_default=True,
    help="For the accuracy of static recipes: low chooses ranges and corrects biases, medium searches roundings "
    "too, high fits the weights anew.",
)
@click.option(
    "--ranges",
    type=click.Choice(["auto", "min-max", "moving-average", "percentile", "mse", "entropy"]),
    default="auto",
    show_default=True,
    help="How ranges of 8-bit activations are chosen; auto tries all, tensor by tensor.",
)
@click.option(
    "--equalize",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Balance channels before a static recipe: where it helps, or as you say.",
)
@click.option(
    "--time-budget", "time_budget_s", type=Duration(), help="When searches end with what they have: 90s, 10m."
)
@auto_options
@click.option("--keep-names", is_flag=True, help="Keep the names of inner tensors.")
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT where it exists.")
@click.option("--seed", default=0, show_default=True, help="Chooses the calibration samples.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
def command(model: Path, output: Path, **options: Any) -> Outcome:
    """Quantize MODEL, and compare the result with the float model.

    Recipes: float16, dynamic_wi8_afp32 (dynamic), dynamic_wi4_afp32, weight_only_wi8_afp32,
    weight_only_wi4_afp32, static_wi8_ai8 (int8), static_wi8_ai16 (int16x8), static_wi4_ai8 (int4), or a
    TOML file with rules per layer.
    """
    import edgekit

    searched = taken(options)
    if searched["auto"]:
        return auto(model, output, options, searched, dry_run=options["dry_run"])
    evaluation_data, metric = options.pop("evaluate"), options.pop("metric")
    max_drop = options.pop("max_drop")
    if options.pop("dry_run"):
        return _plan(model, output, options)
    if max_drop is not None and evaluation_data is None:
        raise _no_drop()
    with progress(f"quantizing {model.name}") as advance:
        quantized = edgekit.quantize(model, output, progress=advance, **options)
    if evaluation_data is None:
        steps = [command_line("evaluate", output, "--data", "DATA"), command_line("benchmark", output)]
        return Outcome(quantized.describe(), _view(quantized), quantized.findings, next_steps=steps)
    with progress(f"evaluating on {evaluation_data}") as advance:
        judged = edgekit.before_and_after(
            model, output, evaluation_data, metric=metric, preprocess=options["preprocess"], progress=advance
        )
    result = {**quantized.describe(), "evaluation": judged.describe()}
    view: list[RenderableType] = [*_view(quantized), judged.sentence()]
    findings = [*quantized.findings, *judged.findings]
    # Keras files and SavedModels are what one trains with: they cannot be benchmarked.
    runnable = [path for path in (model, output) if path.suffix in {".tflite", ".onnx"}]
    following = [command_line("benchmark", *runnable)]
    if max_drop is None:
        return Outcome(result, view, findings, next_steps=following)
    # The engine and the recipe are those that were chosen, whatever chose them.
    chosen = {**options, "recipe": quantized.recipe, "target": None, "keep_float": ()}
    diagnosis = _diagnosis(model, output, judged, evaluation_data, max_drop=max_drop, options=chosen)
    result["diagnosis"] = None if diagnosis is None else diagnosis.describe()
    if diagnosis is None:
        return Outcome(result, view, findings, next_steps=following)
    return Outcome(result, view, [*findings, diagnosis.finding], status="failed", exit_code=1)


def _diagnosis(
    model: Path,
    output: Path,
    judged: "BeforeAfter",
    data: str,
    *,
    max_drop: float,
    options: dict[str, Any],
) -> "Diagnosis | None":
    """Why the drop is above the limit, and what mends it; None where it is not."""
    from edgekit.workflows.diagnosis import diagnose

    if judged.drop is None:
        raise _no_drop()
    limit = max_drop / 100 if judged.after.unit == "fraction" else max_drop
    if judged.drop.drop <= limit:
        return None
    with progress("looking for what mends it") as advance:
        return diagnose(
            model,
            output,
            data,
            calibration=options["calibration"] or data,
            limit=limit,
            metric=judged.after.metric,
            options=options,
            progress=advance,
        )


def _no_drop() -> UsageError:
    return UsageError(
        "EK568",
        "--max-drop needs the drop of a metric with labels.",
        "Add --evaluate DATA with labels, and leave --metric out or choose one that needs them.",
    )


def _plan(model: Path, output: Path, options: dict[str, Any]) -> Outcome:
    """What would be done, for ``--dry-run``."""
    import edgekit
    from edgekit.verbs.quantize import plan_quantize

    source = edgekit.open_artifact(model)
    names = ("recipe", "target", "format", "engine", "keep_float", "effort", "equalize")
    plan = plan_quantize(source.format, output, **{name: options[name] for name in names})
    lines = [f"{model} ({plan.source_format}) to {output} ({plan.output_format}) by {plan.recipe.name}"]
    lines += [f"  {candidate.engine}: {', '.join(candidate.steps)}" for candidate in plan.candidates]
    lines += [f"  not {name}: {reason}" for name, reason in plan.refused.items()]
    return Outcome(plan.describe(), ["\n".join(lines)])


def _view(quantized: "Quantized") -> list["Table"]:
    tables = [_summary(quantized)]
    if len(quantized.attempts) > 1:
        tables.append(_attempts(quantized))
    return tables


def _summary(quantized: "Quantized") -> "Table":
    """Before and after, side by side."""
    from rich.table import Table

    from edgekit.cli._tensors import shapes

    before, after = quantized.source, quantized.artifact
    operators = quantized.read_back.describe_operators()
    table = Table(title=f"{after.path} by {quantized.recipe.name} ({quantized.engine})", title_justify="left")
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="right" if heading else "left")
    ratio = after.size_bytes / before.size_bytes
    table.add_row("size", f"{before.size_bytes:,} B", f"{after.size_bytes:,} B ({ratio:.0%})")
    table.add_row("inputs", shapes(before.inputs), shapes(after.inputs))
    table.add_row("outputs", shapes(before.outputs), shapes(after.outputs))
    table.add_row("operators", "", f"{operators['quantized']} quantized, {operators['float']} float")
    for name, difference in quantized.read_back.differences.items():
        distance = f"SNR {difference.snr_db:.1f} dB, largest difference {difference.max_abs:.3g}"
        table.add_row(f"output {name}", "", distance)
    return table


def _attempts(quantized: "Quantized") -> "Table":
    """Every engine that was tried, the chosen one marked."""
    from rich.table import Table

    table = Table(title="engines tried, judged on samples held back from calibration", title_justify="left")
    for heading in ("engine", "SNR", "size", ""):
        table.add_column(heading, justify="left" if heading in {"engine", ""} else "right")
    for attempt in quantized.attempts:
        mark = "kept" if attempt.engine == quantized.engine else attempt.error
        snr = f"{attempt.read_back.snr_db:.1f} dB" if attempt.read_back else ""
        size = f"{attempt.size_bytes:,} B" if attempt.size_bytes else ""
        table.add_row(attempt.engine, snr, size, mark)
    return table
