"""GitHub Actions: annotations, the summary and the outputs of a step, by the lines and files that its runner reads."""

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgekit.files import output_error
from edgekit.findings import Finding
from edgekit.reporters import _words, markdown
from edgekit.reporters._words import Document, clean

_COMMANDS = {"note": "notice", "warning": "warning", "error": "error"}
_NUMBERS = ("verdict", "candidate", "difference", "limit", "needed_n")
_SUMMARY_BYTES = 1 << 20


def render(document: Document) -> str:
    """The annotations as workflow commands, one a line: what did not pass, then what was found."""
    return "".join(f"{line}\n" for line in _annotations(document))


def write(document: Document, environment: Mapping[str, str]) -> tuple[Finding, ...]:
    """Append to the summary and the outputs of the running step; what cannot be done is a finding.

    Raises:
        OutputError: A file that the runner names cannot be written.
    """
    paths = {name: environment.get(name, "") for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    missing = [name for name, path in paths.items() if not path]
    findings = []
    if missing:
        text = f"{' and '.join(missing)}: not set, so nothing was written there."
        findings.append(Finding("EK460", text, "Elsewhere, --markdown FILE writes the same summary."))
    if paths["GITHUB_OUTPUT"]:
        _append(Path(paths["GITHUB_OUTPUT"]), "".join(_assignment(*pair) for pair in _outputs(document)))
    if paths["GITHUB_STEP_SUMMARY"]:
        summary, text = Path(paths["GITHUB_STEP_SUMMARY"]), markdown.render(document) + "\n"
        if _size(summary) + len(text.encode()) <= _SUMMARY_BYTES:
            _append(summary, text)
        else:
            text = "The summary of this step is full, so nothing was added to it."
            findings.append(Finding("EK461", text, "Check fewer models in one step, or use --markdown FILE."))
    return tuple(findings)


def _annotations(document: Document) -> Iterator[str]:
    error = document.get("error")
    if error:
        yield _command("error", error["code"], f"{error['message']} {error['hint']}")
    for gate in _words.gates(document):
        level = _words.severity(gate, document)
        if level is not None:
            yield _command(level, f"{_words.title(gate)}: {gate['verdict']}", gate["reason"])
    for finding in document["findings"]:
        yield _command(
            _COMMANDS[finding["level"]], finding["code"], f"{finding['message']} {finding['hint']}"
        )


def _command(kind: str, title: str, message: str) -> str:
    escaped = _escape(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title=edgekit {escaped}::{_escape(message.rstrip())}"


def _escape(text: str) -> str:
    return clean(text).replace("%", "%25").replace("\n", "%0A")


def _outputs(document: Document) -> Iterator[tuple[str, object]]:
    result = document.get("result", {})
    yield "status", document["status"]
    yield "verdict", result.get("verdict") or document["status"]
    if "error" not in document:
        yield "exit_code", _words.exit_code(document)
    for gate in _words.gates(document):
        for key in _NUMBERS:
            if gate[key] is not None:
                yield f"{gate['name']}_{key}", gate[key]


def _assignment(name: str, value: object) -> str:
    # A value that could contain the line that ends it could set other outputs.
    end = f"end_{secrets.token_hex(16)}"
    return f"{name}<<{end}\n{clean(value)}\n{end}\n"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise output_error(path, error) from error
