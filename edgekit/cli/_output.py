"""What a command prints, and where: results on standard output, all else on standard error."""

import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import edgekit
from edgekit.errors import EdgekitError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from edgekit.findings import Finding

_INTERRUPTED = 130


@dataclass(frozen=True)
class Outcome:
    """What a command found: the same facts for people (``view``) and for programs (``result``)."""

    result: Mapping[str, Any]
    view: "Sequence[RenderableType]" = ()
    findings: "Sequence[Finding]" = ()
    status: str = "ok"
    exit_code: int = 0
    next_steps: Sequence[str] = field(default_factory=tuple)


class _Settings(Protocol):
    json: bool
    color: bool
    verbosity: int


class Terminal:
    """Standard output for one result, standard error for everything else.

    Frameworks print from C++ to file descriptors 1 and 2, which no Python stream can redirect. So both
    are pointed at a temporary file while a command runs, and the real ones are kept for edgekit alone.
    """

    def __init__(self, settings: _Settings, command: str) -> None:
        self._settings = settings
        self._command = command
        self._log: str = ""
        self._out: TextIO = sys.stdout
        self._err: TextIO = sys.stderr

    @contextmanager
    def captured(self) -> Iterator[None]:
        """Keep the libraries' output away from the real streams."""
        sys.stdout.flush()
        sys.stderr.flush()
        saved_out, saved_err = os.dup(1), os.dup(2)
        self._out = os.fdopen(os.dup(saved_out), "w", encoding="utf-8")
        self._err = os.fdopen(os.dup(saved_err), "w", encoding="utf-8")
        python_out, python_err = sys.stdout, sys.stderr
        with tempfile.TemporaryFile() as noise:
            os.dup2(noise.fileno(), 1)
            os.dup2(noise.fileno(), 2)
            # click's help and rich's progress bars go to Python's streams: those stay the real ones.
            sys.stdout, sys.stderr = self._out, self._err
            try:
                yield
            finally:
                sys.stdout, sys.stderr = python_out, python_err
                self._out.flush()
                self._err.flush()
                os.dup2(saved_out, 1)
                os.dup2(saved_err, 2)
                os.close(saved_out)
                os.close(saved_err)
                noise.seek(0)
                self._log = noise.read().decode(errors="replace")
                self._out, self._err = python_out, python_err

    def succeed(self, outcome: Outcome) -> int:
        """Print an outcome; returns its exit code."""
        self._show_log()
        if self._settings.json:
            self._print_document(outcome.status, outcome.result, outcome.findings)
            return outcome.exit_code
        out = self._console(self._out)
        for part in outcome.view:
            out.print(part)
        if self._settings.verbosity >= 0:
            self._print_findings(outcome.findings)
            err = self._console(self._err)
            for step in outcome.next_steps:
                err.print(f"next: {step}", style="bold", markup=False, soft_wrap=True)
        return outcome.exit_code

    def fail(self, error: EdgekitError) -> int:
        """Print an error: one sentence and a hint; returns its exit code."""
        self._show_log()
        if self._settings.json:
            facts = {"code": error.code, "message": error.message, "hint": error.hint}
            self._print_document("error", {}, (), error=facts)
            return error.exit_code
        console = self._console(self._err)
        console.print(f"error {error.code}: {error.message}", style="red", markup=False, soft_wrap=True)
        if error.hint:
            console.print(f"  hint: {error.hint}", markup=False, soft_wrap=True)
        if error.detail and self._settings.verbosity > 0:
            console.print(error.detail, markup=False, soft_wrap=True)
        return error.exit_code

    def interrupted(self) -> int:
        """Say that ctrl-C was obeyed; returns 130."""
        message = "Interrupted. Nothing half-written is left."
        if self._settings.json:
            self._print_document("error", {}, (), error={"code": "EK912", "message": message, "hint": ""})
        else:
            self._console(self._err).print(message)
        return _INTERRUPTED

    def _print_document(
        self, status: str, result: Mapping[str, Any], findings: "Sequence[Finding]", **more: Any
    ) -> None:
        document = {
            "schema_version": 1,
            "command": self._command,
            "edgekit_version": edgekit.__version__,
            "status": status,
            "findings": [finding.describe() for finding in findings],
            "result": result,
            **more,
        }
        print(json.dumps(_plain(document), indent=2, allow_nan=False), file=self._out)

    def _print_findings(self, findings: "Sequence[Finding]") -> None:
        styles = {"note": "dim", "warning": "yellow", "error": "red"}
        console = self._console(self._err)
        for finding in findings:
            text = f"{finding.level} {finding.code}: {finding.message}"
            console.print(text, style=styles[finding.level], markup=False, soft_wrap=True)
            if finding.hint:
                console.print(f"  hint: {finding.hint}", style="dim", markup=False, soft_wrap=True)

    def _show_log(self) -> None:
        if self._settings.verbosity > 0 and self._log.strip():
            print(self._log.rstrip(), file=self._err)

    def _console(self, stream: TextIO) -> "Console":
        from rich.console import Console

        # Rich assumes 80 columns where there is no terminal, and would fold tables in logs.
        width = None if stream.isatty() else 120
        return Console(file=stream, no_color=not self._settings.color, width=width, highlight=False)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: infinities and NaN become null, tuples lists, numpy numbers Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)
