"""What the tests of devices and their faults share: short deadlines, and what every error has to look like."""

import contextlib
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from devicelab.ssh_access import SshAccess

import edgekit
from edgekit.devices.device import Device
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
