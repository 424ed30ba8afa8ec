"""``edgekit convert``: another format, the same outputs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._options import batch_option
from edgekit.cli._output import Outcome, command_line, progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from edgekit.fidelity import Fidelity
    from edgekit.verbs.convert import Converted, Twin

_EPILOG = """\b
Examples:
  edgekit convert model.keras -o model.tflite --data test.npz
  edgekit convert saved_model/ -o model.onnx --check-both
  edgekit convert model.pt2 -o model.tflite --data test.npz
  edgekit toolchain install onnx2tf; edgekit convert model.onnx -o model.tflite
  edgekit convert net.py:make -o model.tflite --layout nhwc
  edgekit convert model.keras -o model.tflite --bisect failing/
  edgekit convert model.tflite -o model.onnx --data images/ --preprocess imagenet-torch --check-samples 100
"""


@edgekit_command(epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write (.tflite, .onnx)."
)
@click.option(
    "-f", "--format", type=click.Choice(["tflite", "onnx"]), help="Output format.  [default: OUTPUT's suffix]"
)
@click.option(
    "--data", metavar="DATA", help="Samples to compare outputs on: .npz, .npy, folder, spec, FILE.py:f."
)
@click.option("--preprocess", metavar="SPEC", help="Preprocessing contract of the samples.")
@click.option(
    "--check-samples",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    metavar="N",
    help="How many samples are compared; random ones without --data.",
)
@batch_option()
@click.option(
    "--layout",
    type=click.Choice(["keep", "nhwc", "nchw"]),
    default="keep",
    show_default=True,
    help="How images lie in inputs and outputs.",
)
@click.option(
    "--check-both", is_flag=True, help="Write the other format beside OUTPUT too, and compare the two."
)
@click.option(
    "--bisect",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="If the conversion fails, write the smallest part that fails to DIR.",
)
@click.option("--overwrite", is_flag=True, help="Replace what exists.")
@click.option("--seed", default=0, show_default=True, help="Chooses random samples.")
@click.option("--dry-run", is_flag=True, help="Print the steps and stop.")
def command(model: Path, output: Path, **options: Any) -> Outcome:
    """Convert MODEL to .tflite or .onnx, and compare their outputs.

    MODEL is a Keras file, a SavedModel, a .tflite or .onnx file, a program of PyTorch (.pt2), or FILE.py:function,
    which is run and returns a PyTorch module with its example inputs. A result that computes something else is
    refused; smaller differences are findings.
    """
    import edgekit

    if options.pop("dry_run"):
        return _plan(model, output, options["format"])
    with progress(f"converting {model.name}") as advance:
        converted = edgekit.convert(model, output, progress=advance, **options)
    steps = [
        command_line(
            "quantize", output, "-o", output.with_stem(f"{output.stem}_int8"), "--calibration", "DATA"
        ),
        command_line("benchmark", output),
    ]
    tables = [_summary(converted), *([_twin(converted.twin)] if converted.twin else [])]
    return Outcome(converted.describe(), tables, converted.findings, next_steps=steps)


def _plan(model: Path, output: Path, format_name: str | None) -> Outcome:
    """What would be done, for ``--dry-run``."""
    from edgekit.verbs.convert import find_route

    route = find_route(model, output, format_name)
    line = f"{model} to {output} by {route.converter}: {', '.join(route.steps)}"
    return Outcome({"converter": route.converter, "steps": list(route.steps)}, [line])


def _summary(converted: "Converted") -> "Table":
    """Source and result, side by side."""
    from rich.table import Table

    from edgekit.cli._tensors import shapes

    source, made = converted.source, converted.artifact
    table = Table(title=f"{made.path} by {converted.converter}", title_justify="left")
    for heading in ("", "source", "converted"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row("format", source.format.value, made.format.value)
    table.add_row("size", f"{source.size_bytes:,} B", f"{made.size_bytes:,} B")
    table.add_row("inputs", shapes(source.inputs), shapes(made.inputs))
    table.add_row("outputs", shapes(source.outputs), shapes(made.outputs))
    for name, distance in _distances(converted.fidelity):
        table.add_row(name, "", distance)
    return table


def _twin(twin: "Twin") -> "Table":
    """The other format, beside the source and beside the first file."""
    from rich.table import Table

    table = Table(title=f"{twin.artifact.path} by {twin.converter}", title_justify="left")
    for heading in ("", "against the source", "against the other file"):
        table.add_column(heading, justify="right" if heading else "left")
    # Both have the same outputs, by the names that each has.
    for (name, first), (_name, second) in zip(
        _distances(twin.fidelity), _distances(twin.between), strict=True
    ):
        table.add_row(name, first, second)
    return table


def _distances(fidelity: "Fidelity") -> "Iterator[tuple[str, str]]":
    """What to say of each output."""
    for name, found in fidelity.differences.items():
        yield f"output {name}", f"SNR {found.snr_db:.1f} dB, largest difference {found.max_abs:.3g}"
        share = fidelity.top1_agreement.get(name)
        if share is not None:
            yield "same top 1", f"{round(share * fidelity.samples)} of {fidelity.samples}"
