"""Reports for machines and reviewers: one file per format, each with ``render(document)``.

A document is what a command prints with ``--json``, so that a report says what the document says, and a format can
be had of a document that was kept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

from edgekit.catalog import load
from edgekit.errors import UsageError
from edgekit.files import check_output, write_bytes
from edgekit.findings import Finding
from edgekit.reporters._words import Document

__all__ = ["Document", "Reporter", "Reports", "render"]


class Reporter(Protocol):
    """What every file of this folder offers."""

    def render(self, document: Document) -> str:
        """The document in this format."""


def render(name: str, document: Document) -> str:
    """A document in a format: ``render("junit", document)``.

    Args:
        name: ``"junit"``, ``"sarif"``, ``"markdown"``, or ``"github"`` for annotations.
        document: What a command prints with ``--json``.

    Raises:
        UsageError: There is no such format.
    """
    text: str = load("reporters", name).render(document)
    return text


@dataclass(frozen=True)
class Reports:
    """Which reports of a command are wanted, and where; none by default."""

    junit: Path | None = None
    sarif: Path | None = None
    markdown: Path | None = None
    github: bool = False

    def check(self, *, overwrite: bool = False) -> None:
        """Refuse files that cannot be written, before any work is done.

        Raises:
            OutputError: One exists and ``overwrite`` is not set, or its folder is missing.
            UsageError: Two reports have the same file.
        """
        names: dict[Path, str] = {}
        for name, path in self._files():
            check_output(path, overwrite=overwrite)
            first = names.setdefault(path.resolve(), name)
            if first != name:
                raise UsageError(
                    "EK462", f"--{first} and --{name} name the same file {path}.", "Give each its own."
                )

    def write(
        self, document: Document, *, environment: Mapping[str, str], annotations: TextIO
    ) -> tuple[Finding, ...]:
        """Write what is wanted; returns what could not be done on GitHub's side.

        Args:
            document: What the command prints with ``--json``.
            environment: The environment variables, which say where GitHub's runner reads.
            annotations: A stream that the runner reads, where the annotations go.

        Raises:
            OutputError: A file cannot be written.
        """
        for name, path in self._files():
            write_bytes(path, render(name, document).encode())
        if not self.github:
            return ()
        from edgekit.reporters import github

        print(github.render(document), end="", file=annotations, flush=True)
        return github.write(document, environment)

    def _files(self) -> Iterator[tuple[str, Path]]:
        for name in ("junit", "sarif", "markdown"):
            path: Path | None = getattr(self, name)
            if path is not None:
                yield name, path
