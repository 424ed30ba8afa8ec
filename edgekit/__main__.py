"""``python -m edgekit`` and the console script."""

import os
import signal
import sys
import time
from types import FrameType

_INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE_S = 5.0


def main() -> None:
    """Run the command line and exit with its code."""
    _open_standard_streams()
    interrupt = _Interrupt()
    for name in _SIGNALS:
        # A signal that nohup or a parent has set to be ignored stays ignored.
        if signal.getsignal(name) is not signal.SIG_IGN:
            signal.signal(name, interrupt)
    try:
        from edgekit.cli._group import complete, run

        code = complete() if "_EDGEKIT_COMPLETE" in os.environ else run(sys.argv[1:])
    except KeyboardInterrupt:  # while importing: `run` itself answers all later ones
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        for name in _SIGNALS:
            signal.signal(name, signal.SIG_IGN)
    sys.exit(code)


class _Interrupt:
    """Turns a signal into KeyboardInterrupt; those that follow at once do not disturb the cleaning up."""

    def __init__(self) -> None:
        self._last_s = -_PATIENCE_S

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s >= _PATIENCE_S:
            self._last_s = now_s
            raise KeyboardInterrupt


def _open_standard_streams() -> None:
    """See that descriptors 0 to 2 are open, and that no character of a file's name can break printing."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed by `>&-`: the next file opened would become standard output
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
