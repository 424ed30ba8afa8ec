"""``edgekit inspect``: what a model consists of."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from edgekit.artifact import TensorSpec
    from edgekit.inspection import Inspection

_EPILOG = """\b
Examples:
  edgekit inspect model.tflite
  edgekit inspect model.onnx --ops
  edgekit inspect model.keras --json
"""


@edgekit_command(epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--ops", is_flag=True, help="List every operator in the order in which they run.")
@click.option("--tensors", is_flag=True, help="List every tensor with its scales and zero points.")
def command(model: Path, *, ops: bool, tensors: bool) -> Outcome:
    """Show what MODEL consists of, and what is still float.

    Inputs, outputs, operators, parameters, multiply-accumulates and bytes.
    """
    import edgekit

    with progress(f"reading {model.name}"):
        inspection = edgekit.inspect(model)
    view: list[RenderableType] = [_summary(inspection), _ends(inspection)]
    if inspection.operators:
        view.append(_kinds(inspection))
    if ops:
        view.append(_operators(inspection))
    if tensors:
        view.append(_tensors(inspection))
    result = inspection.describe(with_ops=ops, with_tensors=tensors)
    return Outcome(result, view, inspection.findings, next_steps=_next(inspection, model))


def _next(inspection: "Inspection", model: Path) -> list[str]:
    if not inspection.operators:
        return []
    if not inspection.floats:
        return [command_line("benchmark", model)]
    suffix = "onnx" if inspection.artifact.format == "onnx" else "tflite"
    return [command_line("quantize", model, "-o", f"{model.stem}_int8.{suffix}", "--calibration", "DATA")]


def _summary(inspection: "Inspection") -> "Text":
    from rich.text import Text

    artifact = inspection.artifact
    lines = [f"{artifact.path}: {artifact.format.value}, {artifact.size_bytes:,} bytes"]
    if inspection.operators:
        is_complete = all(facts.macs is not None for facts in inspection.operators)
        macs = _count(inspection.macs) + (" MACs per sample" if is_complete else " MACs per sample at least")
        lines.append(f"{inspection.parameters:,} parameters, {macs}")
        lines.append(f"{len(inspection.counted)} operators, {len(inspection.floats)} of them in float")
    if inspection.opset is not None:
        lines.append(f"opset {inspection.opset}")
    if artifact.format == "tflite":
        lines.append("no signature" if inspection.signature is None else f"signature {inspection.signature}")
    return Text("\n".join(lines))


def _ends(inspection: "Inspection") -> "Table":
    table = _table("Inputs and outputs", "", "name", "shape", "dtype", "scale", "zero point")
    for side, specs in (("in", inspection.artifact.inputs), ("out", inspection.artifact.outputs)):
        for spec in specs:
            _add(table, side, spec.name, _shape(spec.shape), spec.dtype, *_scale(spec))
    return table


def _scale(spec: "TensorSpec") -> tuple[str, str]:
    if spec.quantization is None:
        return "", ""
    return f"{spec.quantization.scales[0]:.6g}", str(spec.quantization.zero_points[0])


def _kinds(inspection: "Inspection") -> "Table":
    table = _table(
        "Operators", "op", "#count", "#float", "values", "weights", "#MACs", "#parameters", "#bytes"
    )
    for kind in inspection.kinds:
        unknown = "?" if kind.macs_unknown else ""
        _add(
            table,
            kind.kind,
            str(kind.count),
            str(kind.float_count or ""),
            ", ".join(kind.activation_dtypes),
            ", ".join(kind.weight_dtypes),
            (_count(kind.macs) if kind.macs else "") + unknown,
            f"{kind.parameters:,}" if kind.parameters else "",
            f"{kind.weight_bytes:,}" if kind.weight_bytes else "",
        )
    return table


def _operators(inspection: "Inspection") -> "Table":
    table = _table("Every operator", "##", "op", "output", "shape", "dtype", "#MACs", "#bytes")
    for index, facts in enumerate(inspection.operators):
        output = facts.operator.outputs[0] if facts.operator.outputs else None
        _add(
            table,
            str(index),
            facts.operator.kind,
            output.name if output else "",
            _shape(output.shape) if output else "",
            output.dtype if output else "",
            "?" if facts.macs is None else _count(facts.macs) if facts.macs else "",
            f"{facts.weight_bytes:,}" if facts.weight_bytes else "",
        )
    return table


def _tensors(inspection: "Inspection") -> "Table":
    table = _table("Every tensor", "name", "shape", "dtype", "#bytes", "scale", "zero point")
    for tensor in inspection.tensors:
        more = f" and {len(tensor.scales) - 1} more" if len(tensor.scales) > 1 else ""
        _add(
            table,
            tensor.name,
            _shape(tensor.shape),
            tensor.dtype,
            f"{tensor.size_bytes:,}" if tensor.size_bytes else "",
            f"{tensor.scales[0]:.6g}{more}" if tensor.scales else "",
            str(tensor.zero_points[0]) if tensor.zero_points else "",
        )
    return table


def _table(title: str, *columns: str) -> "Table":
    """A table; a column whose name begins with # holds numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        is_number = column.startswith("#")
        table.add_column(column.removeprefix("#"), justify="right" if is_number else "left")
    return table


def _add(table: "Table", *cells: str) -> None:
    """A row of plain text: names of tensors may look like Rich's markup."""
    from rich.text import Text

    table.add_row(*map(Text, cells))


def _shape(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _count(number: int) -> str:
    """``12_345_678`` is ``12.3 M``."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
