"""The process that answers: started by ``pool.py``, spoken to over a socket, gone when that closes."""

import os
import queue
import signal
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from edgekit.answering.job import Answerer, Job
from edgekit.errors import EdgekitError

if TYPE_CHECKING:
    from edgekit.data import Batch


def main(descriptor: int) -> None:
    """Receive a job, say ``None`` when it is ready, then answer every batch with a result.

    What goes wrong is answered too: as ``(class name, code, message, hint, detail)``.
    """
    # Ctrl-C reaches the whole group; the parent decides, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection: Connection[object, object] = Connection(descriptor)
    batches: queue.SimpleQueue[Batch] = queue.SimpleQueue()
    try:
        job = connection.recv()
        assert isinstance(job, Job)  # noqa: S101 - a promise to the type checker
        answer = Answerer(job)
        connection.send(None)
        threading.Thread(target=_receive, args=(connection, batches), daemon=True).start()
        while True:
            connection.send(answer(batches.get()))
    except EdgekitError as error:
        connection.send((type(error).__name__, error.code, error.message, error.hint, error.detail))


def _receive(connection: "Connection[object, Batch]", batches: "queue.SimpleQueue[Batch]") -> None:
    """Take batches off the socket while the model runs, so that neither side ever waits to send."""
    try:
        while True:
            batches.put(connection.recv())
    except (EOFError, OSError):
        # The parent has all results, or is gone.
        os._exit(0)
