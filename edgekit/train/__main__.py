"""The training process: jobs on standard input, one after another, what happens as JSON lines on standard output."""

import faulthandler
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from edgekit.data.function import LOADED
from edgekit.errors import EdgekitError
from edgekit.train.job import ENDING_S, Job

Report = Callable[[Mapping[str, Any]], None]


def main() -> None:
    """Do the jobs that the lines of standard input describe; a job that fails is the last."""
    faulthandler.enable()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # TensorFlow prints to descriptor 1 from C++, which would break the protocol.
    os.dup2(2, 1)
    # As an exception it removes what is half written.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()

    def report(event: Mapping[str, Any]) -> None:
        replies.write(json.dumps(event) + "\n")
        replies.flush()

    while _do(jobs.get(), report):
        _forget()


def _do(text: str, report: Report) -> bool:
    """Do one job; whether another may follow."""
    try:
        job = Job.from_json(text)
        _import_keras()
        from edgekit.train.run import run

        result = run(job, report)
        shutil.rmtree(job.checkpoints, ignore_errors=True)
        # Whatever the user's own code imported or changed would still be there for the next job.
        # Operations that several devices do together are numbered through the process, and must not be mixed up.
        stays = not LOADED and job.strategy is None
        report({"event": "done", "result": result, "stays": stays})
        return stays
    except EdgekitError as error:
        kind, detail = type(error).__name__, error.detail or traceback.format_exc()
        report({"event": "refused", "kind": kind, **error.describe(), "detail": detail})
    except Exception as error:  # noqa: BLE001 - whatever a framework raises is translated by the parent
        kind, trace = type(error).__name__, traceback.format_exc()
        report({"event": "failed", "kind": kind, "message": str(error), "trace": trace})
    return False


def _import_keras() -> None:
    """Without scikit-learn, which Keras imports where it is installed: a second for nothing that is used here."""
    missing = "sklearn" not in sys.modules
    if missing:
        sys.modules["sklearn"] = None  # type: ignore[assignment]
    try:
        import keras  # noqa: F401
    finally:
        if missing:
            # The user's own code may want it.
            del sys.modules["sklearn"]


def _forget() -> None:
    """Names, seeds and graphs of the last job are nothing to the next one."""
    import keras

    keras.utils.clear_session()


def _listen(jobs: "queue.SimpleQueue[str]") -> None:
    """Queue the jobs; when the pipe is closed the parent is gone, by whatever death."""
    for line in sys.stdin:
        jobs.put(line)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ENDING_S)
    os._exit(1)


if __name__ == "__main__":
    main()
