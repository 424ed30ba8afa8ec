"""``report``: saved runs as one HTML page that needs no network and no other file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.errors import UsageError
from edgekit.findings import Finding
from edgekit.pages.report import Section, page
from edgekit.workflows.comparison import Comparison
from edgekit.workflows.saved_runs import as_section, read_run

_LARGE_BYTES = 6_000_000


@dataclass(frozen=True)
class Report:
    """A page that was written: where, how large, and which runs it shows as (title, kind)."""

    path: Path
    size_bytes: int
    runs: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]

    def describe(self) -> dict[str, Any]:
        """The report as it stands in JSON documents."""
        return {
            "html": str(self.path),
            "size_bytes": self.size_bytes,
            "runs": [{"title": title, "kind": kind} for title, kind in self.runs],
        }


def report(
    runs: Sequence[str | Path | Comparison],
    html: str | Path,
    *,
    title: str | None = None,
    overwrite: bool = False,
) -> Report:
    """Write one page that shows several runs.

    Args:
        runs: Files that ``edgekit compare --save``, ``benchmark --save`` or ``--json`` of any command wrote, and
            comparisons.
        html: The page to write.
        title: Its heading; that of the run where there is one run, and none is given.
        overwrite: Whether a file at ``html`` may be replaced.

    Raises:
        DataError: A file is no saved run, is damaged, or was written by a newer edgekit.
        OutputError: The page exists, or cannot be written.
        UsageError: No run is given.
    """
    path = Path(html)
    files.check_output(path, overwrite=overwrite)
    if not runs:
        raise UsageError(
            "EK450", "A report needs at least one saved run.", "edgekit compare --save makes one."
        )
    sections: list[Section] = [
        as_section(run.saved()) if isinstance(run, Comparison) else read_run(Path(run)) for run in runs
    ]
    heading = title or (sections[0].title if len(sections) == 1 else "edgekit report")
    # Lone surrogates, which JSON can hold, have no bytes.
    content = page(sections, heading).encode("utf-8", "replace")
    files.write_bytes(path, content)
    findings: tuple[Finding, ...] = ()
    if len(content) > _LARGE_BYTES:
        text = f"{path} has {len(content) / 1e6:.1f} MB, which mail and phones may refuse."
        findings = (Finding("EK454", text, "Give fewer runs to each page."),)
    shown = tuple((section.title, section.kind) for section in sections)
    return Report(path, len(content), shown, findings)
