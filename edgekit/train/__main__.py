"""The training process: one job on standard input, what happens as JSON lines on standard output."""

import faulthandler
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.train.job import ENDING_S, Job


def main() -> None:
    """Do the job that the first line of standard input describes."""
    faulthandler.enable()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # TensorFlow prints to descriptor 1 from C++, which would break the protocol.
    os.dup2(2, 1)
    job = Job.from_json(sys.stdin.readline())
    # As an exception it removes what is half written.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    # When the pipe is closed the parent is gone, by whatever death.
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def report(event: Mapping[str, Any]) -> None:
        replies.write(json.dumps(event) + "\n")
        replies.flush()

    try:
        from edgekit.train.run import run

        result = run(job, report)
        shutil.rmtree(job.checkpoints, ignore_errors=True)
        report({"event": "done", "result": result})
    except EdgekitError as error:
        kind, detail = type(error).__name__, error.detail or traceback.format_exc()
        report({"event": "refused", "kind": kind, **error.describe(), "detail": detail})
    except Exception as error:  # noqa: BLE001 - whatever a framework raises is translated by the parent
        kind, trace = type(error).__name__, traceback.format_exc()
        report({"event": "failed", "kind": kind, "message": str(error), "trace": trace})


def _end_with_parent() -> None:
    while sys.stdin.readline():
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ENDING_S)
    os._exit(1)


if __name__ == "__main__":
    main()
