"""``python -m edgekit`` and the console script."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line and exit with its code."""
    _open_standard_streams()
    for name in (signal.SIGTERM, signal.SIGHUP):
        # A signal that nohup or a parent has set to be ignored stays ignored.
        if signal.getsignal(name) is signal.SIG_DFL:
            signal.signal(name, _interrupt)
    try:
        from edgekit.cli import complete, run

        sys.exit(complete() if "_EDGEKIT_COMPLETE" in os.environ else run(sys.argv[1:]))
    except KeyboardInterrupt:  # while importing: `run` itself answers all later ones
        sys.exit(130)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
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
