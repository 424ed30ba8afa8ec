"""Answers requests, one JSON document per line on standard input and output, until its parent is gone."""

import faulthandler
import json
import os
import queue
import resource
import shutil
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, BinaryIO


def main(folder: Path) -> None:
    """Import TensorFlow, then serve; arrays travel as files in ``folder``, which is removed at the end."""
    faulthandler.enable()
    _limit_memory()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # TensorFlow prints to descriptor 1 from C++, which would break the protocol.
    os.dup2(2, 1)
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests, folder), daemon=True).start()
    # Keras imports scikit-learn where it is installed, which takes up to two seconds and serves nothing here.
    sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]
    try:
        from edgekit.tensorflow_child.serving import answer
    except ImportError as error:
        failure = _failure(error)
        while True:
            requests.get()
            _reply(replies, failure)
    while True:
        request = requests.get()
        try:
            reply: dict[str, Any] = {"result": answer(request, folder)}
        except Exception as error:  # noqa: BLE001 - whatever a framework raises is translated by the parent
            reply = _failure(error)
        _reply(replies, reply)


def _listen(stream: BinaryIO, requests: "queue.Queue[dict[str, Any]]", folder: Path) -> None:
    """Queue the requests; end this process as soon as the parent closes the pipe, by whatever death."""
    for line in stream:
        requests.put(json.loads(line))
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _reply(stream: Any, reply: dict[str, Any]) -> None:
    stream.write(json.dumps(reply) + "\n")
    stream.flush()


def _failure(error: Exception) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": str(error), "trace": traceback.format_exc()}


def _limit_memory() -> None:
    """Let a damaged file that claims terabytes fail here, and not bring the machine down."""
    physical_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = physical_bytes if hard == resource.RLIM_INFINITY else min(physical_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
