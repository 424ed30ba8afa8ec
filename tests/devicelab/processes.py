"""What every tier needs of the system: programs found, started, watched and ended by their recorded pid."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


class UnavailableError(Exception):
    """A tier cannot be built on this machine; the message is the one line that a skipped test shows."""


class LabError(Exception):
    """The lab itself did not work, though it should: never a reason to skip."""


def find_program(name: str, package: str) -> str:
    """Return the path of a program, which may lie where only root looks.

    Raises:
        UnavailableError: It is not installed.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}")
    if found is None:
        raise UnavailableError(f"{name} is missing: apt-get install {package}")
    return found


def call(*command: str | Path, timeout_s: float = 60, **options) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        LabError: It failed or took too long.
    """
    try:
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            **{"stdin": subprocess.DEVNULL, **options},
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{command[0]} took more than {timeout_s:g} s") from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{last}")
    return done.stdout


def start(
    command: Sequence[str | Path], log: Path, *, environment: Mapping[str, str] | None = None
) -> subprocess.Popen:
    """Start a process that ends at the latest when this one does, its output appended to ``log``."""
    # Linux sends the signal, even when the tests are killed; elsewhere the fixtures' own clean-up must do.
    leash = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with log.open("ab") as output:
        return subprocess.Popen(
            [*leash, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )


def stop(process: subprocess.Popen, *, timeout_s: float = 10) -> None:
    """End a process that ``start`` started, stopped or not, and wait until it is gone."""
    if process.poll() is None:
        process.kill()
    process.wait(timeout_s)


def wait_until(happened: Callable[[], bool], what: str, *, timeout_s: float = 20) -> None:
    """Wait for a condition.

    Raises:
        LabError: It did not come true in time.
    """
    deadline = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.03)


def free_port() -> int:
    """A TCP port of loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_alive(pid: int) -> bool:
    """Whether a process runs, or is stopped; a zombie is dead."""
    return _state(pid) not in {"", "Z", "X"}


def children(pid: int) -> list[int]:
    """The direct children of a process, as this machine numbers them."""
    return [other for other in _pids() if _status(other).get("PPid") == str(pid)]


def descendants(pid: int) -> list[int]:
    """The children of a process, and theirs, nearest first."""
    found = children(pid)
    for child in found:
        found.extend(children(child))
    return found


def name_of(pid: int) -> str:
    """A process's short name; empty where it has ended."""
    return _status(pid).get("Name", "")


def send(pids: Sequence[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to processes; one that has just ended is no error."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def in_namespace(kind: str, inode: int) -> list[int]:
    """The processes in one namespace: ``kind`` is "net", "pid" or "mnt", ``inode`` names it."""

    def inside(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/ns/{kind}").stat().st_ino == inode
        except OSError:
            return False

    return [pid for pid in _pids() if inside(pid) and is_alive(pid)]


def with_environment(name: str, value: str) -> list[int]:
    """The processes that have a variable in the environment they were started with."""
    wanted = f"{name}={value}".encode()

    def has_it(pid: int) -> bool:
        try:
            return wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False

    return [pid for pid in _pids() if has_it(pid) and is_alive(pid)]


def _pids() -> list[int]:
    return sorted(int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal())


def _state(pid: int) -> str:
    return _status(pid).get("State", "")[:1]


def _status(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
