"""Talks to ``worker.py`` in a process of its own: requests, deadlines, and what can go wrong.

The worker is started from an argument list. On another machine that list begins with the transport, and
nothing else here changes.
"""

import contextlib
import io
import json
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from edgekit.errors import DataError, DependencyError, DeviceError, EdgekitError, InternalError, ModelError

WORKER = Path(__file__).with_name("worker.py")

# After its deadline the parent ends the worker; the worker ends itself a little later if the parent is gone.
_GRACE_S = 5.0
_SHOWN_CHARS = 2000

_INSTALL = {
    "litert": "pip install ai-edge-litert==2.3.0",
    "onnxruntime": "pip install onnxruntime",
    "tflite_runtime": 'pip install "edgekit[tflite-runtime]"',
}


class WorkerProcess:
    """One worker, as a context: whatever happens inside, the process is gone afterwards."""

    def __init__(self, subject: str, command: Sequence[str] | None = None) -> None:
        self._subject = subject
        self._nonce = secrets.token_hex(8)
        self._buffer = b""
        self._runtime = ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            list(command or [sys.executable, str(WORKER)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._requests = cast(IO[bytes], self._process.stdin)
        self._replies = cast(io.BufferedReader, self._process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._errors.close()

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def _who(self) -> str:
        return self._runtime or "The worker"

    def ask(self, verb: str, *, deadline_s: float, **options: Any) -> dict[str, Any]:
        """Send one request and wait for its reply.

        Raises:
            ModelError: The runtime refused the model, crashed on it or did not answer in time.
            DataError: The data do not fit the model.
            DependencyError: The runtime is not installed.
            DeviceError: The worker ended, or answered something else than its reply.
        """
        self._runtime = str(options.get("runtime", self._runtime))
        reply = self._exchange({"verb": verb, **options}, deadline_s)
        if reply.get("reply") != verb:
            raise self._broken(f"answered {str(reply)[:80]!r} to {verb}")
        return reply

    def close(self, *, deadline_s: float = 30.0) -> None:
        """End the worker; only its last line, with the right nonce, says that it finished.

        Raises:
            DeviceError: The last line did not come.
        """
        reply = self._exchange({"verb": "close"}, deadline_s)
        if reply.get("done") is not True:
            raise self._broken("did not finish")

    def _exchange(self, request: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        line = json.dumps({**request, "nonce": self._nonce, "deadline_s": deadline_s + _GRACE_S})
        try:
            self._requests.write(line.encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError as error:
            raise self._ended(str(request["verb"])) from error
        text = self._read_line(str(request["verb"]), deadline_s)
        try:
            reply = json.loads(text)
        except ValueError as error:
            raise self._broken(f"answered {text[:80]!r}") from error
        if not isinstance(reply, dict) or reply.get("nonce") != self._nonce:
            raise self._broken("answered without the nonce of the request")
        if "error" in reply:
            raise self._failure(reply["error"])
        return reply

    def _read_line(self, verb: str, deadline_s: float) -> str:
        until = time.monotonic() + deadline_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, until - time.monotonic())):
                    self._end()
                    raise self._hung(verb, deadline_s)
                part = self._replies.read1(1 << 20)
                if not part:
                    raise self._ended(verb)
                self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")

    def _failure(self, error: dict[str, Any]) -> EdgekitError:
        """The worker's own account of what went wrong, as edgekit's error."""
        message = str(error.get("message"))
        match error.get("kind"):
            case "model":
                return ModelError(
                    "EK531",
                    f"{self._runtime} refuses {self._subject}: {message}",
                    "Check the file with edgekit inspect.",
                )
            case "data":
                return DataError(
                    "EK534", f"The data do not fit {self._subject}: {message}.", "See edgekit inspect."
                )
            case "dependency":
                hint = f"Install it: {_INSTALL.get(self._runtime, f'pip install {self._runtime}')}"
                return DependencyError(
                    "EK533", f"The runtime {self._runtime} does not work here: {message}", hint
                )
        return InternalError(
            "EK910", f"The worker refused a request: {message}", "Report this with the model."
        )

    def _ended(self, verb: str) -> EdgekitError:
        """The worker is gone: a signal is the runtime's crash, anything else a broken connection."""
        status = self._process.wait()
        if -status == signal.SIGALRM:
            return self._hung(verb, None)
        if status < 0:
            return ModelError(
                "EK530",
                f"{self._who} crashed with {signal.Signals(-status).name} on {self._subject} ({verb}).",
                "The file may be corrupt, or the runtime too old for it; try another --runtime.",
                detail=self._error_text(),
            )
        return self._broken(f"ended with exit status {status} before it answered {verb}")

    def _hung(self, verb: str, deadline_s: float | None) -> ModelError:
        within = "in time" if deadline_s is None else f"within {deadline_s:g} s"
        return ModelError(
            "EK532",
            f"{self._who} did not answer {within} on {self._subject} ({verb}); it was ended.",
            "The model may be too large for this machine, or the file is corrupt.",
            detail=self._error_text(),
        )

    def _broken(self, what: str) -> DeviceError:
        return DeviceError(
            "EK535",
            f"The measuring process {what}.",
            "Its result is not used. Run the command again; with -v it shows what the process printed.",
            detail=self._error_text(),
        )

    def _error_text(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-_SHOWN_CHARS:]

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._replies.close()
        with contextlib.suppress(BrokenPipeError):  # what was not yet sent is of no use to who is gone
            self._requests.close()
