"""``edgekit debug``: which tensor differs first, and whether that is rounding or a defect."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._devices import delegate_option, device_delegate
from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from edgekit.debugging.result import Debugging
    from edgekit.debugging.verdict import TensorReport

_EPILOG = """\b
Examples:
  edgekit debug float.tflite int8.tflite --data test.npz
  edgekit debug float.onnx int8.onnx --data test.npz --samples 100 --html debug.html
  edgekit debug int8.tflite --runtime-b litert_builtin --data test.npz
  edgekit debug int8.tflite --device pi4 --data test.npz
  edgekit debug float.tflite --device pc --delegate gpu --data test.npz
"""
_SHOWN_WORST = 5
_SHOWN_DEFECTS = 5
_SHOWN_NAME = 30
_STYLES = {"defect": "red", "degrades": "yellow", "rounding": "", "identical": "dim"}


@edgekit_command(epilog=_EPILOG)
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="[B]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="Samples: .npz, .npy, folder of images, spec, FILE.py:function; labels play no part.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    metavar="N",
    help="At most N samples, evenly spread.",
)
@click.option("--runtime-a", metavar="NAME", help="What executes A.  [default: its format's]")
@click.option("--runtime-b", metavar="NAME", help="What executes B, or A a second time.")
@click.option("--device", metavar="NAME|URL", help="Run B, or A a second time, on this device.")
@delegate_option
@click.option(
    "--preprocess", metavar="SPEC", help="Preprocessing contract of the samples; none ignores the lineage's."
)
@click.option("--all", "show_all", is_flag=True, help="Show every tensor, not only those that matter most.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page that shows it.")
@click.option("--overwrite", is_flag=True, help="Replace the file of --html.")
@click.option("--dry-run", is_flag=True, help="Say what would be compared, and stop.")
def command(
    a: Path,
    b: Path | None,
    data: str,
    *,
    show_all: bool,
    html: Path | None,
    overwrite: bool,
    dry_run: bool,
    device: str | None,
    delegate: str | None,
    **options: Any,
) -> Outcome:
    """Find the first tensor in which B differs from A.

    Float against quantized, or one model in two runtimes or on two machines: every operator of B is compared with
    what A's makes of the same inputs, which tells rounding from a defect. A defect ends with exit code 1.
    """
    from edgekit.devices import inventory
    from edgekit.files import check_output
    from edgekit.verbs.debug import debug, planned
    from edgekit.workflows.debug_on_device import debug_on_device

    if html is not None:
        check_output(html, overwrite=overwrite)
    where = None if device is None else inventory.resolve(device)
    accelerator = device_delegate(delegate, is_on_device=where is not None)
    if dry_run:
        if where is not None:
            options = {**options, "runtime_b": None, "open_b": lambda _artifact: None}
        plan, findings = planned(a, b, data, **options)
        count = "the" if plan["tensors"] is None else plan["tensors"]
        step = f"compare {count} tensors of {{b}} in {{runtime_b}} with {{a}} in {{runtime_a}} on {{samples}} samples"
        return Outcome({"dry_run": True, **plan}, view=[f"would {step.format(**plan)}"], findings=findings)
    with progress(f"comparing {a.name} with {(b or a).name}") as advance:
        if where is None:
            found = debug(a, b, data, progress=advance, **options)
        else:
            runtime = options.pop("runtime_b")
            found = debug_on_device(
                a, b, data, where, runtime=runtime, delegate=accelerator, progress=advance, **options
            )
    result, written = found.describe(), []
    if html is not None:
        found.write_page(html)
        result["html"] = str(html)
        written.append(f"\nThe same for a browser: {html}")
    failed = found.defect is not None
    return Outcome(
        result,
        view=[
            found.sentence(),
            "",
            _table(found, show_all=show_all),
            *_left_out(found, show_all=show_all),
            *written,
        ],
        findings=found.findings,
        status="failed" if failed else "ok",
        exit_code=int(failed),
        next_steps=[command_line("debug", a, *([b] if b else []), "--data", data, "--html", "debug.html")]
        if html is None and failed and b is not None
        else (),
    )


def _chosen(found: "Debugging", *, show_all: bool) -> "Sequence[TensorReport]":
    """The first that differs, the defects, those that lose most, and the outputs; in graph order."""
    if show_all:
        return found.tensors
    defects = [report for report in found.tensors if report.verdict.value == "defect"][:_SHOWN_DEFECTS]
    losing = [report for report in found.tensors if report.verdict.value != "identical"]
    worst = sorted(losing, key=lambda report: report.own_db)[:_SHOWN_WORST]
    keys = {report.pair.b.key for report in (*defects, *worst, *found.outputs)}
    keys |= {report.pair.b.key for report in (found.first, found.first_loss) if report is not None}
    return [report for report in found.tensors if report.pair.b.key in keys]


def _left_out(found: "Debugging", *, show_all: bool) -> list[str]:
    count = len(found.tensors) - len(_chosen(found, show_all=show_all))
    return [f"and {count} more tensors: --all shows them"] if count else []


def _table(found: "Debugging", *, show_all: bool) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right")
    table.add_column("tensor", overflow="fold")
    table.add_column("op")
    for heading in (
        "SNR\ndB",
        "cosine",
        "largest\ndifference",
        "in\nsteps",
        "cut\noff",
        "alone\ndB",
        "expected\ndB",
    ):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    places = {report.pair.b.key: number for number, report in enumerate(found.tensors, 1)}
    for report in _chosen(found, show_all=show_all):
        document = report.describe()
        table.add_row(
            str(places[report.pair.b.key]),
            Text(_shortened(document["name"])),
            document["op"],
            _decibels(document["snr_db"]),
            f"{document['cosine']:.4f}",
            f"{document['max_abs_difference']:.3g}",
            "-" if document["max_steps"] is None else f"{document['max_steps']:.1f}",
            "-" if document["saturated_share"] is None else f"{100 * document['saturated_share']:.2f}%",
            _decibels(document["own_snr_db"]),
            _decibels(document["expected_snr_db"]),
            Text(document["verdict"], style=_STYLES[document["verdict"]]),
        )
    return table


def _shortened(name: str) -> str:
    """The end of a long name tells more than its beginning: layers share prefixes."""
    return name if len(name) <= _SHOWN_NAME else "\N{HORIZONTAL ELLIPSIS}" + name[-_SHOWN_NAME + 1 :]


def _decibels(value: float) -> str:
    """An SNR for people: ``31.2``, ``equal`` where nothing differs."""
    return "equal" if value == float("inf") else f"{value:.1f}"
