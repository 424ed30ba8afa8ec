"""``edgekit device setup``: a device gets what it needs to run models."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgekit.devices.runtime_setup import RuntimeSetup
    from edgekit.verbs.device_setup import SetupPlan

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
@click.option(
    "--native", is_flag=True, help="Bring a runner in C, compiled here, to a device without Python."
)
@click.option(
    "--library",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="With --native: a TFLite C library for the device, as Android's AAR has one.",
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
    library: Path | None,
    fetch_only: bool,
    dry_run: bool,
    with_webgpu: bool,
    **options: Any,
) -> Outcome:
    """Bring a runtime to DEVICE, and try it there.

    The packages are fetched with pip on this computer, for the device's Python, libc and processor; the device needs
    neither pip nor a network. What worked there before is replaced only once the new runtime has run a model.
    """
    from edgekit.verbs.device_setup import device_setup, fetch_wheels, plan_setup

    if native == (runtime is not None) or (library is not None and not native):
        raise click.UsageError("Give either --runtime NAME, or --native with or without --library.")
    if native:
        if fetch_only or with_webgpu:
            raise click.UsageError("--fetch-only and --with-webgpu are for --runtime.")
        return _native(device, library, options["wheels"], dry_run=dry_run)
    assert runtime is not None  # noqa: S101 - refused above
    if dry_run:
        plan = plan_setup(device, runtime, with_webgpu=with_webgpu, **options)
        return Outcome({"dry_run": True, **plan.describe()}, view=_plan_view(plan))
    if fetch_only:
        with progress("fetching") as advance:
            plan = fetch_wheels(device, runtime, with_webgpu=with_webgpu, progress=advance, **options)
        folder = () if options["wheels"] is None else ("--wheels", plan.folder)
        if with_webgpu:
            folder = ("--with-webgpu", *folder)
        return Outcome(
            {"fetch_only": True, **plan.describe()},
            view=_plan_view(plan),
            next_steps=[command_line("device", "setup", device, "--runtime", runtime, *folder)],
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


def _native(device: str, library: Path | None, wheels: Path | None, *, dry_run: bool) -> Outcome:
    from edgekit.verbs.device_setup_native import device_setup_native, plan_native_setup

    if dry_run:
        plan = plan_native_setup(device, library=library, wheels=wheels)
        origin = plan.library or plan.wheel or "a wheel that is to be fetched"
        view = [
            f"would compile the runner for {plan.platform}, and bring it there with the library of {origin}"
        ]
        return Outcome({"dry_run": True, **plan.describe()}, view=view)
    with progress("setting up the native runner") as advance:
        plan, done = device_setup_native(device, library=library, wheels=wheels, progress=advance)
    return Outcome(
        {**plan.describe(), "installed": done.describe()},
        view=_done_view(f"the native runner with TFLite {plan.version} is set up: {plan.platform}", done),
        next_steps=[command_line("benchmark", "MODEL", "--device", device, "--runtime", "native")],
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
    head = f"{plan.runtime} {plan.version} for {plan.python.platform} ({plan.python.path})"
    return [head, table, f"from {plan.folder}"]


def _view(plan: "SetupPlan", done: "RuntimeSetup") -> "list[RenderableType]":
    before = f", in place of {done.replaced}" if done.replaced not in {None, done.runtime.version} else ""
    return _done_view(f"{plan.runtime} {plan.version} is set up{before}: {plan.python.platform}", done)


def _done_view(head: str, done: "RuntimeSetup") -> "list[RenderableType]":
    tried = done.trial
    sent, unpacked = done.bytes_sent / _MIB, done.unpacked_bytes / _MIB
    times = f"imported in {tried['runtime_import_ms']:.0f} ms, loaded in {tried['load_ms']:.1f} ms"
    return [
        head,
        f"sent {sent:.1f} MiB, unpacked {unpacked:.1f} MiB, {done.seconds:.1f} s in all",
        f"tried on a tiny model: {times}, delegate {tried['delegate']}",
    ]
