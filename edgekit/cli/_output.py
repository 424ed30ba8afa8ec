"""What a command prints, and where: results on standard output, all else on standard error.

Anything that may take longer than two seconds shows how far it is. The verb takes a plain callback
``progress: Callable[[int, int], None]`` (done, total), and its command lends it the bar::

    from edgekit.cli._output import progress, say

    with progress("evaluating model.tflite") as advance:
        result = edgekit.evaluate(..., progress=advance)    # the verb calls advance(done, total)

The bar goes to the real standard error, only if that is a terminal, only after two seconds, and never
with ``-q`` or ``--json``: commands need not ask. ``say("step 2 of 4: ...")`` prints a line there.
"""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TextIO

import click

import edgekit
from edgekit.cli._capture import captured
from edgekit.documents import plain
from edgekit.errors import EdgekitError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

    from edgekit.findings import Finding

_INTERRUPTED = 130
_UNWRITABLE = 2
_BAR_AFTER_S = 2.0
_BAR_EVERY_S = 0.1


@dataclass(frozen=True)
class Outcome:
    """What a command found: the same facts for people (``view``) and for programs (``result``).

    Texts in ``view`` are printed as they are, neither folded nor read as rich's markup.
    """

    result: Mapping[str, Any]
    view: "Sequence[RenderableType]" = ()
    findings: "Sequence[Finding]" = ()
    status: str = "ok"
    exit_code: int = 0
    next_steps: Sequence[str] = field(default_factory=tuple)


@dataclass
class Settings:
    """The options that stand before or after the command's name."""

    json: bool = False
    color: bool = True
    verbosity: int = 0  # -1 quiet, 0 normal, 1 verbose


def command_line(*words: object) -> str:
    """A command to copy, with file names quoted where a shell would take them apart."""
    return shlex.join(["edgekit", *map(str, words)])


class Terminal:
    """Standard output for one result, standard error for everything else."""

    def __init__(self, settings: Settings, command: str) -> None:
        self.settings = settings
        self._command = command
        self._real_err: TextIO | None = None  # set while the libraries' output is captured

    @property
    def talks(self) -> bool:
        """Whether progress and notes are wanted."""
        return self.settings.verbosity >= 0 and not self.settings.json

    @property
    def err(self) -> TextIO:
        """The real standard error, also while the libraries' output is captured."""
        return self._real_err or sys.stderr

    @contextmanager
    def quiet_libraries(self) -> Iterator[None]:
        """Keep what libraries print off standard output; with ``-v`` it goes to standard error."""
        with captured(live=self.settings.verbosity > 0) as real_err:
            self._real_err = real_err
            try:
                yield
            finally:
                self._real_err = None

    def succeed(self, outcome: Outcome) -> int:
        """Print an outcome; returns its exit code."""
        return self._write(lambda: self._show(outcome), outcome.exit_code)

    def fail(self, error: EdgekitError) -> int:
        """Print an error: one sentence and a hint; returns its exit code."""
        return self._write(lambda: self._show_error(error), error.exit_code)

    def interrupted(self) -> int:
        """Say that ctrl-C was obeyed; returns 130."""
        message = "Interrupted. Nothing half-written is left."
        return self._write(lambda: self._show_interrupted(message), _INTERRUPTED)

    def _write(self, show: Callable[[], None], exit_code: int) -> int:
        try:
            show()
            sys.stdout.flush()
        except OSError as error:
            discard_stdout()
            # Whoever closes a pipe, as `head` does, has read enough: that is no failure.
            if not isinstance(error, BrokenPipeError):
                print(f"error EK606: Standard output cannot be written: {error.strerror}.", file=sys.stderr)
                return _UNWRITABLE
        return exit_code

    def _show(self, outcome: Outcome) -> None:
        if self.settings.json:
            self._print_document(outcome.status, outcome.result, outcome.findings)
            return
        out = self.console(sys.stdout)
        # Rich answers a closed pipe by leaving Python with exit code 1, which means a failed gate here.
        with out.capture() as shown:
            for part in outcome.view:
                out.print(part, soft_wrap=isinstance(part, str))
        print(shown.get(), end="")
        if self.settings.verbosity >= 0:
            # What stands after the results on a terminal must also come after them in a log.
            sys.stdout.flush()
            self._print_findings(outcome.findings)
            err = self.console(self.err)
            for step in outcome.next_steps:
                err.print(f"next: {step}", style="bold", soft_wrap=True)

    def _show_error(self, error: EdgekitError) -> None:
        if self.settings.json:
            self._print_document("error", {}, (), error=error.describe())
        else:
            console = self.console(self.err)
            console.print(f"error {error.code}: {error.message}", style="red", soft_wrap=True)
            if error.hint:
                console.print(f"  hint: {error.hint}", soft_wrap=True)
        if self.settings.verbosity > 0:
            self._show_causes(error)

    def _show_causes(self, error: EdgekitError) -> None:
        """The raw text of the library underneath, and where it all happened."""
        import traceback

        if error.detail:
            print(error.detail.rstrip(), file=self.err)
        print("".join(traceback.format_exception(error)).rstrip(), file=self.err)

    def _show_interrupted(self, message: str) -> None:
        if self.settings.json:
            self._print_document("error", {}, (), error={"code": "EK912", "message": message, "hint": ""})
        else:
            self.console(self.err).print(message)

    def document(
        self, status: str, result: Mapping[str, Any], findings: "Sequence[Finding]", **more: Any
    ) -> dict[str, Any]:
        """The JSON document of the command, as `--json` prints it."""
        document: dict[str, Any] = plain(
            {
                "schema_version": 1,
                "command": self._command,
                "edgekit_version": edgekit.__version__,
                "status": status,
                "findings": [finding.describe() for finding in findings],
                "result": result,
                **more,
            }
        )
        return document

    def _print_document(
        self, status: str, result: Mapping[str, Any], findings: "Sequence[Finding]", **more: Any
    ) -> None:
        print(json.dumps(self.document(status, result, findings, **more), indent=2, allow_nan=False))

    def _print_findings(self, findings: "Sequence[Finding]") -> None:
        styles = {"note": "dim", "warning": "yellow", "error": "red"}
        console = self.console(self.err)
        for finding in findings:
            text = f"{finding.level} {finding.code}: {finding.message}"
            console.print(text, style=styles[finding.level], soft_wrap=True)
            if finding.hint:
                console.print(f"  hint: {finding.hint}", style="dim", soft_wrap=True)

    def console(self, stream: TextIO) -> "Console":
        """A rich console on a stream, without any style where colors are not wanted."""
        from rich.console import Console

        plain = not self.settings.color or bool(os.environ.get("NO_COLOR"))
        # Rich assumes 80 columns where there is no terminal, and would fold tables in logs.
        width = None if stream.isatty() else 120
        color_system: Literal["auto"] | None = None if plain else "auto"
        # Square brackets and colons in the names of files and tensors are no markup.
        return Console(
            file=stream, color_system=color_system, width=width, highlight=False, markup=False, emoji=False
        )


