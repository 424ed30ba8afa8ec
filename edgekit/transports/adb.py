"""An Android device behind the real ``adb`` client, which keeps the connection in its own server."""

import shlex
import subprocess
import time
from collections.abc import Sequence

from edgekit.devices.channel import Channel, Ended, ProcessChannel, last_words
from edgekit.devices.device import Device
from edgekit.errors import DependencyError, DeviceError
from edgekit.transports import Limits

# adb says these of a device that it knows and cannot use.
_REASONS = {
    "unauthorized": (
        "EK813",
        "has not authorized this computer",
        "Unlock its screen and accept the computer's key; if no question appears: adb kill-server, then replug.",
    ),
    "offline": ("EK814", "is offline", "Replug it, or: adb disconnect {serial}; adb connect {serial}"),
    "no permissions": (
        "EK813",
        "may not be opened by this user",
        "See `adb devices`: it names the missing udev rule.",
    ),
}

# The one place where every shell user may both write and execute.
FOLDER = "/data/local/tmp/edgekit"


class AdbTransport:
    """One device of the adb server. Nothing is held open between commands."""

    def __init__(self, serial: str, limits: Limits) -> None:
        self._serial = serial
        self._limits = limits

    def start(self, words: Sequence[str]) -> Channel:
        """See ``Transport.start``: adb hands one string to the device's shell, so every word is quoted."""
        return _AdbChannel(words, self._serial, self._limits)

    def close(self) -> None:
        """Nothing is open."""


class _AdbChannel(ProcessChannel):
    """A client of adb's server."""

    def __init__(self, words: Sequence[str], serial: str, limits: Limits) -> None:
        # -T: without a terminal, bytes pass unchanged and standard error stays apart.
        super().__init__(["adb", "-s", serial, "shell", "-T", shlex.join(words)], detached=True)
        self._serial = serial
        self._limits = limits

    def exit_status(self) -> int | None:
        """None: the client ends with 0 where the link broke, and with 1 where there is none."""
        return None

    def _fill(self, until: float) -> bool:
        """See ``Channel``: the client waits for a frozen device for ever, so after a silence it is asked."""
        silence_s = self._limits.keepalive_s * self._limits.keepalive_count
        while True:
            try:
                return super()._fill(min(until, time.monotonic() + silence_s))
            except TimeoutError:
                if time.monotonic() >= until:
                    raise
                self._check_device()

    def _check_device(self) -> None:
        try:
            _check_answer(self._serial, self._limits)
        except DeviceError as error:
            raise Ended from error


def connect(device: Device, limits: Limits) -> AdbTransport:
    """Ask adb whether it can use the device; one on the network is connected first.

    Raises:
        DeviceError: The device is unknown, offline or unauthorized, or adb does not answer.
        DependencyError: There is no adb.
    """
    serial, said = device.address, ""
    state = _adb(["-s", serial, "get-state"], limits.connect_s, serial)
    if state != "device" and ":" in serial:
        # adb ends with status 0 whether or not it could connect, and keeps dead connections as offline.
        if "not found" not in state:
            _adb(["disconnect", serial], limits.connect_s, serial)
        said = _adb(["connect", serial], limits.connect_s, serial)
        state = _adb(["-s", serial, "get-state"], limits.connect_s, serial)
    if state == "device":
        _check_answer(serial, limits)
        return AdbTransport(serial, limits)
    for word, (code, what, hint) in _REASONS.items():
        if word in state:
            raise DeviceError(
                code, f"The device {serial} {what}.", hint.format(serial=shlex.quote(serial)), detail=state
            )
    _what, failed, reason = said.partition(": ")
    raise DeviceError(
        "EK800",
        f"adb cannot connect to {serial}: {last_words(reason)}."
        if failed
        else f"adb does not see the device {serial}.",
        "`adb devices` lists those it sees; on a phone, USB debugging must be on.",
        detail=said or state,
    )


def _check_answer(serial: str, limits: Limits) -> None:
    """See that something answers: adb's server goes on calling a frozen device ready."""
    try:
        _run(["-s", serial, "shell", "-T", "true"], limits.connect_s)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            "EK814",
            f"The device {serial} is connected and did not answer within {limits.connect_s:g} s.",
            f"Restart it, or: adb -s {shlex.quote(serial)} reconnect",
        ) from error


def _adb(arguments: list[str], deadline_s: float, serial: str) -> str:
    """What adb said, whatever its exit status: that tells nothing."""
    try:
        return _run(arguments, deadline_s)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            "EK800",
            f"adb did not answer within {deadline_s:g} s for the device {serial}.",
            "Replug the device, or: adb kill-server",
        ) from error


def _run(arguments: list[str], deadline_s: float) -> str:
    try:
        done = subprocess.run(
            ["adb", *arguments], capture_output=True, text=True, errors="replace", timeout=deadline_s, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (FileNotFoundError, PermissionError) as error:
        raise DependencyError(
            "EK812",
            "There is no adb on this computer that can be run.",
            "Install Android's platform tools, for example: apt-get install adb",
        ) from error
    return (done.stdout.strip() or done.stderr.strip()).removeprefix("error: ")
