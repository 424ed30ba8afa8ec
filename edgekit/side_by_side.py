"""Work on several devices at once, each in a thread that mostly waits; ctrl-C ends all of them in order."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edgekit.errors import EdgekitError

_T = TypeVar("_T")

Progress = Callable[[int, int], None]


class _Cancelled(Exception):  # noqa: N818 - not an error: somebody pressed ctrl-C
    """The work is given up; raised in a thread at its next report."""


def side_by_side(
    jobs: Sequence[Callable[[Progress], _T]], progress: Progress | None = None
) -> list[_T | EdgekitError]:
    """The result of each job, or what went wrong with it. One job alone runs in this thread.

    Args:
        jobs: Called with a callback that they tell how far they are.
        progress: Told the sums over all jobs.

    Raises:
        EdgekitError: What goes wrong with a job that is alone.
    """
    report = progress or (lambda _done, _total: None)
    if len(jobs) == 1:
        return [jobs[0](report)]
    states, lock, cancelled = [(0, 0)] * len(jobs), threading.Lock(), threading.Event()

    def reporter(number: int) -> Progress:
        def told(done: int, total: int) -> None:
            if cancelled.is_set():
                raise _Cancelled
            with lock:
                states[number] = (done, total)
                report(sum(part for part, _ in states), sum(whole for _, whole in states))

        return told

    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(job, reporter(number)) for number, job in enumerate(jobs)]
        try:
            return [_result(future.result) for future in futures]
        finally:
            cancelled.set()


def _result(wait: Callable[[], _T]) -> _T | EdgekitError:
    try:
        return wait()
    except EdgekitError as error:
        return error
