"""Training in a process of its own: TensorFlow never enters edgekit's, and ctrl-C ends it with an epoch kept.

The process stays for the next job, which then does not have to import TensorFlow again. It ends with its parent, and
after anything but success.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

from edgekit import errors, tensorflow_process
from edgekit.errors import ModelError
from edgekit.framework_process import PYTHON, environment
from edgekit.tensorflow_errors import translate
from edgekit.train.job import ENDING_S, Job

_LOG_BYTES = 8000

Report = Callable[[Mapping[str, Any]], None]


class _Child:
    """The running process: its pipes, its log, and what it was started under."""

    def __init__(self) -> None:
        self.surroundings = _surroundings()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the process lives
        self._process = subprocess.Popen(
            [*PYTHON, "edgekit.train"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(),
            # ctrl-C is for this process, which then ends the child.
            start_new_session=True,
        )
        self._jobs = cast(IO[bytes], self._process.stdin)
        self._events = cast(IO[bytes], self._process.stdout)

    @property
    def is_alive(self) -> bool:
        """Whether it can do another job."""
        return self._process.poll() is None

    def follow(self, job: Job, report: Report) -> tuple[dict[str, Any], bool]:
        """The result of a job, and whether the process waits for another.

        Raises:
            EdgekitError: What the child refused, or how it ended.
        """
        # Where it is gone, its end is told below.
        with contextlib.suppress(BrokenPipeError):
            self._jobs.write(job.to_json().encode() + b"\n")
            self._jobs.flush()
        waiting: Mapping[str, Any] | None = None
        for line in self._events:
            event = json.loads(line)
            kind = event["event"]
            if kind == "done":
                return event["result"], event["stays"]
            if kind == "refused":
                raise getattr(errors, event["kind"])(
                    event["code"], event["message"], event["hint"], detail=event["detail"]
                )
            if kind == "failed":
                raise translate(
                    Path(job.model), event["kind"], event["message"], event["trace"], doing="trained"
                )
            if kind in ("waiting", "joined"):
                waiting = event if kind == "waiting" else None
            report(event)
        code = self._process.wait()
        if waiting and code == 1:
            raise _alone(waiting, _tail(self._log))
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise ModelError(
            "EK732",
            f"The training of {job.model} ended without a result ({how}).",
            "Run the same command with --resume to go on after its last epoch; with -v for TensorFlow's own words.",
            detail=_tail(self._log),
        )

    def end(self) -> None:
        """Let it remove what it has half written, but do not wait for ever."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_S)
        self.kill()

    def kill(self) -> None:
        """End it at once: where it only waits, nothing is half written."""
        self._process.kill()
        self._process.wait()
        self.abandon()

    def abandon(self) -> None:
        """Close this side of the pipes. In a forked process the child goes on serving the parent."""
        with contextlib.suppress(BrokenPipeError):
            self._jobs.close()
        self._events.close()
        self._log.close()
        self._process.returncode = self._process.returncode or 0


# The process that waits for a job: one at most.
_waiting: list[_Child] = []


def train(job: Job, report: Report | None = None) -> dict[str, Any]:
    """Do a job in a child process.

    Args:
        job: What to train.
        report: Told ``{"event": "epoch", "epoch": 1, "numbers": {...}, "seconds": 12.3}`` after each epoch, and
            ``{"event": "step", ...}`` in between.

    Returns:
        What ``train.run.run`` gives.

    Raises:
        EdgekitError: What the child refused, or how it ended.
    """
    tensorflow_process.require(Path(job.model))
    child = _Child() if job.strategy == "multiworker" else _take()
    stays = False
    try:
        result, stays = child.follow(job, report or (lambda _event: None))
    finally:
        if stays and not _waiting:
            _waiting.append(child)
        else:
            child.end()
    return result


def stop() -> None:
    """End the process that waits; the next job starts another."""
    while _waiting:
        _waiting.pop().kill()


def _take() -> _Child:
    """The process that waits, where it lives and a new one would find nothing else around it; else a new one."""
    while _waiting:
        child = _waiting.pop()
        if child.is_alive and child.surroundings == _surroundings():
            return child
        child.kill()
    return _Child()


def _surroundings() -> tuple[dict[str, str], Path]:
    variables = environment()
    # Changes from test to test, and means nothing to a training.
    variables.pop("PYTEST_CURRENT_TEST", None)
    return variables, Path.cwd()


def _forget() -> None:
    """In a forked process: the child belongs to the parent, and must see its pipe closed when that dies."""
    while _waiting:
        _waiting.pop().abandon()


def _alone(waiting: Mapping[str, Any], detail: str) -> ModelError:
    name, seconds = waiting["worker"], waiting["deadline_s"]
    return ModelError(
        "EK788",
        f"{name.capitalize()} waited {seconds:.0f} seconds for the others, who did not all come.",
        "Start the same command on every worker of TF_CONFIG, within EDGEKIT_WORKERS_DEADLINE_S seconds.",
        detail=detail,
    )


def _tail(log: Any) -> str:
    end = log.seek(0, 2)
    log.seek(max(0, end - _LOG_BYTES))
    return str(log.read().decode(errors="replace"))


atexit.register(stop)
os.register_at_fork(after_in_child=_forget)
