"""Trials in worker processes of this machine."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgekit.errors import ModelError
from edgekit.framework_process import PYTHON, environment
from edgekit.workflows.searching.configuration import Configuration
from edgekit.workflows.searching.trial import failed, request

_MODULE = "edgekit.workflows.searching.worker"
# Sums in another order would be other sums: the number of workers must not show in a result.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_LOG_BYTES = 4000

Job = tuple[Configuration, Path]


class LocalRunner:
    """A fixed number of processes, started when they are first needed; one that dies is replaced."""

    def __init__(self, material: Path, workers: int) -> None:
        self._material = material
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._all: list[_Worker] = []
        self._threads = ThreadPoolExecutor(workers)
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        for worker in tuple(self._all):
            worker.end()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._all:
            worker.close()

    def run(self, jobs: Sequence[Job], until: float) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each job's number and document, as they are done; none is begun after ``until``."""
        futures: dict[Future[dict[str, Any] | None], int] = {
            self._threads.submit(self._one, job, until): number for number, job in enumerate(jobs)
        }
        try:
            for future in as_completed(futures):
                document = future.result()
                if document is not None:
                    yield futures[future], document
        finally:
            for future in futures:
                future.cancel()

    def _one(self, job: Job, until: float) -> dict[str, Any] | None:
        if time.monotonic() >= until:
            return None
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = _Worker(self._material)
            self._all.append(worker)
        if self._ended:
            worker.end()
        try:
            document = worker.ask(*job)
        except (OSError, ValueError):
            document = None
        if document is None:
            return failed(worker.death(job[0]))
        self._idle.put(worker)
        return document


class _Worker:
    def __init__(self, material: Path) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # A session of its own keeps ctrl-C for the parent, which then ends the worker.
        self._process = subprocess.Popen(
            [*PYTHON, _MODULE, str(material)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment() | _ONE_THREAD,
            start_new_session=True,
        )

    def ask(self, configuration: Configuration, output: Path) -> dict[str, Any] | None:
        """The document of a trial, None where the worker died on it."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            return None
        stdin.write(request(configuration, output).encode() + b"\n")
        stdin.flush()
        line = stdout.readline()
        document: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return document

    def death(self, configuration: Configuration) -> ModelError:
        """How it ended, as an error."""
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_BYTES))
        detail = self._log.read().decode(errors="replace")
        hint = (
            "The machine may have run out of memory: use fewer --workers." if code == -signal.SIGKILL else ""
        )
        return ModelError(
            "EK574", f"The worker died while it tried {configuration.name} ({how}).", hint, detail=detail
        )

    def end(self) -> None:
        """Kill it, with every process that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Free its pipes and its log."""
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
