"""A plug-in command that does what real libraries do at their worst, found through its entry point."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

_PLUGIN = '''
import click
from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, progress, say


@edgekit_command(epilog="Example: edgekit awkward print")
@click.argument("act")
@click.option("--where", default="")
def command(act, where):
    """Misbehave in the way that ACT names."""
    result = globals()[act](where) or {"act": act}
    more = [where, *["x" * 100] * 3000] if act == "long" else [""]
    return Outcome(result, view=["the result" + more[0], *more[1:]])


def print_everywhere(_):
    import ctypes, os, sys
    os.write(1, b"descriptor one")
    os.write(2, b"descriptor two")
    ctypes.CDLL(None).printf(b"buffered by C")
    ctypes.CDLL(None).puts(b"buffered by C")
    print("python out")
    print("python err", file=sys.stderr)
    os.system("echo child")


def long(_):
    pass


def crash(_):
    import faulthandler
    faulthandler._sigsegv()


def defect(_):
    raise ValueError("seven is not eight")


def end_of_file(_):
    raise EOFError


def leave(_):
    raise SystemExit(0)


def missing(_):
    import a_package_that_nobody_has


def full(_):
    raise OSError(28, "No space left on device")


def memory(_):
    raise MemoryError


def group(_):
    raise ExceptionGroup("several", [ValueError("the first")])


def closed_pipe(_):
    raise BrokenPipeError(32, "Broken pipe")


def numbers(_):
    import numpy, pathlib
    return {"nan": float("nan"), "array": numpy.arange(3), "one": numpy.float32(1.5),
            "path": pathlib.Path("x"), "infinite": [float("inf")], "pair": (1, 2)}


def wait(where):
    import pathlib, time
    from edgekit.files import atomic_write
    with atomic_write(pathlib.Path(where)) as part:
        part.write_text("half")
        say("ready")
        time.sleep(60)


def wait_twice(where):
    import time
    try:
        wait(where)
    finally:
        time.sleep(1)


def slow(_):
    import time
    with progress("counting sheep") as advance:
        for done in range(1, 26):
            time.sleep(0.1)
            advance(done, 25)
'''


@pytest.fixture(scope="session")
def plugin_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "awkward_command.py").write_text(_PLUGIN)
    info = folder / "awkward-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: awkward\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgekit.cli]\nawkward = awkward_command\n")
    return folder


@pytest.fixture
def edgekit_env(plugin_folder) -> dict[str, str]:
    quiet = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    return quiet | {"PYTHONPATH": str(plugin_folder), "TERM": "xterm"}


@pytest.fixture
def edgekit(edgekit_env, tmp_path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run the command line as a user does, with the awkward plug-in installed."""

    def start(*arguments: str, **options):
        return subprocess.run(
            [sys.executable, "-m", "edgekit", *arguments],
            capture_output=not options.keys() & {"stdout", "stderr"},
            text=True,
            timeout=60,
            check=False,
            **{"env": edgekit_env, "cwd": tmp_path} | options,
        )

    return start
