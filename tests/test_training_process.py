"""The process that trains: kept for the next job, but never where that would show."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit import training_process

# Starts the process, says its number and that of a fork of itself, and ends or stays.
_WAITS = """
import os, sys, time
from edgekit import training_process as training
child = training._Child()
training._waiting.append(child)
print(child._process.pid, flush=True)
forked = os.fork()
if forked:
    print(forked, flush=True)
if not forked or "stay" in sys.argv:
    time.sleep(60)
"""


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _ends(pid: int) -> bool:
    deadline = time.monotonic() + 60
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not _runs(pid)


@pytest.fixture
def waiting():
    """A process that waits for its first job, in the place of one that has done some."""
    training_process.stop()
    training_process._waiting.append(training_process._Child())
    yield training_process._waiting[0]
    training_process.stop()


def _pid_of_next() -> int:
    child = training_process._take()
    training_process._waiting.append(child)
    return child._process.pid


def test_the_next_job_finds_the_process_that_waits(waiting):
    assert _pid_of_next() == waiting._process.pid


def test_one_that_was_killed_is_replaced(waiting):
    os.kill(waiting._process.pid, signal.SIGKILL)
    waiting._process.wait()
    assert _pid_of_next() != waiting._process.pid


@pytest.mark.parametrize("what", ["a variable", "the folder"])
def test_other_surroundings_get_another_process(waiting, what, monkeypatch, tmp_path):
    """Relative paths, and whatever libraries read from the environment, mean what they mean now."""
    if what == "a variable":
        monkeypatch.setenv("TF_DETERMINISTIC_OPS", "1")
    else:
        monkeypatch.chdir(tmp_path)
    assert _pid_of_next() != waiting._process.pid
    assert _ends(waiting._process.pid)


@pytest.mark.parametrize("killed", [True, False])
def test_it_ends_with_its_parent_also_where_that_has_forked(killed):
    words = [sys.executable, "-c", _WAITS, *(["stay"] if killed else [])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        pid, forked = int(parent.stdout.readline()), int(parent.stdout.readline())
        if killed:
            assert _runs(pid)
            parent.kill()
        assert _ends(pid)
        assert _runs(forked)
        os.kill(forked, signal.SIGKILL)
