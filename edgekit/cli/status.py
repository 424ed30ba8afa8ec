"""``edgekit status``: what is in service on a device."""

from typing import TYPE_CHECKING

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgekit.verbs.status import DeviceStatus

_EPILOG = "Example: edgekit status --device ssh://pi@rpi4"
_DAMAGED = 5


@edgekit_command(epilog=_EPILOG)
@click.option("--device", required=True, metavar="NAME|URL", help="The device.")
def command(device: str) -> Outcome:
    """Say what is in service on a device, and whether it is whole.

    The digests of all files are computed there. What is in service and damaged makes the exit code 5.
    """
    from edgekit.verbs.status import status

    found = status(device)
    return Outcome(
        found.describe(),
        view=_view(found),
        findings=found.findings,
        status="ok" if found.ok else "failed",
        exit_code=0 if found.ok else _DAMAGED,
    )


def _view(found: "DeviceStatus") -> "list[RenderableType]":
    from rich.table import Table

    free = "" if found.free_bytes is None else f", {found.free_bytes / 1e6:,.0f} MB free"
    notes = [f"{found.deploying} deploys at this moment."] if found.deploying else []
    if found.kept_files:
        size = sum(file.size_bytes for file in found.kept_files) / 1e6
        notes.append(f"{size:,.1f} MB of benchmarks, evaluations and set-ups lie there too.")
    if not found.releases:
        return [f"Nothing is deployed on {found.device} ({found.folder}{free}).", *notes]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("release", "", "model"):
        table.add_column(heading)
    table.add_column("kB", justify="right")
    for heading in ("in service since", "by", "files"):
        table.add_column(heading)
    for release in found.releases:
        table.add_row(
            release.release[:12],
            release.state,
            release.model or "?",
            "?" if release.size_bytes is None else f"{release.size_bytes / 1000:,.1f}",
            release.since or "?",
            release.by or "?",
            release.damage or "verified",
        )
    return [table, f"{found.path} on {found.device}{free}", *notes]
