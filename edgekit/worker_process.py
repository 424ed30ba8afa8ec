"""Talks to a worker, here or on a device: requests, deadlines, and what can go wrong.

The worker is whatever speaks the protocol of ``worker.py``, and is reached over a channel: a process of this
machine, or a command on a device.
"""

import json
import secrets
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from edgekit.devices.channel import Ended, ProcessChannel, last_words
from edgekit.errors import (
    DataError,
    DependencyError,
    DeviceError,
    EdgekitError,
    InternalError,
    ModelError,
    TargetError,
    UsageError,
)

WORKER = Path(__file__).with_name("worker.py")

# After its deadline the parent ends the worker; the worker ends itself a little later if the parent is gone.
_GRACE_S = 5.0
_MOST_BLOB_BYTES = 1 << 30
# How a shell reports a program that it cannot run.
_NOT_STARTED = (126, 127)

_INSTALL = {
    "litert": "pip install ai-edge-litert==2.3.0",
    "onnxruntime": "pip install onnxruntime",
    "tflite_runtime": 'pip install "edgekit[tflite-runtime]"',
}


class Stream(Protocol):
    """A running worker, as ``Channel`` and ``RunningCommand`` are."""

    @property
    def pid(self) -> int:
        """Its process id, on the machine where it runs."""

    def write(self, content: bytes, until: float) -> None:
        """Hand over all of it."""

    def read_line(self, until: float) -> bytes:
        """The next line."""

    def read_exact(self, count: int, until: float) -> bytes:
        """So many bytes."""

    def exit_status(self) -> int | None:
        """How it ended: -11 after SIGSEGV; None where the link to it is lost."""

    def error_text(self) -> str:
        """The last that it said on standard error."""

    def close(self) -> None:
        """End it, and free everything."""


def start_here(python: Path | None = None) -> ProcessChannel:
    """A worker on this machine, in edgekit's own Python or in that of a toolchain."""
    return ProcessChannel([sys.executable if python is None else str(python), str(WORKER)])


