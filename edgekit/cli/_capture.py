"""Keeps what libraries print away from the results.

Frameworks print from C++ to file descriptors 1 and 2, which no Python stream can redirect. So while a
command runs both descriptors lead elsewhere: to nowhere, or with ``-v`` both to standard error, at once
and unbuffered, so that the last words of a process that crashes are seen.
"""

import ctypes
import faulthandler
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def captured(*, live: bool) -> Iterator[TextIO]:
    """Redirect descriptors 1 and 2, and Python's streams; yields the real standard error.

    Args:
        live: Show everything on standard error, instead of nothing.
    """
    python_out, python_err = sys.stdout, sys.stderr
    _flush(python_out, python_err)
    saved = os.dup(1), os.dup(2)
    real_err = _stream(saved[1]) if _descriptor(python_err) == 2 else python_err
    sink = os.dup(2) if live else os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    sys.stdout = sys.stderr = real_err if live else _stream(sink)
    report_crashes = not faulthandler.is_enabled()
    if report_crashes:
        faulthandler.enable(saved[1], all_threads=False)
    try:
        yield real_err
    finally:
        if report_crashes:
            faulthandler.disable()
        _flush(sys.stdout, real_err)
        sys.stdout, sys.stderr = python_out, python_err
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in (*saved, sink):
            os.close(descriptor)


def _flush(*streams: TextIO) -> None:
    for stream in streams:
        stream.flush()
    # What C wrote with printf waits in C's own buffer, and would come out after the redirection ended.
    ctypes.CDLL(None).fflush(None)


def _stream(descriptor: int) -> TextIO:
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, io.UnsupportedOperation):  # pytest's streams have none
        return None
