"""``edgekit schema``: the form of a command's JSON document."""

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome


@edgekit_command(epilog="Example: edgekit schema quantize > quantize.schema.json")
@click.argument("name", metavar="COMMAND")
def command(name: str) -> Outcome:
    """Print the JSON Schema of what COMMAND prints with --json."""
    import json

    import edgekit

    found = edgekit.schema(name)
    return Outcome(found, view=[json.dumps(found, indent=2)])
