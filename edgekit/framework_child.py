"""The child's side of ``framework_process``: answers requests, one JSON document per line, until its parent is gone."""

import faulthandler
import importlib
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


def serve(folder: Path, module: str) -> None:
    """Import ``module``, then answer requests with its function ``answer(request, folder)``.

    Arrays travel as files in ``folder``, which is removed at the end. Does not return.
    """
    faulthandler.enable()
    _limit_memory()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Frameworks print to descriptor 1 from C++, which would break the protocol.
    os.dup2(2, 1)
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests, folder), daemon=True).start()
    try:
        answer = importlib.import_module(module).answer
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
