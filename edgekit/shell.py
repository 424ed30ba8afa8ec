"""Commands on a device, over any transport: quoted, bounded in time, and believed only when they say so.

Neither the exit status of ``adb`` nor the silence of an SSH channel tells that a command finished: both look
like success when the link dies. So every command runs inside a small script that first prints a line with a
nonce and its process id, and last a line with the same nonce and the exit status.
"""

import contextlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from edgekit.catalog import load
from edgekit.channel import Channel, Ended
from edgekit.device import Device
from edgekit.errors import DeviceError
from edgekit.transports import Limits, Transport, connect

# $1 is the nonce; the rest is the command. The inner shell becomes the command, so its process id is the
# command's. The nonce in the environment proves later that this id still belongs to it.
_RUN = (
    'n=$1; shift; EDGEKIT_RUN=$n sh -c \'echo "edgekit-$EDGEKIT_RUN $$"; exec "$@"\' edgekit "$@"; '
    'printf "\\nedgekit-%s exit %d\\n" "$n" "$?"'
)
# Ends a process only if it carries the nonce: process ids are used again.
_KILL = 'tr "\\0" "\\n" < "/proc/$2/environ" 2>/dev/null | grep -qx "EDGEKIT_RUN=$1" && kill -9 "$2"'

_KILL_S = 10.0
_STATUS_S = 3.0
_SIGNALLED = 128
_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Completed:
    """A command that ended: its exit status and what it wrote."""

    status: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        """The output as text, without the white space around it."""
        return self.output.decode(errors="replace").strip()


class RunningCommand:
    """A command on a device. Leaving it unfinished ends it there."""

    def __init__(self, shell: "Shell", channel: Channel, nonce: str, pid: int) -> None:
        self._shell = shell
        self.channel = channel
        self._nonce = nonce
        self.pid = pid
        self.status: int | None = None
        self._closed = False
        self._mark = f"edgekit-{nonce} exit ".encode()

    def write(self, content: bytes, until: float) -> None:
        """See ``Channel.write``."""
        self.channel.write(content, until)

    def read_line(self, until: float) -> bytes:
        """The next line of output; see ``Channel.read_line``.

        Raises:
            Ended: The command ended, and ``status`` is its exit status; or the link did, and it is None.
            TimeoutError: No line came in time.
        """
        line = self.channel.read_line(until)
        # The script's last line follows a line end of its own, which is empty after a whole line.
        if not line:
            line = self.channel.read_line(until)
        if line.startswith(self._mark):
            self.status = int(line[len(self._mark) :])
            raise Ended
        return line

    def read_exact(self, count: int, until: float) -> bytes:
        """See ``Channel.read_exact``."""
        return self.channel.read_exact(count, until)

    def exit_status(self) -> int | None:
        """How it ended: -11 after SIGSEGV; None where the link to it is lost."""
        if self.status is None:
            with contextlib.suppress(Ended, TimeoutError):
                self.finish(time.monotonic() + _STATUS_S)
        # A shell reports the end by a signal as 128 and the signal's number.
        return self.status if self.status is None or self.status <= _SIGNALLED else _SIGNALLED - self.status

    def finish(self, until: float) -> bytes:
        """All that it still writes until it ends.

        Raises:
            Ended: The link ended first.
            TimeoutError: It did not end in time.
        """
        output = self.channel.read_all(until, _MOST_BYTES)
        # Its line end may have been read before, as the end of the line before.
        content, mark, status = (b"\n" + output).rpartition(b"\n" + self._mark)
        if not mark:
            raise Ended
        self.status = int(status)
        return content[1:]

    def error_text(self) -> str:
        """See ``Channel.error_text``."""
        return self.channel.error_text()

    def close(self) -> None:
        """Free the channel; a command that has not ended is ended by its process id."""
        if self._closed:
            return
        self._closed = True
        if self.status is None:
            self._shell.kill(self._nonce, self.pid)
        self.channel.close()


