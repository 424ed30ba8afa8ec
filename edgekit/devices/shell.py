"""Commands on a device, over any transport: quoted, bounded in time, and believed only when they say so.

Neither the exit status of ``adb`` nor the silence of an SSH channel tells that a command finished: both look
like success when the link dies. So every command runs inside a small script that first prints a line with a
nonce and its process id, and last a line with the same nonce and the exit status.
"""

import contextlib
import re
import secrets
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from edgekit.catalog import load
from edgekit.devices.channel import Channel, Ended, last_words
from edgekit.devices.device import Device
from edgekit.errors import DeviceError, EdgekitError
from edgekit.transports import Limits, Transport, connect

# $1 is the nonce; the rest is the command. The inner shell becomes the command, so its process id is the
# command's. Both lines follow a line end of their own: login scripts and commands may leave a line unfinished.
_RUN = (
    'n=$1; shift; EDGEKIT_RUN=$n sh -c \'echo; echo "edgekit-$EDGEKIT_RUN $$"; exec "$@"\' edgekit "$@"; '
    's=$?; echo; echo "edgekit-$n exit $s end"'
)
# Everything that carries the nonce in its environment: the command and what it started, which a process id
# alone does not tell, and never another process that was given the same id. Twice, for what a process starts
# before its turn comes.
_KILL = (
    'for i in 1 2; do for f in $(grep -ls "EDGEKIT_RUN=$1" /proc/[0-9]*/environ); do '
    'f=${f#/proc/}; kill -9 "${f%/environ}"; done; done 2> /dev/null; exit 0'
)

_KILL_S = 10.0
_STATUS_S = 3.0
_SIGNALLED = 128
_MOST_BYTES = 256 << 20
_STATUS = re.compile(rb"(\d{1,3}) end\r?$")


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
            self._note(line[len(self._mark) :])
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
        if self.status is not None and self.status - _SIGNALLED in signal.valid_signals():
            return _SIGNALLED - self.status
        return self.status

    def finish(self, until: float) -> bytes:
        """All that it still writes until it ends.

        Raises:
            Ended: The link ended first.
            TimeoutError: It did not end in time.
        """
        output = self.channel.read_all(until, _MOST_BYTES)
        # Its line end may have been read before, as the end of the line before.
        content, mark, rest = (b"\n" + output).rpartition(b"\n" + self._mark)
        # A login shell may have its own last words after it.
        self._note(rest.partition(b"\n")[0])
        if not mark or self.status is None:
            raise Ended
        return content[1:]

    def error_text(self) -> str:
        """See ``Channel.error_text``."""
        return self.channel.error_text()

    def close(self) -> None:
        """Free the channel; a command that has not ended is ended there, with all that it started."""
        if self._closed:
            return
        self._closed = True
        if self.status is None:
            self._shell.abandon(self._nonce, self.channel)
        else:
            self.channel.close()

    def _note(self, status: bytes) -> None:
        """The exit status, if the whole of it came: of 137, a link that breaks may leave 1."""
        if found := _STATUS.match(status):
            self.status = int(found.group(1))


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
        self._closed = self._killing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection up."""
        self._closed = True
        self._drop()

    @property
    def folder(self) -> str:
        """Where edgekit keeps its files on the device: an absolute path without a slash at its end.

        Raises:
            DeviceError: The device does not tell where its user's home is.
        """
        if self._folder is None:
            default = load("transports", self.device.scheme).FOLDER
            home = self.script('echo "$HOME"').text if default.startswith("~") else "/"
            if not home.startswith("/"):
                raise DeviceError(
                    "EK808",
                    f"{self.device.name} does not say where its user's home is.",
                    "Name a folder there with edgekit device add --folder.",
                )
            self._folder = default.replace("~", home.rstrip("/"), 1)
        return self._folder.rstrip("/")

    def reconnect(self) -> None:
        """Drop the connection and connect anew, as often as it takes within the limit of patience.

        Raises:
            DeviceError: The device stayed unreachable.
        """
        until = time.monotonic() + self.limits.patience_s
        while True:
            self._drop()
            try:
                self._connect()
            except DeviceError as error:
                # Another host key than before does not pass with time.
                if error.code in {"EK801", "EK802"} or time.monotonic() >= until:
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
        nonce, seconds = secrets.token_hex(8), deadline_s or self.limits.command_s
        channel = None
        try:
            channel = self._transport.start(["sh", "-c", _RUN, "edgekit", nonce, *words])
            pid = _announced(channel, f"edgekit-{nonce} ".encode(), time.monotonic() + seconds)
            return RunningCommand(self, channel, nonce, pid)
        except DeviceError:
            raise
        except Ended as error:
            raise self._not_started(nonce, channel) from error
        except TimeoutError as error:
            self.abandon(nonce, channel)
            raise self.late(words[0], seconds) from error
        except BaseException:
            self.abandon(nonce, channel)
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

    def abandon(self, nonce: str, channel: Channel | None) -> None:
        """End a command of ours and all that it started, over a new connection where the old one is dead.

        A device that cannot be reached is left alone: its worker ends itself at its deadline.
        """
        try:
            self._kill(nonce, channel)
        finally:
            if channel is not None:
                channel.close()

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
        said = last_words(done.errors) or last_words(done.text) or "it said nothing"
        return DeviceError(
            "EK806",
            f"{what} failed on {self.device.name} with exit status {done.status}: {said}.",
            "-v shows all that it printed.",
            detail=done.errors or done.text,
        )

    def _connect(self) -> None:
        self._transport = connect(self.device, self.limits)

    def _drop(self) -> None:
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.close()

    def _kill(self, nonce: str, channel: Channel | None) -> None:
        if self._killing:
            return
        self._killing = True
        seconds = min(_KILL_S, self.limits.command_s)
        try:
            with contextlib.suppress(EdgekitError):  # whatever it is, it must not hide why we are here
                if self._transport is not None:
                    try:
                        self.script(_KILL, nonce, deadline_s=seconds, check=False)
                        return
                    except DeviceError:
                        # First the channel: a transport that is given up waits for those that hold unread output.
                        if channel is not None:
                            channel.close()
                        self._drop()
                self._connect()
                self.script(_KILL, nonce, deadline_s=seconds, check=False)
        finally:
            self._killing = False
            if self._closed:
                self._drop()

    def _not_started(self, nonce: str, channel: Channel | None) -> DeviceError:
        """The error for a command that ended before it began: the link broke, or the login shell will not."""
        if channel is None:
            return self.lost()
        status, said = (
            channel.exit_status(),
            channel.error_text() or channel.last_line.decode(errors="replace"),
        )
        if status is None or not (status or said):
            self.abandon(nonce, channel)
            return self.lost(said)
        channel.close()
        return DeviceError(
            "EK816",
            f"{self.device.name} runs no commands: {last_words(said) or f'exit status {status}'}.",
            "Its login shell may be closed or allow one program only. Log in by hand and look.",
            detail=said,
        )


def _announced(channel: Channel, mark: bytes, until: float) -> int:
    """The process id from the line that starts with the mark; login scripts may print lines before it."""
    while True:
        line = channel.read_line(until)
        pid = line[len(mark) :].strip()
        if line.startswith(mark) and pid.isdigit():
            return int(pid)
