"""``edgekit rollback``: back to the release that was in service before."""

from typing import Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line

_EPILOG = """\b
Examples:
  edgekit rollback --device rpi4
  edgekit rollback --device rpi4 --to 3f2a91
"""


@edgekit_command(epilog=_EPILOG)
@click.option("--device", required=True, metavar="NAME|URL", help="The device.")
@click.option("--to", metavar="DIGEST", help="Another release, by the beginning of its digest.")
@click.option(
    "--health-check",
    metavar="DATA",
    help="Samples that must give the same there as here.  [default: random ones]",
)
@click.option("--no-health-check", is_flag=True, help="Put it into service untried.")
@click.option("--runtime", metavar="NAME", help="What executes it there.  [default: what is set up]")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=0,
    metavar="SECONDS",
    help="Wait so long while somebody else deploys.  [default: 0]",
)
@click.option("--seed", type=int, default=0, metavar="N", help="For random samples.  [default: 0]")
def command(device: str, **options: Any) -> Outcome:
    """Put the previous release of a device into service again.

    Its files are verified and it is tried first. A second rollback goes forward again.
    """
    from edgekit.verbs.rollback import rollback

    data, skip = options.pop("health_check"), options.pop("no_health_check")
    if data is not None and skip:
        raise click.UsageError("--health-check and --no-health-check exclude each other.")
    done = rollback(device, health_check=data or not skip, **options)
    before = f" instead of {done.previous[:12]}" if done.previous else ""
    return Outcome(
        done.describe(),
        view=[
            f"{done.model}, release {done.release[:12]}, is in service on {done.device}{before}.",
            done.health.detail,
        ],
        findings=done.findings,
        next_steps=[command_line("status", "--device", device)],
    )
