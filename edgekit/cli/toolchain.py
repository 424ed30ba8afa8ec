"""``edgekit toolchain``: compilers and converters in environments of their own."""

from typing import TYPE_CHECKING

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, say

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.toolchain import Toolchain

_EPILOG = """\b
Examples:
  edgekit toolchain list
  edgekit toolchain install vela
  edgekit toolchain doctor
"""
_INSTALL_EPILOG = """\b
Examples:
  edgekit toolchain install vela
  edgekit toolchain install vela --pip-option --no-index --pip-option --find-links=wheels/
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Keep compilers in environments of their own.

    Each lies in a virtual environment of its own below the user's cache, made from requirements that are pinned
    with hashes. Nothing is ever installed without this command.
    """


@edgekit_command(name="list", epilog="Example: edgekit toolchain list --json")
def list_toolchains() -> Outcome:
    """List every toolchain, and whether it is installed."""
    import edgekit

    found = edgekit.toolchain_list()
    return Outcome({"toolchains": [dict(toolchain.describe()) for toolchain in found]}, [_table(found)])


@edgekit_command(epilog=_INSTALL_EPILOG)
@click.argument("name")
@click.option(
    "--pip-option", "pip_options", multiple=True, metavar="OPTION", help="For pip. May be repeated."
)
def install(name: str, pip_options: tuple[str, ...]) -> Outcome:
    """Make the environment of a toolchain, and try it."""
    import edgekit

    toolchain = edgekit.toolchain_install(name, pip_options=pip_options, progress=say)
    line = f"{toolchain.name} {toolchain.version} is installed in {toolchain.folder}"
    steps = [command_line("toolchain", "doctor")]
    return Outcome({"toolchain": dict(toolchain.describe())}, [line], next_steps=steps)


@edgekit_command(epilog="Example: edgekit toolchain remove vela")
@click.argument("name")
def remove(name: str) -> Outcome:
    """Remove the environment of a toolchain."""
    import edgekit

    removed = edgekit.toolchain_remove(name)
    line = f"{name} is removed" if removed else f"{name} was not installed"
    return Outcome({"name": name, "removed": removed}, [line])


@edgekit_command(epilog="Example: edgekit toolchain doctor")
def doctor() -> Outcome:
    """Try every toolchain that is installed."""
    import edgekit

    tried, findings = edgekit.toolchain_doctor()
    lines = [
        f"{one.toolchain.name} {one.toolchain.version}: {'works' if one.ok else 'does not work'}"
        for one in tried
    ]
    healthy = not findings
    return Outcome(
        {"tried": [one.describe() for one in tried]},
        ["\n".join(lines) or "No toolchain is installed."],
        findings,
        status="ok" if healthy else "failed",
        exit_code=0 if healthy else 3,
    )


for _member in (list_toolchains, install, remove, doctor):
    command.add_command(_member)


def _table(found: "tuple[Toolchain, ...]") -> "Table":
    from rich.table import Table

    table = Table()
    for heading in ("toolchain", "what it is", "version", "installed"):
        table.add_column(heading)
    for toolchain in found:
        installed = "yes" if toolchain.is_installed else "no"
        table.add_row(toolchain.name, toolchain.description, toolchain.version, installed)
    return table
