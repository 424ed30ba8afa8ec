"""What the tests of devices and their faults share: short deadlines, and what every error has to look like."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from devicelab.processes import wait_until
from devicelab.ssh_access import SshAccess

import edgekit
from edgekit.devices import remote_files
from edgekit.devices.device import Device
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError, EdgekitError
from edgekit.transports import Limits

# A stalled link is noticed after a second.
QUICK = Limits(
    connect_s=2, login_s=3, command_s=6, idle_s=2, keepalive_s=0.5, keepalive_count=2, patience_s=4
)
_CODES = tomllib.loads(Path(edgekit.__file__).with_name("findings.toml").read_text(encoding="utf-8"))


def device_of(access: SshAccess, folder: str | None = None) -> Device:
    """The device as a user with the lab's ssh_config names it."""
    return Device("lab", access.url, folder, str(access.config))


@contextlib.contextmanager
def failing(
    code: str, *, within_s: float, kind: type[EdgekitError] = DeviceError
) -> Iterator[list[EdgekitError]]:
    """Expect an error with a code, in time, that a person can read; it is in the list afterwards."""
    caught: list[EdgekitError] = []
    began = time.monotonic()
    with pytest.raises(kind) as info:
        yield caught
    seconds = time.monotonic() - began
    error = info.value
    caught.append(error)
    assert error.code == code, f"{error.code}: {error}"
    assert seconds < within_s
    assert error.code in _CODES
    assert error.message.endswith(".")
    assert "\n" not in error.message + error.hint
    assert "Errno" not in error.message
    assert error.hint
    assert (error.message + error.hint).isprintable()


def check_full_disk(shell: Shell, source: Path) -> None:
    """A device whose folder lies on a disk of 4 MB refuses what is larger, and keeps nothing of what did not fit."""
    path = f"{shell.folder}/models/model"
    source.write_bytes(os.urandom(6_000_000))
    with failing("EK807", within_s=20) as errors:
        remote_files.upload(shell, source, path)
    assert "6,000,000" in errors[0].message
    assert shell.run("ls", "-A", f"{shell.folder}/models").text == ""
    # It may also fill up while data arrive.
    source.write_bytes(os.urandom(2_500_000))
    fill = 'head -c 9000000 /dev/zero > "$1" 2> /dev/null; true'
    with failing("EK807", within_s=60):
        remote_files.upload(
            shell, source, path, progress=lambda *_: shell.script(fill, f"{shell.folder}/filler")
        )
    assert shell.run("ls", "-A", f"{shell.folder}/models").text == ""


_SLEEPING = """
import sys
from edgekit.devices.device import Device
from edgekit.devices.shell import Shell
with Shell(Device("lab", sys.argv[1], None, *sys.argv[2:])) as shell:
    print("up", flush=True)
    shell.run("sh", "-c", "sleep 1000 & sleep 1000; true")
"""


def check_ctrl_c(device: Device, started: Callable[[], list[object]]) -> None:
    """Ctrl-C ends what a command started on the device; ``started`` finds that, three processes at least."""
    config = [device.ssh_config] if device.ssh_config else []
    with subprocess.Popen(
        [sys.executable, "-c", _SLEEPING, device.url, *config],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "up\n"
        wait_until(lambda: len(started()) >= 3, "the start of the command")
        # As a terminal does it: to the whole group in the foreground.
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert said.rstrip().endswith("KeyboardInterrupt")
    wait_until(lambda: started() == [], "the end of the command")


@contextlib.contextmanager
def acting_after(seconds: float, act: Callable[[], None]) -> Iterator[threading.Thread]:
    """A thread that does something some time after it is started.

    It lives until the context ends: what the lab starts in a thread ends with that thread.
    """
    over = threading.Event()

    def wait_and_act() -> None:
        time.sleep(seconds)
        act()
        over.wait()

    thread = threading.Thread(target=wait_and_act)
    try:
        yield thread
    finally:
        over.set()
        thread.join(60)
