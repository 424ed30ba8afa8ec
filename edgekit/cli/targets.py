"""``edgekit targets``: what devices take, and where edgekit knows it from."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.target import Target

_EPILOG = """\b
Examples:
  edgekit targets list
  edgekit targets show ethos-u55-128
  edgekit targets validate targets/my-board.toml
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List, show and check the profiles of targets.

    A profile says which formats, runtimes, types and sizes a device takes, each with its source. Your own lie in
    ./targets/ and take the place of edgekit's of the same name.
    """


@edgekit_command(name="list", epilog="Example: edgekit targets list --json")
def list_targets() -> Outcome:
    """List every target with its recipe and formats."""
    import edgekit

    found = edgekit.target_list()
    result = {"targets": [target.describe() for target in found]}
    steps = [command_line("targets", "show", found[0].name)]
    return Outcome(result, [_list(found)], next_steps=steps)


@edgekit_command(epilog="Example: edgekit targets show raspberry-pi-5")
@click.argument("name", metavar="NAME|FILE.toml")
def show(name: str) -> Outcome:
    """Show one target, and where each fact is from."""
    import edgekit

    target = edgekit.target_show(name)
    return Outcome({"target": target.describe()}, [_summary(target), _facts(target)])


@edgekit_command(epilog="Example: edgekit targets validate targets/my-board.toml")
@click.argument("file", type=click.Path(path_type=Path))
def validate(file: Path) -> Outcome:
    """Check a profile of your own."""
    import edgekit

    target = edgekit.target_validate(file)
    line = f"{file} is a profile: {target.description}"
    return Outcome({"target": target.describe()}, [line])


for _member in (list_targets, show, validate):
    command.add_command(_member)


def _list(found: "tuple[Target, ...]") -> "Table":
    from rich.table import Table

    table = Table()
    for heading in ("target", "what it is", "recipe", "formats", "compiler"):
        table.add_column(heading)
    for target in found:
        formats = ", ".join(target.formats.values)
        table.add_row(
            target.name,
            target.description,
            str(target.recipe.values[0]),
            formats,
            target.compiler.get("name", ""),
        )
    return table


def _summary(target: "Target") -> str:
    lines = [f"{target.name}: {target.description}", f"Not tested: {target.untested}"]
    if target.compiler:
        lines.append("Compiler: " + ", ".join(f"{key} {value}" for key, value in target.compiler.items()))
    return "\n".join(lines)


def _facts(target: "Target") -> "Table":
    from rich.table import Table

    from edgekit.target import FACTS

    table = Table()
    for heading in ("fact", "value", "note", "source"):
        table.add_column(heading, overflow="fold")
    facts = {key: getattr(target, key) for key in FACTS} | dict(target.limits)
    for key, fact in facts.items():
        values = ", ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in fact.values)
        table.add_row(key, values or "none", fact.note, f"{fact.source} ({fact.date})")
    return table