class WorkerProcess:
    """One worker, as a context: whatever happens inside, the process is gone afterwards.

    ``subject`` is what messages call the model, ``place`` what they call the machine.
    """

    def __init__(self, subject: str, stream: Stream | None = None, *, place: str = "here") -> None:
        self._subject = subject
        self._place = place
        self._nonce = secrets.token_hex(8)
        self._runtime = ""
        self._stream = stream or start_here()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._stream.pid

    @property
    def _who(self) -> str:
        return self._runtime or "The worker"

    def ask(self, verb: str, *, deadline_s: float, blob: bytes = b"", **options: Any) -> dict[str, Any]:
        """Send one request, with the bytes that follow it, and wait for its reply.

        Raises:
            ModelError: The runtime refused the model, crashed on it or did not answer in time.
            DataError: The data do not fit the model.
            DependencyError: The runtime is not installed.
            TargetError: A delegate cannot be used.
            DeviceError: The worker ended, or answered something else than its reply.
        """
        return self.exchange(verb, deadline_s=deadline_s, blob=blob, **options)[0]

    def exchange(
        self, verb: str, *, deadline_s: float, blob: bytes = b"", **options: Any
    ) -> tuple[dict[str, Any], bytes]:
        """As ``ask``, and the bytes that follow the reply."""
        self._runtime = str(options.get("runtime", self._runtime))
        if blob:
            options["blob_bytes"] = len(blob)
        reply, content = self._exchange({"verb": verb, **options}, blob, deadline_s)
        if reply.get("reply") != verb:
            raise self._broken(f"answered {str(reply)[:80]!r} to {verb}")
        return reply, content

    def close(self, *, deadline_s: float = 30.0) -> None:
        """End the worker; only its last line, with the right nonce, says that it finished.

        Raises:
            DeviceError: The last line did not come.
        """
        reply, _ = self._exchange({"verb": "close"}, b"", deadline_s)
        if reply.get("done") is not True:
            raise self._broken("did not finish")

    def _exchange(
        self, request: Mapping[str, Any], blob: bytes, deadline_s: float
    ) -> tuple[dict[str, Any], bytes]:
        verb, until = str(request["verb"]), time.monotonic() + deadline_s
        line = json.dumps({**request, "nonce": self._nonce, "deadline_s": deadline_s + _GRACE_S})
        try:
            self._stream.write(line.encode() + b"\n" + blob, until)
            text = self._stream.read_line(until).decode(errors="replace")
            reply = self._parsed(text)
            size = reply.get("blob_bytes", 0)
            if not isinstance(size, int) or not 0 <= size <= _MOST_BLOB_BYTES:
                raise self._broken(f"announced {size!r} bytes")
            content = self._stream.read_exact(size, until) if size else b""
        except Ended as error:
            raise self._ended(verb) from error
        except TimeoutError as error:
            failure = self._hung(verb, deadline_s)
            self._stream.close()
            raise failure from error
        if "error" in reply:
            raise self._failure(reply["error"])
        return reply, content

    def _parsed(self, text: str) -> dict[str, Any]:
        try:
            reply = json.loads(text)
        except ValueError as error:
            raise self._broken(f"answered {text[:80]!r}") from error
        if not isinstance(reply, dict) or reply.get("nonce") != self._nonce:
            raise self._broken("answered without the nonce of the request")
        return reply

    def _failure(self, error: Mapping[str, Any]) -> EdgekitError:
        """The worker's own account of what went wrong, as edgekit's error."""
        message = str(error.get("message"))
        match error.get("kind"):
            case "model":
                return ModelError(
                    "EK531",
                    f"{self._runtime} refuses {self._subject}: {message.rstrip('.')}.",
                    "Check the file with edgekit inspect.",
                )
            case "data":
                return DataError(
                    "EK534", f"The data do not fit {self._subject}: {message}.", "See edgekit inspect."
                )
            case "usage":
                return UsageError(
                    "EK524",
                    f"The run is not possible {self._place}: {message}.",
                    "edgekit device probe shows its cores.",
                )
            case "delegate":
                return TargetError(
                    "EK536",
                    f"The delegate cannot be used {self._place}: {message}.",
                    "Check the library's path there and that it is built for the same machine and runtime.",
                )
            case "gpu":
                more = ", and LiteRT with its WebGPU accelerator (on a device: edgekit device setup --with-webgpu)"
                return TargetError(
                    "EK536",
                    f"The GPU cannot be used {self._place}: {message}.",
                    f"It takes a GPU with a Vulkan driver{more if self._runtime == 'litert' else ''}. "
                    "Without --delegate gpu the model runs on the CPU.",
                )
            case "dependency":
                hint = f"Install it: {_INSTALL.get(self._runtime, f'pip install {self._runtime}')}"
                if self._place != "here":
                    hint = f"Set it up: edgekit device setup --runtime {self._runtime}"
                return DependencyError(
                    "EK533",
                    f"The runtime {self._runtime} does not work {self._place}: {message.rstrip('.')}.",
                    hint,
                )
        return InternalError(
            "EK910", f"The worker refused a request: {message}", "Report this with the model."
        )

    def _ended(self, verb: str) -> EdgekitError:
        """The worker is gone: a signal is the runtime's crash, anything else a broken connection."""
        status = self._stream.exit_status()
        if status is None:
            return DeviceError(
                "EK804",
                f"The connection was lost while {self._subject} was running {self._place} ({verb}).",
                "Check the device's power and network, then run the command again.",
                detail=self._stream.error_text(),
            )
        if -status == signal.SIGALRM:
            return self._hung(verb, None)
        if status < 0:
            return ModelError(
                "EK530",
                f"{self._who} crashed with {signal.Signals(-status).name} on {self._subject} ({verb}).",
                "The file may be corrupt, or the runtime too old for it; try another --runtime.",
                detail=self._stream.error_text(),
            )
        if status in _NOT_STARTED and self._place != "here":
            said = self._stream.error_text()
            return DependencyError(
                "EK533",
                f"{self._who} does not start {self._place}: {last_words(said) or 'no such program'}.",
                f"Set it up again: edgekit device setup --runtime {self._runtime}",
                detail=said,
            )
        return self._broken(f"ended with exit status {status} before it answered {verb}")

    def _hung(self, verb: str, deadline_s: float | None) -> ModelError:
        within = "in time" if deadline_s is None else f"within {deadline_s:g} s"
        return ModelError(
            "EK532",
            f"{self._who} did not answer {within} on {self._subject} ({verb}); it was ended.",
            "The model may be too large for this machine, or the file is corrupt.",
            detail=self._stream.error_text(),
        )

    def _broken(self, what: str) -> DeviceError:
        return DeviceError(
            "EK535",
            f"The measuring process {what}.",
            "Its result is not used. Run the command again; with -v it shows what the process printed.",
            detail=self._stream.error_text(),
        )
