"""The process that answers: started by ``pool.py``, spoken to over a socket, gone when that closes."""

import os
import queue
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from edgekit.answering.job import Answerer
from edgekit.answering.mailbox import Mailbox
from edgekit.errors import EdgekitError

if TYPE_CHECKING:
    from edgekit.answering.mailbox import Letter
    from edgekit.data import Batch

_WARMUP_S = 0.03


def main(descriptor: int) -> None:
    """Receive a job, say how long a sample takes when it is ready, then answer every batch with a result.

    What goes wrong is answered too: as ``(class name, code, message, hint, detail)``.
    """
    # Ctrl-C reaches the whole group; the parent decides, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection: Connection[Any, Any] = Connection(descriptor)
    letters: queue.SimpleQueue[Letter] = queue.SimpleQueue()
    try:
        job, memory, sample = connection.recv()
        threading.Thread(target=_receive, args=(connection, letters), daemon=True).start()
        answer, mailbox = Answerer(job), Mailbox(*memory)
        connection.send(_warm_up(answer, sample))
        while True:
            connection.send(answer(mailbox.open(letters.get())))
    except EdgekitError as error:
        connection.send((type(error).__name__, error.code, error.message, error.hint, error.detail))


def _warm_up(answer: Answerer, sample: "Batch") -> float:
    """Seconds that one sample takes; the first may take far longer, for runtimes then do part of their loading."""
    warm_at = time.perf_counter() + _WARMUP_S
    while True:
        started = time.perf_counter()
        answer(sample)
        ended = time.perf_counter()
        if ended >= warm_at:
            return ended - started


def _receive(connection: "Connection[Any, Any]", letters: "queue.SimpleQueue[Letter]") -> None:
    """Take letters off the socket while the model runs: neither side ever waits to send, and both notice an end."""
    try:
        while True:
            letters.put(connection.recv())
    except (EOFError, OSError):
        # The parent has all results, or is gone.
        os._exit(0)
