"""The report: one page with a section for each saved run, for browsers, phones and paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgekit.findings import CATALOG
from edgekit.pages import render
from edgekit.pages.comparison import view
from edgekit.pages.document import Block, blocks
from edgekit.pages.figures import course
from edgekit.pages.flame import flame


@dataclass(frozen=True)
class Section:
    """A saved run to be shown: ``document`` holds what was found, with its findings.

    ``latencies_ns`` are all latencies by the number of the model. ``courses`` have the number and the name of a
    model, and (seconds since the start, median in ns) of its blocks. ``profiles`` are names of models with what
    ``benchmark --per-op`` found.
    """

    title: str
    kind: str  # "comparison", or the name of a command
    document: Mapping[str, Any]
    latencies_ns: Mapping[int, Sequence[float]] = field(default_factory=dict)
    courses: Sequence[tuple[int, str, Sequence[tuple[float, float]]]] = ()
    profiles: Sequence[tuple[str, Mapping[str, Any]]] = ()


def page(sections: Sequence[Section], title: str) -> str:
    """The page as HTML.

    Args:
        sections: At least one.
        title: The page's heading.
    """
    return render(
        "report.html",
        is_scripted=True,
        title=title,
        sections=[
            {**_prepared(number, section), "alone": len(sections) == 1 and title == section.title}
            for number, section in enumerate(sections, 1)
        ],
    )


def _prepared(number: int, section: Section) -> dict[str, Any]:
    document = section.document
    is_comparison = section.kind == "comparison"
    found: list[Block] = [] if is_comparison else list(blocks(document["result"]))
    return {
        "id": f"run-{number}",
        "title": section.title,
        "kind": section.kind,
        "document": document,
        "result": document["result"],
        "view": view(document["result"], section.latencies_ns) if is_comparison else None,
        "blocks": found,
        "course": course(section.courses),
        "flames": [chart for pair in section.profiles if (chart := flame(*pair)) is not None],
        "findings": [_explained(finding) for finding in document["findings"]],
    }


def _explained(finding: Mapping[str, Any]) -> dict[str, Any]:
    """A finding with what the catalogue says about its code; a newer edgekit may know more codes."""
    entry = CATALOG.get(finding["code"])
    known = {"title": entry.title, "advice": entry.advice} if entry else {"title": "", "advice": ""}
    return {**finding, **known}
