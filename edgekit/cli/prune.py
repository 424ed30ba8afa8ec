"""``edgekit prune``: whole channels removed, or zeros among the weights."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome
from edgekit.cli._training import chosen_teacher, epoch_progress, outcome, teacher_options, training_options

_EPILOG = """\b
Examples:
  edgekit prune model.keras -o half.keras --train train.npz --structured --target-macs 50%
  edgekit prune model.keras -o small.keras --train train.npz --structured --target-size 32KB --precision int8
  edgekit prune model.keras -o tiny.keras --train train.npz --structured --target-macs 30% --teacher large.tflite
  edgekit prune model.keras -o fast.keras --train train.npz --structured --target-latency 0.6 --steps 3 --epochs 9
  edgekit prune model.keras -o sparse.keras --train train.npz --sparsity 0.8 --tflite sparse.tflite
"""


def _layers(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    """``REGEX=SPARSITY`` as a mapping."""
    rules = {}
    for text in given:
        pattern, _equals, number = text.rpartition("=")
        try:
            rules[pattern] = float(number)
        except ValueError:
            raise click.BadParameter(f"{text!r} is not REGEX=SPARSITY, such as '^dense=0.9'.") from None
        if not pattern or not 0 <= rules[pattern] < 1:
            raise click.BadParameter(f"{text!r} is not REGEX=SPARSITY with a sparsity from 0 to less than 1.")
    return rules


_STRUCTURED = [
    click.option("--structured", is_flag=True, help="Remove whole channels, which makes every runtime faster."),
    click.option("--target-macs", metavar="SHARE|NUMBER", help="Multiply-accumulates to reach: 50%, or 6000000."),
    click.option("--target-size", metavar="SHARE|SIZE", help="Size of the .tflite file to reach: 32KB, or 40%."),
    click.option("--target-latency", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="RATIO",
                 help="Latency to reach on this machine, relative to the model as it is: 0.6."),
    click.option("--precision", type=click.Choice(["float32", "int8", "int4", "int4-per-tensor"]), default="float32",
                 show_default=True, help="Of the file that --target-size and --target-latency are about."),
    click.option("--eight-bit", multiple=True, metavar="REGEX",
                 help="With a --precision of 4 bits: layers whose weights keep 8 bits. May be repeated."),
    click.option("--criterion", type=click.Choice(["l1", "l2", "batch-norm", "taylor"]), default="l2",
                 show_default=True, help="What tells the importance of a channel; taylor asks the samples."),
    click.option("--scope", type=click.Choice(["global", "layer"]), default="global", show_default=True,
                 help="Rank all channels together, or take the same share of each layer."),
    click.option("--min-channels", type=click.IntRange(min=1), default=4, show_default=True,
                 help="Channels that every layer keeps."),
    click.option("--min-share", type=click.FloatRange(0, 1), default=0.25, show_default=True,
                 help="Share of its channels that every layer keeps."),
    click.option("--multiple", type=click.IntRange(min=1), default=4, show_default=True,
                 help="Keep multiples of so many channels, as kernels like them."),
    click.option("--steps", type=click.IntRange(min=1), default=1, show_default=True,
                 help="Remove channels in so many parts, with training after each."),
    click.option("--benchmark/--no-benchmark", default=True, show_default=True,
                 help="Measure the latency before and after."),
    click.option("--exclude", multiple=True, metavar="REGEX", help="Layers that stay as they are. May be repeated."),
]  # fmt: skip
_SPARSE = [
    click.option("--sparsity", type=click.FloatRange(0, 1, max_open=True), default=0.5, show_default=True,
                 help="Share of the weights that become zero."),
    click.option("--pattern", default="unstructured", show_default=True, metavar="PATTERN",
                 help="unstructured, 2:4, 4:8, or block:HxW."),
    click.option("--schedule", type=click.Choice(["constant", "polynomial"]), default="polynomial", show_default=True,
                 help="How the sparsity grows."),
    click.option("--begin-step", type=click.IntRange(min=0), default=0, show_default=True,
                 help="First step that prunes."),
    click.option("--end-step", type=click.IntRange(min=1), help="Step of the full sparsity.  [default: two thirds]"),
    click.option("--frequency", type=click.IntRange(min=1), default=100, show_default=True,
                 help="Steps between two prunings."),
    click.option("--layer", "layers", multiple=True, metavar="REGEX=SPARSITY", callback=_layers,
                 help="Another sparsity for some layers; the last that matches counts. May be repeated."),
    click.option("--sparse-encoding", is_flag=True, help="Store only the weights that are not zero in --tflite."),
]  # fmt: skip


def _pruning_options(command: Any) -> Any:
    for option in reversed([*_STRUCTURED, *_SPARSE]):
        command = option(command)
    return command


@edgekit_command(epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@training_options
@teacher_options()
@_pruning_options
def command(model: Path, output: Path, **options: Any) -> Outcome:
    """Remove what a Keras model needs least, and train the rest.

    With --structured whole channels go, and every runtime gets faster. Without it weights become zero: the file is
    smaller once it is compressed, and few runtimes are faster.
    """
    import edgekit

    teacher = chosen_teacher(options)
    with epoch_progress(f"training {model.name}", options["epochs"]) as report:
        trained = edgekit.prune(model, output, teacher=teacher, progress=report, **options)
    return outcome(trained, list(_lines(trained.report)))


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What became of the model, in sentences."""
    if "layers" in report:
        changed = [layer for layer in report["layers"] if layer["after"] < layer["before"]]
        listed = ", ".join(f"{layer['name']} {layer['before']} to {layer['after']}" for layer in changed)
        yield f"Channels: {listed}."
        for name in ("parameters", "macs"):
            before, after = report[name]["before"], report[name]["after"]
            label = "MACs" if name == "macs" else name
            yield f"{before:,} {label} before, {after:,} after ({after / max(before, 1):.0%})."
    if "kernels" in report:
        gone = sum(kernel["zeros"] for kernel in report["kernels"])
        yield f"{gone:,} of {report['weights']:,} weights are zero ({report['sparsity']:.0%})."
        listed = ", ".join(f"{kernel['layer']} {kernel['sparsity']:.1%}" for kernel in report["kernels"])
        yield f"Sparsity by layer: {listed}."
        if report["dense_layers"]:
            yield f"These stay dense: {', '.join(report['dense_layers'])}."
    for precision, pair in report["files"].items():
        before, after = pair["before"], pair["after"]
        yield (
            f"{precision} .tflite: {before['size_bytes']:,} B before, {after['size_bytes']:,} B after; "
            f"gzip {before['gzip_bytes']:,} B before, {after['gzip_bytes']:,} B after."
        )
    for precision, found in (report["latency"] or {}).items():
        interval = found["ratio_ci95"]
        within = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
        yield (
            f"{precision} latency: {found['before_ms']:.3g} ms before, {found['after_ms']:.3g} ms after, "
            f"ratio {found['ratio']:.2f}{within}."
        )
