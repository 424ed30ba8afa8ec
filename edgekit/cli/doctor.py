"""``edgekit doctor``: what edgekit finds on this machine."""

from typing import TYPE_CHECKING

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, progress

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.verbs.doctor import Environment, Package

_EXAMPLES = """\b
Examples:
  edgekit doctor
  edgekit doctor --no-imports --json
"""
_MISSING = 3
_GIB = 1 << 30


@edgekit_command(epilog=_EXAMPLES)
@click.option("--no-imports", is_flag=True, help="Read versions only: do not try whether packages load.")
def command(no_imports: bool) -> Outcome:
    """Show what is installed, and the pip line for what is missing.

    The processor, memory and free disk too. Exits with 3 when a package that edgekit always needs is missing
    or does not load.
    """
    import edgekit
    from edgekit.findings import Level, worst

    with progress("importing packages") as advance:
        environment = edgekit.doctor(imports=not no_imports, progress=advance)
    failed = worst(environment.findings) is Level.ERROR
    return Outcome(
        environment.describe(),
        view=[_machine(environment), _packages(environment)],
        findings=environment.findings,
        status="failed" if failed else "ok",
        exit_code=_MISSING if failed else 0,
    )


def _machine(environment: "Environment") -> "Table":
    from rich.table import Table

    processor = environment.processor
    facts = {
        "edgekit": environment.edgekit_version,
        "Python": f"{environment.python_version} ({environment.python_executable})",
        "platform": environment.platform,
        "processor": f"{processor.model}, {processor.usable_cores} of {processor.cores} cores",
        "instructions": ", ".join(processor.features) or "none that matter here",
        "memory": f"{environment.memory_bytes / _GIB:.1f} GiB",
        "free disk": f"{environment.working_free_bytes / _GIB:.1f} GiB here, "
        f"{environment.temporary_free_bytes / _GIB:.1f} GiB in {environment.temporary_folder}",
    }
    table = Table(box=None, show_header=False)
    for name, fact in facts.items():
        table.add_row(name, fact)
    return table


def _packages(environment: "Environment") -> "Table":
    from rich.table import Table

    table = Table(box=None)
    for column in ("package", "wanted", "installed", "for", ""):
        table.add_column(column)
    for package in environment.packages:
        extra = package.extra or "core"
        table.add_row(package.name, package.wanted, package.version or "-", extra, _state(package))
    return table


def _state(package: "Package") -> str:
    if not package.problem:
        return "ok"
    mend = f": {package.install}" if package.install else ""
    return f"{package.problem}{mend}"