def discard_stdout() -> None:
    """Let what is still buffered for standard output vanish: Python would try again at exit, and complain."""
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error; yields the callback ``advance(done, total)``. See the top of this file."""
    terminal = current_terminal()
    if terminal is None or not terminal.talks or not terminal.err.isatty():
        yield _ignore
        return
    bar = _Bar(terminal, label)
    try:
        yield bar.advance
    finally:
        bar.close()


def say(text: str) -> None:
    """Print one line on standard error, unless ``-q`` or ``--json`` was given."""
    terminal = current_terminal()
    if terminal is not None and terminal.talks:
        terminal.console(terminal.err).print(text, soft_wrap=True)


def current_terminal() -> Terminal | None:
    """The terminal of the command that is running."""
    context = click.get_current_context(silent=True)
    return context.find_object(Terminal) if context else None


def _ignore(_done: int, _total: int) -> None:
    """Nobody is watching."""


class _Bar:
    """A rich progress bar that appears late, and is redrawn by the caller's thread alone.

    Rich's own refreshing thread would make it unsafe to fork worker processes.
    """

    def __init__(self, terminal: Terminal, label: str) -> None:
        self._terminal = terminal
        self._label = label
        self._next_s = time.monotonic() + _BAR_AFTER_S
        self._bar: Progress | None = None

    def advance(self, done: int, total: int) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s and not (self._bar and done >= total):
            return
        self._next_s = now_s + _BAR_EVERY_S
        if self._bar is None:
            self._bar = self._open()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total or None, refresh=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _open(self) -> "Progress":
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text("" if task.speed is None else f"{task.speed:,.3g}/s")

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(),
        )
        console = self._terminal.console(self._terminal.err)
        # Without the last two, rich would swap sys.stdout for a stream of its own.
        bar = Progress(
            *columns,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        bar.add_task(self._label, total=None)
        bar.start()
        return bar
