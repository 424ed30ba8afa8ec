"""``edgekit explain``: what a finding's code means."""

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome


@edgekit_command(epilog="Example: edgekit explain EK604")
@click.argument("code")
def command(code: str) -> Outcome:
    """Say what a finding's CODE means, and what to do about it."""
    import edgekit

    entry = edgekit.explain(code)
    text = f"{code.upper()}: {entry.title}\n\n{entry.meaning}\n\nWhat to do: {entry.advice}"
    result = {"code": code.upper(), "title": entry.title, "meaning": entry.meaning, "advice": entry.advice}
    return Outcome(result, view=[text])
