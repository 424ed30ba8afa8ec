"""``edgekit deploy``: a model on a device, tried there before it goes into service."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

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
@click.option("--device", required=True, metavar="NAME|URL", help="The device.")
@click.option(
    "--health-check",
    metavar="DATA",
    help="Samples that must give the same there as here.  [default: random ones]",
)
@click.option("--no-health-check", is_flag=True, help="Put it into service untried.")
@click.option("--preprocess", metavar="SPEC", help="The contract that goes along.  [default: the lineage's]")
@click.option("--runtime", metavar="NAME", help="What executes it there.  [default: what is set up]")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="How many releases stay; the current one and the one before always do.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=0,
    metavar="SECONDS",
    help="Wait so long while somebody else deploys.  [default: 0]",
)
@click.option("--seed", type=int, default=0, metavar="N", help="For random samples.  [default: 0]")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
def command(model: Path, device: str, *, dry_run: bool, **options: Any) -> Outcome:
    """Put MODEL into service on a device, once it was tried there.

    It is sent with its lineage and preprocessing contract, verified and run on the device beside what is in
    service. Only if its outputs are those of this computer, `current` is switched to it, in one step.
    """
    from edgekit.verbs.deploy import deploy, planned

    health_check = _health_check(options.pop("health_check"), skip=options.pop("no_health_check"))
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


def _health_check(data: str | None, *, skip: bool) -> str | bool:
    if data is not None and skip:
        raise click.UsageError("--health-check and --no-health-check exclude each other.")
    return data or not skip


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
