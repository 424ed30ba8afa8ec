"""``edgekit device setup``: a device gets what it needs to run models."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgekit.runtime_setup import RuntimeSetup
    from edgekit.setup_plan import SetupPlan

_EPILOG = """\b
Examples:
  edgekit device setup pi --runtime litert
  edgekit device setup pi --runtime litert --dry-run
  edgekit device setup pi --runtime litert --fetch-only --wheels wheels/
  edgekit device setup pi --runtime litert --wheels wheels/
  edgekit device setup board --native
  edgekit device setup phone --native --library libtensorflowlite_c.so
"""
_MIB = 1 << 20


@edgekit_command(name="setup", epilog=_EPILOG)
@click.argument("device", metavar="DEVICE")
@click.option(
    "--runtime",
    metavar="NAME",
    help="What will run models there: litert, onnxruntime, tflite_runtime.",
)
@click.option("--native", is_flag=True, help="The runner in C, compiled here, for a device without Python.")
@click.option(
    "--library",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --native: the TFLite C library for the device.  [default: LiteRT's]",
)
@click.option(
    "--wheels",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Take the packages from this folder and reach no package index.",
)
@click.option("--fetch-only", is_flag=True, help="Fetch the packages into FOLDER or the cache, and stop.")
@click.option(
    "--python", default="python3", show_default=True, metavar="PATH", help="The Python on the device."
)
@click.option("--with-webgpu", is_flag=True, help="Bring LiteRT's WebGPU accelerator too.")
@click.option("--dry-run", is_flag=True, help="Say what would be brought to the device and why, and stop.")
def command(
    device: str,
    runtime: str | None,
    *,
    native: bool,
    fetch_only: bool,
    dry_run: bool,
    with_webgpu: bool,
    **options: Any,
) -> Outcome:
    """Bring a runtime to DEVICE, and try it there.

    Packages are fetched with pip on this computer, for the device's Python, C library and processor; the device
    needs neither pip nor a network. What worked before is replaced only once the new runtime has run a model.
    """
    from edgekit.verbs.device_setup import device_setup, fetch_wheels, plan_setup

    if (runtime is None) == (not native):
        raise click.UsageError("Give either --runtime NAME or --native.")
    if options["library"] is not None and not native:
        raise click.UsageError("--library goes with --native.")
    runtime = runtime or "native"
    if dry_run:
        plan = plan_setup(device, runtime, **options)
        return Outcome({"dry_run": True, **plan.describe()}, view=_plan_view(plan))
    if fetch_only:
        with progress("fetching") as advance:
            plan = fetch_wheels(device, runtime, progress=advance, **options)
        how = ["--native"] if native else ["--runtime", runtime]
        folder = [] if options["wheels"] is None else ["--wheels", plan.folder]
        return Outcome(
            {"fetch_only": True, **plan.describe()},
            view=_plan_view(plan),
            next_steps=[command_line("device", "setup", device, *how, *folder)],
        )
    with progress(f"setting up {runtime}") as advance:
        plan, done = device_setup(
            device, runtime, with_webgpu=with_webgpu, say=say, progress=advance, **options
        )
    return Outcome(
        {**plan.describe(), "installed": done.describe()},
        view=_view(plan, done),
        next_steps=[command_line("benchmark", "MODEL", "--device", device)],
    )


def _plan_view(plan: "SetupPlan") -> "list[RenderableType]":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("package", "wheel", "MiB", "why"):
        table.add_column(heading, justify="right" if heading == "MiB" else "left", overflow="fold")
    for package, wheel in zip(plan.packages, plan.wheels, strict=True):
        name = wheel.name if wheel else "to be fetched"
        size = f"{wheel.stat().st_size / _MIB:.1f}" if wheel else ""
        table.add_row(str(package), name, size, package.why)
    if plan.device_numpy:
        table.add_row(
            f"numpy {plan.device_numpy}", "the device's own", "", "there is no wheel for its processor"
        )
    python = f" ({plan.python.path})" if plan.python else ""
    head = f"{plan.runtime} {plan.version} for {plan.where}{python}"
    return [head, f"with {plan.library}"] if plan.library else [head, table, f"from {plan.folder}"]


def _view(plan: "SetupPlan", done: "RuntimeSetup") -> "list[RenderableType]":
    tried = done.trial
    before = f", in place of {done.replaced}" if done.replaced not in {None, done.runtime.version} else ""
    sent, unpacked = done.bytes_sent / _MIB, done.unpacked_bytes / _MIB
    times = f"imported in {tried['runtime_import_ms']:.0f} ms, loaded in {tried['load_ms']:.1f} ms"
    return [
        f"{plan.runtime} {done.runtime.version} is set up{before}: {plan.where}",
        f"sent {sent:.1f} MiB, {unpacked:.1f} MiB lie there, {done.seconds:.1f} s in all",
        f"tried on a tiny model: {times}, delegate {tried['delegate']}",
    ]
