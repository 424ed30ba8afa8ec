"""The options ``--junit``, ``--sarif``, ``--markdown`` and ``--github``, for every command that has a verdict.

They stand below the command's own options, and the work is done inside of ``reporting``::

    @report_options
    @click.option("--overwrite", is_flag=True, help="Replace files that exist.")
    def command(model: Path, **options: Any) -> Outcome:
        with reporting(options, overwrite=options["overwrite"]) as reported:
            return reported(Outcome(...))
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from edgekit.cli._output import Outcome, current_terminal
from edgekit.errors import EdgekitError, OutputError

_NAMES = ("junit", "sarif", "markdown", "github")
_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--junit", type=_FILE, metavar="FILE", help="Write JUnit XML: one test case per gate."),
    click.option("--sarif", type=_FILE, metavar="FILE", help="Write SARIF 2.1.0 for code scanning."),
    click.option("--markdown", type=_FILE, metavar="FILE", help="Write a comment for a pull request."),
    click.option("--github", is_flag=True, help="In GitHub Actions: summary, annotations, step outputs."),
)


def report_options(function: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Declare the options of reports."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def wants_reports(options: Mapping[str, Any]) -> bool:
    """Whether any report was asked for."""
    return any(options[name] for name in _NAMES)


@contextmanager
def reporting(options: dict[str, Any], *, overwrite: bool) -> Iterator[Callable[[Outcome], Outcome]]:
    """Take the options of reports out of ``options``; yields what writes them for an outcome.

    A command that ends in an error is reported too: CI shows its reports, and reads nothing else.

    Raises:
        OutputError: A report exists already, or its folder is missing.
    """
    from edgekit.reporters import Reports

    reports = Reports(**{name: options.pop(name) for name in _NAMES})
    reports.check(overwrite=overwrite)
    terminal = current_terminal()

    def write(status: str, outcome: Outcome, **more: Any) -> Outcome:
        if terminal is None:
            raise RuntimeError("reports belong to a command that is running")
        document = terminal.document(status, outcome.result, outcome.findings, **more)
        found = reports.write(document, environment=os.environ, annotations=terminal.err)
        return replace(outcome, findings=[*outcome.findings, *found])

    try:
        yield lambda outcome: write(outcome.status, outcome)
    except EdgekitError as error:
        # Where the reports are what cannot be written, the error that comes out says so.
        with suppress(OutputError):
            write("error", Outcome({}), error=error.describe())
        raise
