"""``edgekit device``: the machines that models run on."""

import click

from edgekit.cli._device_setup import command as setup

_EPILOG = "Example: edgekit device setup pi --runtime litert"


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Keep and prepare the devices that models run on."""


command.add_command(setup)
