"""``edgekit evaluate``: how good a model is on samples."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._devices import chosen_devices, device_delegate, device_options, findings_of
from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from edgekit.devices.device import Device
    from edgekit.verbs.evaluate import Evaluation
    from edgekit.workflows.evaluate_on_devices import DeviceEvaluation

_EPILOG = """\b
Examples:
  edgekit evaluate model.tflite --data test.npz
  edgekit evaluate model.tflite --data photos/ --preprocess imagenet-torch
  edgekit evaluate model.int8.tflite --data test.npz --metric snr --reference model.keras
  edgekit evaluate autoencoder.tflite --data test.npz --metric auc --save-predictions rows.npz
  edgekit evaluate model.int8.tflite --data test.npz --device pi4 --device phone
"""
_MAX_CONFUSION = 100
_SHOWN_CLASSES = 20
_SHOWN_DIFFERING = 10
# With these a runtime runs as it does here.
_USUAL = ("xnnpack", "CPUExecutionProvider", "none", "unknown")


@edgekit_command(epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="Samples: .npz, .npy, folder of images, spec, FILE.py:function.",
)
@click.option(
    "--metric", metavar="NAME", help="top1, top5, auc, map, mse, mae, snr, agreement.  [default: what fits]"
)
@click.option("--reference", metavar="MODEL", help="Compare with this model's outputs; needs no labels.")
@click.option("--runtime", metavar="NAME", help="What executes the model.  [default: its format's]")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Only N samples, evenly spread.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: one per core]"
)
@click.option(
    "--preprocess", metavar="SPEC", help="Preprocessing contract of the samples; none ignores the lineage's."
)
@click.option(
    "--save-predictions",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write outputs, labels and digests to this .npz, one row per sample.",
)
@device_options
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads on a device."
)
@click.option("--no-host", is_flag=True, help="Do not compare a device's answers with this machine's.")
@click.option("--no-resume", is_flag=True, help="Ask for all samples, also those of a run that broke off.")
@click.option("--overwrite", is_flag=True, help="Replace the file of --save-predictions.")
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and stop.")
def command(model: Path, data: str, *, overwrite: bool, dry_run: bool, **options: Any) -> Outcome:
    """Measure how good MODEL is on labelled samples.

    Or, without labels, how near it is to a reference model. It runs in the runtime that it is deployed with. On
    devices every answer is compared with this machine's, and every sample that differs is listed.
    """
    from edgekit.files import check_output
    from edgekit.verbs.evaluate import evaluate, planned

    devices = chosen_devices(options.pop("devices"))
    on_device = {key: options.pop(key) for key in ("threads", "delegate", "no_host", "no_resume")}
    on_device["delegate"] = device_delegate(on_device["delegate"], is_on_device=bool(devices))
    saved = options["save_predictions"]
    if saved is not None:
        check_output(saved, overwrite=overwrite)
    if dry_run:
        keys = ("metric", "reference", "runtime", "samples", "preprocess")
        choices = {key: options[key] for key in keys}
        if devices:
            choices["runtime"] = None  # that of the device, which is not asked now
        plan, findings = planned(model, data, **choices)
        places = [f" on {device.name}" for device in devices] or [""]
        step = "measure {metric} of {model} in {runtime} on {n} samples".format(**plan)
        view = [f"would {step}{place}" for place in places]
        return Outcome({"dry_run": True, **plan}, view=view, findings=findings)
    if devices:
        return _on_devices(model, data, devices, on_device, options)
    with progress(f"evaluating {model.name}") as advance:
        evaluation = evaluate(model, data, progress=advance, **options)
    return Outcome(
        _result(evaluation),
        view=_view(evaluation),
        findings=evaluation.findings,
        next_steps=[command_line("benchmark", model)],
    )


def _on_devices(
    model: Path,
    data: str,
    devices: "Sequence[Device]",
    on_device: dict[str, Any],
    options: dict[str, Any],
) -> Outcome:
    from edgekit.findings import Finding, Level
    from edgekit.workflows.evaluate_on_devices import DeviceOptions, evaluate_on_devices

    if options["save_predictions"] is not None and len(devices) > 1:
        raise UsageError("EK426", "--save-predictions takes one device.", "Evaluate one device at a time.")
    options.pop("workers")
    how = DeviceOptions(
        options.pop("runtime"),
        on_device["threads"],
        on_device["delegate"],
        with_host=not on_device["no_host"],
        resume=not on_device["no_resume"],
    )
    with progress(f"evaluating {model.name}") as advance:
        found = evaluate_on_devices(model, data, devices, options=how, progress=advance, **options)
    findings = findings_of({one.device.name: one.evaluation.findings for one in found if one.evaluation})
    errors = [one.error for one in found if one.error]
    findings += [Finding(error.code, error.message, error.hint, Level.ERROR) for error in errors]
    documents = [
        one.describe() if one.evaluation is None else {**one.describe(), **_result(one.evaluation)}
        for one in found
    ]
    return Outcome(
        documents[0] if len(documents) == 1 else {"devices": documents},
        view=_device_view(found),
        findings=findings,
        status="failed" if errors else "ok",
        exit_code=errors[0].exit_code if errors else 0,
        next_steps=[command_line("benchmark", model, "--device", devices[0].name)],
    )


def _device_view(found: "Sequence[DeviceEvaluation]") -> "list[RenderableType]":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("device")
    for heading in (
        "metric",
        "value",
        "95% interval",
        "n",
        "samples/s",
        "runtime",
        "as on the host",
        "largest difference",
    ):
        table.add_column(heading, justify="right")
    parts: list[RenderableType] = [table]
    for one in found:
        evaluation, agreement = one.evaluation, one.agreement
        if evaluation is None:
            table.add_row(one.device.name, "failed")
            continue
        low, high = (_shown(end, evaluation.unit) for end in evaluation.ci95)
        row = [
            one.device.name,
            evaluation.metric,
            _shown(evaluation.value, evaluation.unit),
            f"{low} to {high}",
        ]
        row += [
            str(evaluation.n),
            f"{evaluation.samples_per_second:,.1f}",
            _where(evaluation.runtime, one.delegate),
        ]
        if agreement is not None:
            units = "" if agreement.max_units is None else f" ({agreement.max_units:.3g} units)"
            row += [_shown(agreement.value, "fraction"), f"{agreement.max_abs:.3g}{units}"]
            listed = [
                f"{item.sample}" if item.host is None else f"{item.sample} ({item.host} -> {item.device})"
                for item in agreement.differing[:_SHOWN_DIFFERING]
            ]
            if listed:
                left = len(agreement.differing) - len(listed)
                more = f" and {left} more: see --json" if left else ""
                parts.append(f"{one.device.name} differs from the host in sample {', '.join(listed)}{more}")
        table.add_row(*row)
    return parts


def _where(runtime: str, delegate: str) -> str:
    """The runtime, and what accelerates it where that is not its usual kernels."""
    return runtime if delegate in _USUAL else f"{runtime}, {delegate}"


def _result(evaluation: "Evaluation") -> dict[str, Any]:
    """The document; a confusion matrix of a thousand classes would have a million numbers."""
    document = evaluation.describe()
    confusion = evaluation.confusion
    if confusion is not None and len(confusion) > _MAX_CONFUSION:
        document["confusion"] = None
    return document


def _view(evaluation: "Evaluation") -> "list[RenderableType]":
    low, high = (_shown(end, evaluation.unit) for end in evaluation.ci95)
    value = _shown(evaluation.value, evaluation.unit)
    head = f"{evaluation.metric} {value}  (95% interval {low} to {high}, n = {evaluation.n})"
    speed = (
        f"{evaluation.samples_per_second:,.0f} samples per second in {evaluation.workers} process(es) "
        f"of {evaluation.runtime}; {evaluation.seconds:.1f} s in all"
    )
    return [head, *_tables(evaluation), speed]


def _tables(evaluation: "Evaluation") -> "list[RenderableType]":
    from rich.table import Table

    if len(evaluation.per_class) < 2:
        return []
    worst = sorted(evaluation.per_class, key=lambda item: item["value"])[:_SHOWN_CLASSES]
    by_output = "output" in worst[0]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("output" if by_output else "class")
    for heading in ("n", evaluation.metric, "95% interval", "" if by_output else "mostly taken for"):
        table.add_column(heading, justify="right")
    for item in worst:
        low, high = (_shown(end, evaluation.unit) for end in item["ci95"])
        table.add_row(
            str(item["output"] if by_output else item["name"]),
            str(item["n"]),
            _shown(item["value"], evaluation.unit),
            f"{low} to {high}",
            "" if by_output else _confused(evaluation, item["class"]),
        )
    left_out = len(evaluation.per_class) - len(worst)
    return [table, *([f"and {left_out} better ones: see --json"] if left_out else [])]


def _confused(evaluation: "Evaluation", label: int) -> str:
    """The class that a label's samples are most often taken for: ``dog (31)``."""
    if evaluation.confusion is None:
        return ""
    row = evaluation.confusion[label].copy()
    row[label] = 0
    if not row.any():
        return ""
    other = int(row.argmax())
    names = {item["class"]: item["name"] for item in evaluation.per_class}
    return f"{names.get(other, other)} ({row[other]})"


def _shown(value: float, unit: str) -> str:
    if unit == "fraction":
        return f"{100 * value:.2f}%"
    return f"{value:.2f} dB" if unit == "dB" else f"{value:.6g}"