class Shell:
    """A connected device, as a context.

    Raises:
        DeviceError: The device is unreachable, or does not let us in.
    """

    def __init__(self, device: Device, limits: Limits | None = None) -> None:
        self.device = device
        self.limits = limits or Limits()
        self._transport: Transport | None = connect(device, self.limits)
        self._folder = device.folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection up."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    @property
    def folder(self) -> str:
        """Where edgekit keeps its files on the device: an absolute path without a slash at its end.

        Raises:
            DeviceError: The device does not tell where its user's home is.
        """
        if self._folder is None:
            default = load("transports", self.device.scheme).FOLDER
            home = self.run("printenv", "HOME").text if default.startswith("~") else ""
            self._folder = default.replace("~", home.rstrip("/"), 1)
        return self._folder.rstrip("/")

    def reconnect(self) -> None:
        """Drop the connection and connect anew, as often as it takes within the limit of patience.

        Raises:
            DeviceError: The device stayed unreachable.
        """
        until = time.monotonic() + self.limits.patience_s
        while True:
            self.close()
            try:
                self._transport = connect(self.device, self.limits)
            except DeviceError:
                if time.monotonic() >= until:
                    raise
                time.sleep(min(1.0, self.limits.patience_s / 5))
            else:
                return

    def start(self, words: Sequence[str], *, deadline_s: float | None = None) -> RunningCommand:
        """Start a program; no shell interprets its arguments.

        Raises:
            DeviceError: The link is gone, or the device has no shell.
        """
        if self._transport is None:
            self.reconnect()
        assert self._transport is not None  # noqa: S101 - reconnect raises otherwise
        nonce = secrets.token_hex(8)
        channel = self._transport.start(["sh", "-c", _RUN, "edgekit", nonce, *words])
        mark, line = f"edgekit-{nonce} ".encode(), b""
        try:
            until = time.monotonic() + (deadline_s or self.limits.command_s)
            # Login scripts may print before.
            while not line.startswith(mark):
                line = channel.read_line(until)
            return RunningCommand(self, channel, nonce, int(line[len(mark) :]))
        except (Ended, ValueError) as error:
            failure = self.lost(channel.error_text())
            channel.close()
            raise failure from error
        except TimeoutError as error:
            channel.close()
            raise self.late(words[0], deadline_s or self.limits.command_s) from error
        except BaseException:
            channel.close()
            raise

    def run(
        self, *words: str, stdin: bytes = b"", deadline_s: float | None = None, check: bool = True
    ) -> Completed:
        """Run a program to its end; no shell interprets its arguments.

        Raises:
            DeviceError: The link broke, it took too long or, with ``check``, its exit status is not 0.
        """
        seconds = deadline_s or self.limits.command_s
        until = time.monotonic() + seconds
        running = self.start(words, deadline_s=seconds)
        try:
            with contextlib.suppress(Ended):  # it need not read what it is given
                running.write(stdin, until)
            running.channel.end_input()
            output = running.finish(until)
            done = Completed(running.status or 0, output, running.error_text())
        except Ended as error:
            raise self.lost(running.error_text()) from error
        except TimeoutError as error:
            raise self.late(words[0], seconds) from error
        finally:
            running.close()
        if check and done.status:
            raise self.failed(words[0], done)
        return done

    def script(
        self, text: str, *arguments: str, deadline_s: float | None = None, check: bool = True
    ) -> Completed:
        """Run a script of our own; what comes from elsewhere is an argument, ``"$1"``, never part of the text.

        Raises:
            DeviceError: As ``run``.
        """
        return self.run("sh", "-c", text, "edgekit", *arguments, deadline_s=deadline_s, check=check)

    def kill(self, nonce: str, pid: int) -> None:
        """End a process of ours by its recorded id, over a new connection where the old one is dead.

        A device that cannot be reached is left alone: its worker ends itself at its deadline.
        """
        with contextlib.suppress(DeviceError):
            try:
                self.script(_KILL, nonce, str(pid), deadline_s=_KILL_S, check=False)
            except DeviceError:
                self.close()
                self._transport = connect(self.device, self.limits)
                self.script(_KILL, nonce, str(pid), deadline_s=_KILL_S, check=False)

    def lost(self, detail: str = "") -> DeviceError:
        """The error for a link that broke."""
        return DeviceError(
            "EK804",
            f"The connection to {self.device.name} was lost.",
            "Check the device's power and network, then run the command again.",
            detail=detail,
        )

    def late(self, what: str, seconds: float) -> DeviceError:
        """The error for a command that did not end."""
        return DeviceError(
            "EK805",
            f"{self.device.name} did not finish {what} within {seconds:g} s; it was ended there.",
            "The device may be overloaded or its link stalled; try again.",
        )

    def failed(self, what: str, done: Completed) -> DeviceError:
        """The error for a command that ended with another exit status than 0."""
        said = done.errors.splitlines()[-1].strip() if done.errors else done.text[-200:]
        return DeviceError(
            "EK806",
            f"{what} failed on {self.device.name} with exit status {done.status}: {said or 'it said nothing'}.",
            "-v shows all that it printed.",
            detail=done.errors or done.text,
        )
