"""A framework that lives in one child process per run of edgekit.

Importing TensorFlow or PyTorch takes seconds and their converters can crash, so edgekit's own process never loads
them. A child is started on first use, reused, and ends with its parent however that dies.
"""

import atexit
import contextlib
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from edgekit.errors import DependencyError, EdgekitError, ModelError

# -P keeps a keras.py in the user's folder from being imported in place of Keras.
PYTHON = (sys.executable, "-P", "-m")
_LOG_BYTES = 8000
# After these the child is gone or may be anywhere; after other refusals it can go on.
_LOST = frozenset({"EK123", "EK124"})


@dataclass(frozen=True)
class Framework:
    """What edgekit has to know of a framework to run it in a child.

    ``package`` is what Python imports, ``module`` the child's own, ``install`` the sentence that says how to get the
    framework, and ``translate`` makes an error of edgekit's out of ``(path, kind, message, detail, doing)``.
    ``doing`` has the past participle of each request for sentences, ``{"predict": "run"}``, and ``slow_hint`` what
    makes one faster.
    """

    name: str
    package: str
    module: str
    install: str
    translate: Callable[[Path, str, str, str, str], EdgekitError]
    doing: Mapping[str, str]
    slow_hint: str

    @property
    def deadline_variable(self) -> str:
        """The environment variable with which users give requests more time."""
        return f"EDGEKIT_{self.name.upper()}_DEADLINE_S"

    def is_installed(self) -> bool:
        """Whether Python finds the package."""
        return is_installed(self.package)


class _Child:
    """The running process: its pipes, its log and the folder through which arrays travel."""

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        self.folder = Path(tempfile.mkdtemp(prefix=f"edgekit-{framework.name.lower()}-"))
        self._log = self.folder / "log.txt"
        with self._log.open("wb") as log:
            # A session of its own keeps ctrl-C for the parent, which then ends the child.
            self._process = subprocess.Popen(
                [*PYTHON, framework.module, str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
                start_new_session=True,
            )
        self._requests = cast(IO[bytes], self._process.stdin)
        self._replies = cast(IO[bytes], self._process.stdout)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def ask(self, path: Path, request: Mapping[str, Any], deadline_s: float) -> Any:
        """One request and its reply.

        Raises:
            ModelError: The child refused the model, crashed on it, or took longer than the deadline.
            DependencyError: A package is missing.
        """
        framework = self._framework
        with contextlib.suppress(BrokenPipeError):
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        line = self._read_line(time.monotonic() + deadline_s)
        if line is None:
            raise ModelError(
                "EK124",
                f"{framework.name} did not finish with {path} within {deadline_s:.0f} seconds.",
                f"Set {framework.deadline_variable} to a longer time{framework.slow_hint}.",
                detail=self._tail(),
            )
        if not line:
            raise self._crashed(path)
        reply = json.loads(line)
        if "error" in reply:
            detail = f"{reply['trace']}\n{self._tail()}"
            doing = framework.doing[request["do"]]
            raise framework.translate(path, reply["error"], reply["message"], detail, doing)
        return reply["result"]

    def _read_line(self, deadline: float) -> bytes | None:
        """A line of the child's output; empty when it is gone, None when the deadline has passed."""
        content = b""
        while not content.endswith(b"\n"):
            ready, _, _ = select.select([self._replies], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            chunk = os.read(self._replies.fileno(), 1 << 16)
            if not chunk:
                return b""
            content += chunk
        return content

    def _crashed(self, path: Path) -> EdgekitError:
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        name = self._framework.name
        return ModelError(
            "EK123",
            f"{name} crashed on {path} ({how}).",
            f"Try another engine or recipe; run with -v for {name}'s own words.",
            detail=self._tail(),
        )

    def _tail(self) -> str:
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _LOG_BYTES))
            return log.read().decode(errors="replace")

    def end(self) -> None:
        """Kill the process and remove what it used."""
        self._process.kill()
        self._process.wait()
        self.abandon()
        shutil.rmtree(self.folder, ignore_errors=True)

    def abandon(self) -> None:
        """Close this side of the pipes. In a forked process the child goes on serving the parent."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self._replies.close()
        self._process.returncode = self._process.returncode or 0


class FrameworkProcess:
    """A framework's child, started when it is first asked."""

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        self._lock = threading.RLock()
        self._child: _Child | None = None
        atexit.register(self.stop)
        os.register_at_fork(after_in_child=self._forget)

    def start(self) -> None:
        """Begin to import the framework in the background; does nothing where it is not installed."""
        if self._framework.is_installed():
            self.started()

    def started(self) -> _Child:
        """The running child."""
        with self._lock:
            if self._child is None:
                self._child = _Child(self._framework)
            return self._child

    def stop(self) -> None:
        """End the child; the next request starts another."""
        with self._lock:
            if self._child is not None:
                child, self._child = self._child, None
                child.end()

    def ask(self, path: Path, request: Mapping[str, Any], deadline_s: float) -> Any:
        """Ask about the model at ``path``: ``{"do": "predict", ...}``.

        Raises:
            ModelError: The framework refused the model, crashed on it, or took longer than the deadline.
            DependencyError: A package is missing.
        """
        longer = os.environ.get(self._framework.deadline_variable)
        with self._lock:
            self.require(path)
            child = self.started()
            try:
                return child.ask(path, {**request, "path": str(path.absolute())}, float(longer or deadline_s))
            except BaseException as error:
                # After anything but a refusal, ctrl-C included, the child may be anywhere.
                if not isinstance(error, EdgekitError) or error.code in _LOST:
                    self.stop()
                raise

    @contextlib.contextmanager
    def exchange(self, path: Path) -> Iterator[Path]:
        """A folder for the arrays of one request, inside of the child's: it goes when the child does."""
        self.require(path)
        with tempfile.TemporaryDirectory(dir=self.started().folder, ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def require(self, path: Path) -> None:
        """Refuse to go on where the framework is not installed.

        Raises:
            DependencyError: It is not.
        """
        framework = self._framework
        if not framework.is_installed():
            message = f"{path} needs {framework.name}, which is not installed."
            raise DependencyError("EK610", message, framework.install)

    def _forget(self) -> None:
        """In a forked process: the child is the parent's, and must see its pipe closed when that dies."""
        if self._child is not None:
            self._child.abandon()
        self._child, self._lock = None, threading.RLock()


def environment() -> dict[str, str]:
    """The environment of a child process that runs a framework."""
    root = str(Path(__file__).parent.parent)
    # Where this is set, `keras` would be Keras 2.
    kept = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    return kept | {
        "TF_CPP_MIN_LOG_LEVEL": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_BACKEND": "tensorflow",
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        "PYTHONWARNINGS": "ignore",
    }


def is_installed(package: str) -> bool:
    """Whether Python finds a package."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:
        return False
