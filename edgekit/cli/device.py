"""``edgekit device``: the machines that models run on."""

from typing import TYPE_CHECKING

import click

from edgekit.cli._device_setup import command as setup
from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgekit.verbs.device import DeviceCleaning, DeviceList, DeviceProbe

_EPILOG = """\b
Examples:
  edgekit device add pi4 ssh://pi@raspberrypi.local
  edgekit device list
  edgekit device probe pi4
  edgekit device setup pi4 --runtime litert
  edgekit device clean pi4
"""
_ADD_EPILOG = """\b
Examples:
  edgekit device add pi4 ssh://pi@raspberrypi.local
  edgekit device add lab ssh://lab-pi --ssh-config lab/ssh_config --folder /data/edgekit
  edgekit device add phone adb://R58M123 --no-probe
"""
_CLEAN_EPILOG = """\b
Examples:
  edgekit device clean pi4
  edgekit device clean pi4 --all --dry-run
"""
_PROBE_EPILOG = """\b
Examples:
  edgekit device probe pi4
  edgekit device probe ssh://pi@raspberrypi.local --json
  edgekit device probe local
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Keep, inspect and prepare the devices that models run on.

    A device is named by its URL: local, ssh://USER@HOST[:PORT], ssh://HOST for a Host of ~/.ssh/config, or
    adb://SERIAL. One of the inventory has a short name besides.
    """


@edgekit_command(name="add", epilog=_ADD_EPILOG)
@click.argument("name")
@click.argument("url")
@click.option(
    "--folder", metavar="PATH", help="Where edgekit keeps its files there.  [default: by transport]"
)
@click.option(
    "--ssh-config", type=click.Path(resolve_path=True), metavar="FILE", help="In place of ~/.ssh/config."
)
@click.option("--no-probe", is_flag=True, help="Add it without connecting, also where it is out of reach.")
@click.option("--overwrite", is_flag=True, help="Replace the device that has the name.")
def add(
    name: str, url: str, *, folder: str | None, ssh_config: str | None, no_probe: bool, overwrite: bool
) -> Outcome:
    """Put a device into the inventory under NAME.

    It is asked what it is first; nothing is written where it cannot be reached. No password is ever kept.
    """
    import edgekit
    from edgekit.devices.device import Device

    device = Device(name, url, folder, ssh_config)
    found = edgekit.device_add(device, overwrite=overwrite, connect=not no_probe)
    head = f"added {name}: {url}"
    probed = None if found is None else found.describe()
    if found is None:
        next_steps = [command_line("device", "probe", name)]
        return Outcome({"added": device.describe(), "probe": None}, view=[head], next_steps=next_steps)
    return Outcome(
        {"added": device.describe(), "probe": probed},
        view=[head, *_probe_view(found)],
        findings=found.findings,
        next_steps=_next_steps(found, name),
    )


@edgekit_command(name="list", epilog="Example: edgekit device list")
def list_devices() -> Outcome:
    """List the devices, and those that adb sees besides."""
    import edgekit

    found = edgekit.device_list()
    steps = [] if found.devices else [command_line("device", "add", "NAME", "ssh://USER@HOST")]
    return Outcome(found.describe(), view=_list_view(found), findings=found.findings, next_steps=steps)


@edgekit_command(name="probe", epilog=_PROBE_EPILOG)
@click.argument("device")
def probe(device: str) -> Outcome:
    """Ask DEVICE what it is, how it is, and what can run there.

    Model, processor, memory, disk, system, Python, clocks, temperature, throttling and battery; and for each of
    edgekit's runtimes whether it can run there, or why not. Nothing is left on the device.
    """
    import edgekit

    say(f"asking {device}")
    found = edgekit.device_probe(device)
    return Outcome(
        found.describe(),
        view=_probe_view(found),
        findings=found.findings,
        next_steps=_next_steps(found, device),
    )


@edgekit_command(name="remove", epilog="Example: edgekit device remove pi4")
@click.argument("name")
def remove(name: str) -> Outcome:
    """Take a device out of the inventory.

    What edgekit keeps on the device stays there.
    """
    import edgekit

    device = edgekit.device_remove(name)
    return Outcome({"removed": device.describe()}, view=[f"removed {name}: {device.url}"])


@edgekit_command(name="clean", epilog=_CLEAN_EPILOG)
@click.argument("device")
@click.option("--all", "everything", is_flag=True, help="The models of today too, unless one runs now.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and stop.")
def clean(device: str, *, everything: bool, dry_run: bool) -> Outcome:
    """Remove what runs that are over left on DEVICE.

    Benchmarks and evaluations keep their models there, so that the next run need not send them again, and what is cut
    off leaves pieces. What was not used for a day goes; releases, runtimes and a model that runs now stay.
    """
    import edgekit

    found = edgekit.device_clean(device, everything=everything, dry_run=dry_run)
    return Outcome(found.describe(), view=_clean_view(found))


for subcommand in (add, clean, list_devices, probe, remove, setup):
    command.add_command(subcommand)


def _clean_view(found: "DeviceCleaning") -> "list[RenderableType]":
    lines: list[RenderableType] = [
        f"{file.size_bytes / 1000:>12,.1f} kB  {file.path}" for file in found.removed
    ]
    size = sum(file.size_bytes for file in found.removed) / 1e6
    did = "would remove" if found.dry_run else "removed"
    of = f"{len(found.removed)} of {len(found.files)} files"
    return [*lines, f"{did} {size:,.1f} MB ({of}) from {found.folder} on {found.device}"]


def _list_view(found: "DeviceList") -> "list[RenderableType]":
    from rich.table import Table

    if not found.devices and not found.attached:
        return ["There are no devices yet."]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "URL", "folder", "ssh config"):
        table.add_column(heading, overflow="fold")
    for device in found.devices:
        table.add_row(device.name, device.url, device.folder or "", device.ssh_config or "")
    for attached in found.attached:
        about = ", ".join(filter(None, (attached.model, attached.state)))
        table.add_row("-", f"adb://{attached.serial}", f"not in the inventory ({about})", "")
    return [table]


def _probe_view(found: "DeviceProbe") -> "list[RenderableType]":
    from edgekit.cli._device_view import facts_table, runtimes_table

    return [facts_table(found.facts), "", runtimes_table(found)]


def _next_steps(found: "DeviceProbe", name: str) -> list[str]:
    """Set up the first runtime that can run, where none is yet."""
    possible = [runtime for runtime in found.support if runtime.possible]
    if found.facts.installed_runtimes or not possible:
        return []
    how = ["--runtime", possible[0].name]
    if possible[0].name == "native":
        how = ["--native", *([] if possible[0].version else ["--library", "FILE"])]
    return [command_line("device", "setup", name, *how)]
