"""``edgekit deploy``: a model on a device, tried there before it goes into service."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._devices import chosen_health_check, service_options
from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgekit.verbs.deploy import Deployment

_EPILOG = """\b
Examples:
  edgekit deploy model.int8.tflite --device ssh://pi@rpi4
  edgekit deploy model.int8.tflite --device rpi4 --health-check test.npz --keep 5
  edgekit deploy model.tflite --device adb://R58M123 --dry-run
"""


@edgekit_command(epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@service_options
@click.option("--preprocess", metavar="SPEC", help="The contract that goes along.  [default: the lineage's]")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="How many releases stay; the current one and the one before always do.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
def command(model: Path, device: str, *, dry_run: bool, **options: Any) -> Outcome:
    """Put MODEL into service on a device, once it was tried there.

    It is sent with its lineage and preprocessing contract, verified and run on the device beside what is in
    service. Only if its outputs are those of this computer, `current` is switched to it, in one step.
    """
    from edgekit.verbs.deploy import deploy, planned

    health_check = chosen_health_check(options)
    if dry_run:
        plan = planned(model, device, preprocess=options["preprocess"], keep=options["keep"])
        return Outcome({"dry_run": True, **plan.describe()}, view=[plan.sentence()], findings=plan.findings)
    with progress(f"sending {model.name}") as advance:
        deployment = deploy(model, device, health_check=health_check, progress=advance, **options)
    return Outcome(
        deployment.describe(),
        view=_view(deployment),
        findings=deployment.findings,
        next_steps=[command_line("status", "--device", device)],
    )


def _view(deployment: "Deployment") -> "list[RenderableType]":
    release = deployment.release[:12]
    if not deployment.switched:
        return [
            f"{deployment.model} is in service on {deployment.device} already, as release {release}.",
            deployment.health.detail,
        ]
    sent = f"{deployment.bytes_sent:,} bytes sent" if deployment.bytes_sent else "it lay there already"
    lines = [
        f"{deployment.model} is in service on {deployment.device} as release {release} ({sent}).",
        deployment.health.detail,
        f"Programs there find it in {deployment.folder}/current.",
    ]
    if deployment.previous:
        lines.append(f"Before it was {deployment.previous[:12]}; `edgekit rollback` goes back to that.")
    if deployment.removed:
        lines.append(f"Removed: {', '.join(digest[:12] for digest in deployment.removed)}.")
    return list(lines)
