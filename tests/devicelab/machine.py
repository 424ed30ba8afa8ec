"""A running device in namespaces of its own: switched on and off, entered from outside, never left over."""

import json
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from devicelab.processes import (
    LabError,
    call,
    children,
    in_namespace,
    is_alive,
    send,
    start,
    stop,
    wait_until,
)

if TYPE_CHECKING:
    from subprocess import Popen

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    """A root folder with processes.

    Attributes:
        folder: The lab's own files of this device.
        root: The device's ``/``, as this machine sees it; mounts in it are seen by the device alone.
    """

    def __init__(self, folder: Path, host_name: str, *, network_of: int | None = None) -> None:
        """Describe a device that is switched off.

        Args:
            folder: Where its ``root`` is or will be.
            host_name: The device's name for itself.
            network_of: A process in whose network the device is; None for this machine's.
        """
        self.folder = folder
        self.root = folder / "root"
        self.proc_files: dict[str, Path] = {}
        self.network_of = network_of
        self._host_name = host_name
        self._process: Popen | None = None
        self._services: list[Popen] = []
        self._namespace = 0

    @property
    def is_on(self) -> bool:
        return self._process is not None

    @property
    def init(self) -> int:
        """The device's process 1, as this machine numbers it."""
        if self._process is None:
            raise LabError("the device is switched off")
        return children(self._process.pid)[0]

    def switch_on(self) -> None:
        """Start process 1 and mount ``/proc`` and the like; ``proc_files`` cover files of ``/proc``."""
        root = str(self.root)
        mounts = [
            # A root that is a mount point is what df and findmnt expect.
            ["--bind", root, root],
            ["-t", "proc", "proc", f"{root}/proc"],
            ["-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", f"{root}/dev/pts"],
            ["-t", "tmpfs", "-o", "size=64m", "tmpfs", str(self.root / "dev/shm")],
            *(["--bind", str(file), f"{root}/proc/{name}"] for name, file in self.proc_files.items()),
        ]
        plan = json.dumps({"host_name": self._host_name, "mounts": mounts})
        first = [sys.executable, "-I", str(Path(__file__).with_name("first_process.py")), plan]
        log = self.folder / "init.log"
        log.unlink(missing_ok=True)
        self._process = start(
            [
                *self._enter_network(),
                *("unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--", *first),
            ],
            log,
        )

        def is_up() -> bool:
            if self._process.poll() is not None:
                raise LabError(f"the device did not start: {log.read_text(encoding='utf-8')[-1000:]}")
            return log.read_text(encoding="utf-8").endswith("up\n")

        wait_until(is_up, "the device's first process")
        self._namespace = Path(f"/proc/{self.init}/ns/pid").stat().st_ino

    def switch_off(self) -> None:
        """Kill every process of the device at once, as a power cut does; its mounts go with them."""
        if self._process is None:
            return
        send(children(self._process.pid))
        stop(self._process)
        for service in self._services:
            stop(service)
        self._services.clear()
        self._process = None
        wait_until(lambda: not self.processes(), "the end of the device's processes")

    def close(self) -> None:
        """Switch off and delete the root."""
        self.switch_off()
        if self.root.exists():
            shutil.rmtree(self.root)

    def processes(self) -> list[int]:
        """Every process of the device, as this machine numbers them."""
        return in_namespace("pid", self._namespace) if self._namespace else []

    def serve(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
        """Start a program of the device and return its process, as this machine numbers it."""
        process = start(
            [*self._enter(), "chroot", str(self.root), *command],
            log,
            environment={"PATH": _PATH, "HOME": "/root", **environment},
        )
        self._services.append(process)

        def has_child() -> bool:
            if process.poll() is not None:
                raise LabError(f"{command[0]} ended: {log.read_text(encoding='utf-8')[-1000:]}")
            return bool(children(process.pid))

        wait_until(has_child, f"the start of {command[0]}")
        return children(process.pid)[0]

    def run(self, *command: str, environment: Mapping[str, str] | None = None, timeout_s: float = 60) -> str:
        """Run a program of the device as its root and return what it printed.

        Raises:
            LabError: It failed.
        """
        return call(
            *self._enter(),
            "chroot",
            self.root,
            *command,
            env={"PATH": _PATH, **(environment or {})},
            timeout_s=timeout_s,
        )

    def mount(self, *arguments: str, at: str) -> None:
        """Mount over a path of the device, for the device alone, until it is switched off."""
        (self.root / at.lstrip("/")).mkdir(parents=True, exist_ok=True)
        call(*self._enter(), "mount", *arguments, self.root / at.lstrip("/"))

    def unmount(self, at: str) -> None:
        """Take away what ``mount`` mounted."""
        call(*self._enter(), "umount", "--lazy", self.root / at.lstrip("/"))

    def freeze(self) -> None:
        """Stop every process but the first where it stands."""
        send([pid for pid in self.processes() if pid != self.init], signal.SIGSTOP)

    def thaw(self) -> None:
        """Let stopped processes go on."""
        send(self.processes(), signal.SIGCONT)

    def kill_and_wait(self, *pids: int) -> None:
        """Kill processes and wait until they are gone."""
        send(pids)
        wait_until(lambda: not any(map(is_alive, pids)), "the end of killed processes")

    def _enter(self) -> list[str]:
        return ["nsenter", f"--target={self.init}", "--pid", "--mount", "--uts", "--net", "--"]

    def _enter_network(self) -> list[str]:
        return [] if self.network_of is None else ["nsenter", f"--net=/proc/{self.network_of}/ns/net", "--"]


def empty(folder: Path) -> None:
    """Delete what is in a folder."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
