"""``edgekit rollback``: back to the release that was in service before."""

from typing import Any

import click

from edgekit.cli._devices import chosen_health_check, service_options
from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line

_EPILOG = """\b
Examples:
  edgekit rollback --device rpi4
  edgekit rollback --device rpi4 --to 3f2a91
"""


@edgekit_command(epilog=_EPILOG)
@service_options
@click.option("--to", metavar="DIGEST", help="Another release, by the beginning of its digest.")
def command(device: str, **options: Any) -> Outcome:
    """Put the previous release of a device into service again.

    Its files are verified and it is tried first. A second rollback goes forward again.
    """
    from edgekit.verbs.rollback import rollback

    done = rollback(device, health_check=chosen_health_check(options), **options)
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
