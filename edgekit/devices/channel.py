"""The streams of a running command, here or on a device, read and written with deadlines."""

import contextlib
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

_READ_BYTES = 1 << 20
# Of what is said on standard error: how it began often tells the cause, how it ended always the effect.
_FIRST_BYTES = 2000
_LAST_BYTES = 4000
_MOST_READS = 64
_LAST_WORDS_S = 0.3
_PAUSE_S = 0.05
_MOST_LINE_BYTES = 64 << 20
_MOST_UNREAD_BYTES = 1 << 30
_END_S = 5.0
_SENTENCE_SIGNS = 300


class Ended(Exception):  # noqa: N818 - no error by itself: what it means is known to who reads
    """The stream ended before what was asked for."""


class Channel:
    """One running command: what it is told, what it answers, how it ended.

    Args:
        stdin: A descriptor that takes what the command shall read.
        stdout: A descriptor that gives what the command wrote.
        errors: A descriptor that gives what it says on standard error, of which little is kept.

    ``last_line`` is what ``read_line`` gave last. Deadlines are moments of ``time.monotonic``: whoever still waits
    for a stream then gets ``TimeoutError``, also where bytes keep coming.
    """

    def __init__(self, stdin: int, stdout: int, errors: int) -> None:
        self._stdin: int | None = stdin
        self._stdout = stdout
        self._errors = _Errors(errors)
        self._buffer = bytearray()
        self._closed = False
        self.last_line = b""
        os.set_blocking(stdin, False)
        os.set_blocking(stdout, False)

    def write(self, content: bytes, until: float) -> None:
        """Hand over all of it.

        Raises:
            Ended: The command reads no more.
            TimeoutError: It did not take it in time.
        """
        rest = memoryview(content)
        reading = True
        while rest:
            if self._stdin is None:
                raise Ended
            # What it answers meanwhile is taken in: else it waits for us, and we for it.
            reading = reading and len(self._buffer) < _MOST_UNREAD_BYTES
            ready = self._await({self._stdin: selectors.EVENT_WRITE} | self._reads(reading), until)
            if self._stdout in ready:
                reading = self._read()
            if self._stdin not in ready:
                continue
            try:
                rest = rest[os.write(self._stdin, rest[:_READ_BYTES]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Ended from error

    def end_input(self) -> None:
        """Let the command see the end of its input."""
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def read_line(self, until: float) -> bytes:
        """The next line without its end; at the end of the stream, what stands there without one.

        Raises:
            Ended: Nothing is left.
            TimeoutError: No line came in time.
        """
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > _MOST_LINE_BYTES:
                raise Ended
            if not self._fill(until):
                if not self._buffer:
                    raise Ended
                end = len(self._buffer)
                break
        self.last_line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return self.last_line

    def read_exact(self, count: int, until: float) -> bytes:
        """So many bytes.

        Raises:
            Ended: The stream ended before them.
            TimeoutError: They did not come in time.
        """
        while len(self._buffer) < count:
            if not self._fill(until):
                raise Ended
        content = bytes(self._buffer[:count])
        del self._buffer[:count]
        return content

    def read_all(self, until: float, most_bytes: int) -> bytes:
        """All that comes until the stream ends.

        Raises:
            TimeoutError: The end did not come in time, or there is more than that.
        """
        while self._fill(until):
            if len(self._buffer) > most_bytes:
                raise TimeoutError
        content = bytes(self._buffer)
        self._buffer.clear()
        return content

    def error_text(self) -> str:
        """What the command said on standard error: the beginning and the end, where it is long.

        The last words of a command that has ended may still be on their way: they have a moment to come.
        """
        until = time.monotonic() + _LAST_WORDS_S
        for _ in range(_MOST_READS):
            if not (self._errors.take() or self._errors.wait(until)):
                break
        return self._errors.text()

    def exit_status(self) -> int | None:
        """How the command ended: its exit status, -11 after SIGSEGV, None where nobody knows."""
        raise NotImplementedError

    def close(self) -> None:
        """End the command if it still runs, and free everything."""
        if self._closed:
            return
        self._closed = True
        try:
            self._stop()
        finally:
            self.end_input()
            os.close(self._stdout)
            self._errors.close()

    def _stop(self) -> None:
        raise NotImplementedError

    def _reads(self, reading: bool) -> dict[int, int]:
        return {self._stdout: selectors.EVENT_READ} if reading else {}

    def _fill(self, until: float) -> bool:
        """Wait for more; False at the end of the stream."""
        self._await(self._reads(True), until)
        return self._read()

    def _await(self, events: dict[int, int], until: float) -> set[int]:
        """See ``_await``. What is said meanwhile on standard error is taken in: else the command would wait for us."""
        ready = _await(events | self._errors.events(), until)
        if self._errors.descriptor in ready:
            self._errors.take()
        return ready

    def _listen(self, has_ended: Callable[[], bool], until: float) -> None:
        """Take in what is said on standard error until the command has ended, or says no more."""
        while not has_ended() and self._errors.events():
            now = time.monotonic()
            if now >= until:
                return
            with contextlib.suppress(TimeoutError):
                self._await({}, min(until, now + _PAUSE_S))

    def _read(self) -> bool:
        """Take what there is; False at the end of the stream."""
        try:
            part = os.read(self._stdout, _READ_BYTES)
        except BlockingIOError:
            return True
        self._buffer += part
        return bool(part)


class _Errors:
    """What comes from a descriptor; however much that is, no more than its beginning and its end are kept."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: int | None = descriptor
        self._first = bytearray()
        self._last = bytearray()
        self._left_out = 0
        os.set_blocking(descriptor, False)

    def events(self) -> dict[int, int]:
        return {} if self.descriptor is None else {self.descriptor: selectors.EVENT_READ}

    def take(self) -> bool:
        """Take some of what there is; False where there is nothing."""
        if self.descriptor is None:
            return False
        try:
            part = os.read(self.descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not part:
            self.close()
            return False
        missing = _FIRST_BYTES - len(self._first)
        self._first += part[:missing]
        self._last += part[missing:]
        excess = max(0, len(self._last) - _LAST_BYTES)
        self._left_out += excess
        del self._last[:excess]
        return True

    def wait(self, until: float) -> bool:
        """Whether more has come, or the end, before then."""
        left = until - time.monotonic()
        return (
            self.descriptor is not None
            and left > 0
            and bool(select.select([self.descriptor], [], [], left)[0])
        )

    def text(self) -> str:
        gap = f"\n[{self._left_out:,} bytes left out]\n".encode() if self._left_out else b""
        return bytes(self._first + gap + self._last).decode(errors="replace").strip()

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


class ProcessChannel(Channel):
    """A command that is a process of this machine.

    ``detached`` keeps the terminal's ctrl-C from it, and ends what it started together with it.
    """

    def __init__(self, words: Sequence[str], *, detached: bool = False) -> None:
        self._detached = detached
        # Pipes of our own: the channel closes its ends itself, one at a time.
        their_stdin, stdin = os.pipe()
        stdout, their_stdout = os.pipe()
        errors, their_errors = os.pipe()
        try:
            self._process = subprocess.Popen(
                list(words),
                stdin=their_stdin,
                stdout=their_stdout,
                stderr=their_errors,
                start_new_session=detached,
            )
        except BaseException:
            for descriptor in (stdin, stdout, errors):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (their_stdin, their_stdout, their_errors):
                os.close(descriptor)
        super().__init__(stdin, stdout, errors)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def exit_status(self) -> int | None:
        """See ``Channel.exit_status``: None also for a process that closed its output and goes on."""
        until = time.monotonic() + _END_S
        self._listen(lambda: self._process.poll() is not None, until)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(max(0.0, until - time.monotonic()))
        return None

    def _stop(self) -> None:
        if self._process.poll() is None:
            if self._detached:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
        self._process.wait()


def last_words(text: str) -> str:
    """The last line of what a program said, fit for a sentence: on one line, printable, not too long."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = "".join(sign if sign.isprintable() else " " for sign in lines[-1]) if lines else ""
    return last[-_SENTENCE_SIGNS:].strip().rstrip(".")


def _await(events: dict[int, int], until: float) -> set[int]:
    """The descriptors that are ready.

    Raises:
        TimeoutError: None was in time.
    """
    # Asked even when something is ready: what never stops coming would never be too late.
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    with selectors.DefaultSelector() as selector:
        for descriptor, event in events.items():
            selector.register(descriptor, event)
        ready = selector.select(left)
    if not ready:
        raise TimeoutError
    return {key.fd for key, _ in ready}
