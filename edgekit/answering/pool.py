"""Batches out to workers and results back, in order, with a bounded number of batches under way."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgekit import errors
from edgekit.answering.feed import UNDER_WAY, Feed, batch_size
from edgekit.answering.job import Answerer, Job, Result
from edgekit.answering.mailbox import Letter
from edgekit.data import Dataset
from edgekit.errors import EdgekitError, ModelError
from edgekit.runtimes import Session

# What TensorFlow's process is given at once.
_CALL_BYTES = 8 << 20
_CALL_SAMPLES = 1024
# A device may need seconds for a sample; progress shall be seen.
_LINK_SAMPLES = 64
_SILENCE_S = 600.0
_WORKER_BYTES = 150 << 20
_LOG_CHARS = 4000


@dataclass
class Speed:
    """Filled in while results are read: the time from when all workers were ready to the last result."""

    workers: int = 0
    started_s: float = 0.0
    seconds: float = 0.0


def answers(
    job: Job,
    data: Dataset,
    *,
    workers: int | None = None,
    speed: Speed | None = None,
    session: Session | None = None,
) -> Iterator[Result]:
    """Run a job over a dataset; results come in the order of the samples.

    TensorFlow has a process of its own already, so its models are fed from here. So is a ``session`` that is
    given: the model as it runs elsewhere.

    Raises:
        ModelError: A runtime fails, crashes or hangs.
        DataError: A sample does not fit the model.
    """
    speed = speed or Speed()
    if session is not None:
        yield from _in_this_process(Answerer(job, session), data, speed, most=_LINK_SAMPLES)
        return
    if "tensorflow" in job.runtimes:
        yield from _in_this_process(Answerer(job), data, speed, most=_CALL_SAMPLES)
        return
    speed.workers = min(workers or _affordable_workers(job), data.count)
    feed = Feed(data, speed.workers)
    with _Pool(job, speed.workers, feed) as pool:
        yield from _in_order(pool.run(speed))


def _affordable_workers(job: Job) -> int:
    """One per core, unless so many copies of the model would not fit into memory."""
    model_bytes = job.model.size_bytes + (job.reference.size_bytes if job.reference else 0)
    # Weights are packed anew by the fast kernels, and activations come on top.
    worker_bytes = 4 * model_bytes + _WORKER_BYTES
    return max(1, min(len(os.sched_getaffinity(0)), _available_bytes() // worker_bytes))


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _in_this_process(answer: Answerer, data: Dataset, speed: Speed, *, most: int) -> Iterator[Result]:
    speed.workers = 1
    speed.started_s = time.perf_counter()
    try:
        # Each call costs a round trip to the other process, so batches are as large as memory allows.
        for raw in data.raw_batches(batch_size(data, limit_bytes=_CALL_BYTES, most=most)):
            yield answer(raw)
            speed.seconds = time.perf_counter() - speed.started_s
    finally:
        answer.close()


def _in_order(results: Iterator[Result]) -> Iterator[Result]:
    early: dict[int, Result] = {}
    position = 0
    for result in results:
        early[result.first] = result
        while position in early:
            ready = early.pop(position)
            position += ready.count
            yield ready


class _Worker:
    """One process, and its end of the socket."""

    def __init__(self, job: Job, feed: Feed) -> None:
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        root = str(Path(__file__).parents[2])
        environment = {
            **os.environ,
            # One thread each: numerical libraries would start one per core.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        }
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno(), feed.mailbox.descriptor],
                env=environment,
            )
        self.connection: Connection[Any, Any] = Connection(ours.detach())
        self.under_way: deque[Letter] = deque()
        self._file = job.model.path.name
        self._send((job, (*feed.memory, feed.mailbox.descriptor), feed.sample))

    def give(self, letter: Letter) -> None:
        """Let it answer a batch."""
        self._send(letter)
        self.under_way.append(letter)

    def _send(self, message: object) -> None:
        # A broken pipe means that it died; receiving will say how.
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(message)

    def receive(self) -> Any:
        """The next ``Result``; the first time, when the worker is ready, the seconds that a sample takes.

        Raises:
            ModelError: It crashed, or reports an error.
        """
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._crashed() from error
        if isinstance(message, tuple):
            kind, code, text, hint, detail = message
            failure: type[EdgekitError] = getattr(errors, kind)
            raise failure(code, text, hint, detail=detail)
        return message

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()
        self._log.close()

    def _crashed(self) -> ModelError:
        code = self.process.wait()
        reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._log.seek(0)
        return ModelError(
            "EK416",
            f"The runtime crashed while executing {self._file} ({reason}).",
            "The file may be damaged: compare its sha256 with the source's. -v shows the runtime's words.",
            detail=self._log.read().decode(errors="replace")[-_LOG_CHARS:],
        )


_START = "import sys; from edgekit.answering.worker import main; main(int(sys.argv[1]))"


class _Pool:
    """Workers, as a context: whatever happens inside, they are gone afterwards."""

    def __init__(self, job: Job, count: int, feed: Feed) -> None:
        self._file = job.model.path.name
        self._feed = feed
        self._workers: list[_Worker] = []
        with contextlib.ExitStack() as undo:
            undo.callback(self._end)
            for _ in range(count):
                self._workers.append(_Worker(job, feed))
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, speed: Speed) -> Iterator[Result]:
        """Results as they come. Batches are read ahead while the workers start."""
        feed = self._feed
        feed.read_ahead()
        rate = self._await_ready()
        speed.started_s = time.perf_counter()
        answered = 0
        for _ in range(UNDER_WAY):
            for worker in self._workers:
                self._give(worker, rate)
        while any(worker.under_way for worker in self._workers):
            for worker in self._ready():
                result: Result = worker.receive()
                feed.mailbox.answered(worker.under_way.popleft())
                speed.seconds = time.perf_counter() - speed.started_s
                answered += result.count
                self._give(worker, answered / speed.seconds)
                yield result

    def _await_ready(self) -> float:
        """The samples per second that the workers expect to answer together."""
        starting, rate = set(self._workers), 0.0
        while starting:
            for worker in self._ready(starting):
                rate += 1 / worker.receive()
                starting.remove(worker)
        return rate

    def _ready(self, among: set[_Worker] | None = None) -> list[_Worker]:
        """The workers that have something to say.

        Raises:
            ModelError: None of them has for too long.
        """
        by_connection = {worker.connection: worker for worker in among or self._workers}
        ready = wait(list(by_connection), timeout=_SILENCE_S)
        if not ready:
            raise ModelError(
                "EK417",
                f"{self._file} gave no answer for {_SILENCE_S:.0f} seconds.",
                "The model may loop for ever, or be far too large for this machine.",
            )
        return [by_connection[connection] for connection in ready if isinstance(connection, Connection)]

    def _give(self, worker: _Worker, rate: float) -> None:
        letter = self._feed.take(rate)
        if letter is not None:
            worker.give(letter)

    def _end(self) -> None:
        for worker in self._workers:
            worker.end()
        self._feed.mailbox.close()
