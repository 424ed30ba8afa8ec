"""Training in a process of its own: TensorFlow never enters edgekit's, and ctrl-C ends it with an epoch kept."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgekit import errors, tensorflow_process
from edgekit.errors import ModelError
from edgekit.tensorflow_errors import translate
from edgekit.train.job import ENDING_S, Job

_PYTHON = [sys.executable, "-P", "-m", "edgekit.train"]
_LOG_BYTES = 8000

Report = Callable[[Mapping[str, Any]], None]


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
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            _PYTHON,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=tensorflow_process.environment(),
            # ctrl-C is for this process, which then ends the child.
            start_new_session=True,
        )
        try:
            return _follow(process, job, report or (lambda _event: None), log)
        finally:
            _end(process)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Let it remove what it has half written, but do not wait for ever."""
    process.terminate()
    try:
        process.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _follow(process: "subprocess.Popen[bytes]", job: Job, report: Report, log: Any) -> dict[str, Any]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the child was started without pipes")
    try:
        process.stdin.write(job.to_json().encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # its end is told below
    for line in process.stdout:
        event = json.loads(line)
        kind = event["event"]
        if kind == "done":
            result: dict[str, Any] = event["result"]
            return result
        if kind == "refused":
            raise getattr(errors, event["kind"])(
                event["code"], event["message"], event["hint"], detail=event["detail"]
            )
        if kind == "failed":
            raise translate(Path(job.model), event["kind"], event["message"], event["trace"], doing="trained")
        report(event)
    code = process.wait()
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    raise ModelError(
        "EK732",
        f"The training of {job.model} ended without a result ({how}).",
        "Run the same command with --resume to go on after its last epoch; with -v for TensorFlow's own words.",
        detail=_tail(log),
    )


def _tail(log: Any) -> str:
    end = log.seek(0, 2)
    log.seek(max(0, end - _LOG_BYTES))
    return str(log.read().decode(errors="replace"))
