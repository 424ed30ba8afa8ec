"""Files on a device: sent in pieces that survive a lost link, checked there, and whole or not at all.

Everything goes through the device's own ``cat``, ``df``, ``mv`` and ``sha256sum``: small SSH servers have no
SFTP, and adb pushes neither resume nor tell a full disk from a broken cable.
"""

import hashlib
import io
import math
import posixpath
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgekit.devices.channel import Ended, last_words
from edgekit.devices.shell import Completed, RunningCommand, Shell
from edgekit.errors import DeviceError

_CHUNK_BYTES = 256 << 10
_MARGIN_BYTES = 64 << 10
_PAUSE_S = 0.2
_VERIFY_BYTES_PER_S = 4 << 20
# What was handed over may still be on its way, in buffers of this size, over a link that is at least so fast.
_BUFFERED_BYTES = 5 << 20
_SLOWEST_BYTES_PER_S = 64 << 10
_MOST_BYTES = 64 << 20

# One session takes a file, and answers line by line: on many devices starting one takes longer than the rest.
# $1 folder, $2 file, $3 its size. The input: the part's name and the digest, then how to take what follows until its
# end. Only an attempt tells whether the folder can be written. What a full disk is called is looked for in English.
# Synced before the rename, or a power cut could leave the name with nothing behind it; and while the digest is
# computed, for one waits for the disk and the other for the processor.
_TAKE = (
    "export LC_ALL=C; size=$3; "
    'mkdir -p "$1" && : > "$1/.edgekit-probe-$$" && rm -f "$1/.edgekit-probe-$$" || exit 9; '
    'if [ -d "$2" ]; then echo "$2 is a folder" >&2; exit 9; fi; '
    'echo "free $(df -Pk "$1" | tail -n 1)"; '
    # Many systems' sha256sum takes three times as long as openssl, which is believed only when it says yes.
    'whole() { if [ "$size" -ge 4000000 ]; then sum=$(openssl dgst -sha256 -r < "$1" 2> /dev/null); '
    '[ "${sum%% *}" = "$digest" ] && return 0; fi; '
    'sum=$(sha256sum < "$1") || exit 6; [ "${sum%% *}" = "$digest" ]; }; '
    'read -r name digest || exit 0; part="$2.$name.part"; '
    'if [ -f "$part" ]; then echo "part $(wc -c < "$part")"; fi; '
    'if [ -f "$2" ] && [ "$(wc -c < "$2")" -eq "$size" ] && whole "$2"; then echo "have it"; fi; '
    'echo ready; read -r how || exit 0; if [ "$how" = anew ]; then rm -f "$part"; fi; '
    'cat >> "$part" || { rm -f "$part"; exit 8; }; '
    'echo arrived; { sync "$part" 2> /dev/null || sync; } & '
    'whole "$part" || { wait; rm -f "$part"; exit 7; }; '
    'wait $! && mv -f "$part" "$2" || exit 5; sync "$1" 2> /dev/null || sync'
)
_UNWRITABLE, _NOT_TAKEN, _DAMAGED, _NO_DIGEST, _NOT_RENAMED = 9, 8, 7, 6, 5
_FREE = re.compile(r"\s(\d+)\s+(-?\d+)\s+(-?\d+)\s+\d+%\s")

Progress = Callable[[int, int], None]


def upload(
    shell: Shell, source: Path, path: str, *, digest: str = "", progress: Progress | None = None
) -> int:
    """Bring a file to the device, unless it is there already; returns the bytes that were sent.

    A lost link is connected again and the rest is sent, within the limits' patience. What was sent before
    is used even by a later run of the same upload. ``digest`` is the file's sha256, where it is known.

    Raises:
        DeviceError: The link stayed lost, the disk is full, the folder cannot be written, or what arrived is
            not what was sent.
    """
    with source.open("rb") as stream:
        upload = _Upload(shell, path, stream, source.stat().st_size, digest=digest, progress=progress)
        return upload.send()


def write(shell: Shell, content: bytes, path: str) -> None:
    """Bring bytes to the device as a file.

    Raises:
        DeviceError: As ``upload``.
    """
    _Upload(shell, path, io.BytesIO(content), len(content)).send()


def read(shell: Shell, path: str, *, most_bytes: int = _MOST_BYTES) -> bytes:
    """The content of a file of the device.

    Raises:
        DeviceError: There is none, it is larger than that, or the link is lost.
    """
    # One byte more than allowed tells that there is more.
    content = shell.run("head", "-c", str(most_bytes + 1), path).output
    if len(content) > most_bytes:
        raise DeviceError(
            "EK806",
            f"{path} on {shell.device.name} has more than {most_bytes:,} bytes.",
            "edgekit wrote less there: look what has replaced it.",
        )
    return content


def sha256(shell: Shell, path: str, size_bytes: int = 0) -> str | None:
    """The digest of a file of the device; None where there is no such file.

    Raises:
        DeviceError: The link is lost, the digest takes too long, or the file cannot be read.
    """
    seconds = shell.limits.command_s + size_bytes / _VERIFY_BYTES_PER_S
    done = shell.script('[ -f "$1" ] || exit 9; sha256sum < "$1"', path, deadline_s=seconds, check=False)
    if done.status == 9:
        return None
    if done.status or not done.text:
        raise shell.failed("sha256sum", done)
    return done.text.split()[0]


@dataclass(frozen=True)
class _Found:
    """What the device has before anything is sent; ``free_bytes`` is None where ``df`` does not tell."""

    free_bytes: int | None
    part_bytes: int
    is_there: bool


class _Upload:
    """One file on its way."""

    def __init__(
        self,
        shell: Shell,
        path: str,
        stream: io.BufferedReader | io.BytesIO,
        size_bytes: int,
        *,
        digest: str = "",
        progress: Progress | None = None,
    ) -> None:
        self._shell = shell
        self._path = path
        self._folder = posixpath.dirname(path)
        self._stream = stream
        self._size = size_bytes
        self._progress = progress or (lambda _done, _total: None)
        self._digest = digest
        # The digest in the name: what was sent of another file is never continued with this one.
        self._part = digest[:16]
        self._sent = self._arrived = 0
        # Patience begins with the first failure and ends at a moment, while nothing more arrives.
        self._failure: DeviceError | None = None
        self._until = math.inf
        self._handed_over = False

    def send(self) -> int:
        """Send what is missing, check it, and give it its name."""
        patience_s = self._shell.limits.patience_s
        while True:
            try:
                if self._try():
                    return self._sent
            except DeviceError as error:
                late = time.monotonic() >= self._until and not self._handed_over
                if error is self._failure or error.code not in {"EK804", "EK805"} or late:
                    raise
                self._failure, self._until = error, min(self._until, time.monotonic() + patience_s)
                time.sleep(min(_PAUSE_S, patience_s / 5))
                self._shell.reconnect()

    def _try(self) -> bool:
        self._handed_over = False
        running = self._shell.start(["sh", "-c", _TAKE, "edgekit", self._folder, self._path, str(self._size)])
        try:
            return self._converse(running)
        except Ended as error:
            raise self._shell.lost(running.error_text()) from error
        finally:
            running.close()

    def _converse(self, running: RunningCommand) -> bool:
        """See ``_TAKE`` for the device's side of it; False asks for one more."""
        found = self._look(running)
        if found is None:
            return self._taken(running)
        # A link that breaks again and again may go on as long as more and more arrives. Only the device knows how
        # much that is: of what was handed over, all may be lost.
        if found.part_bytes > self._arrived:
            self._arrived, self._until = found.part_bytes, math.inf
        elif self._failure is not None and time.monotonic() >= self._until:
            raise self._failure
        if found.is_there:
            running.channel.end_input()
            self._progress(self._size, self._size)
            return self._taken(running)
        too_long = found.part_bytes > self._size
        start = 0 if too_long else found.part_bytes
        if found.free_bytes is not None and found.free_bytes < self._size - start + _MARGIN_BYTES:
            raise self._full(found.free_bytes)
        self._append(running, start, "anew" if too_long else "more")
        return self._taken(running)

    def _look(self, running: RunningCommand) -> _Found | None:
        """What is there; None where the device's side has ended instead."""
        if not self._digest:
            # The device looks around meanwhile.
            self._stream.seek(0)
            self._digest = hashlib.file_digest(self._stream, "sha256").hexdigest()
            self._part = self._digest[:16]
        seconds = self._checking_s()
        until = time.monotonic() + seconds
        said = {}
        try:
            with suppress(Ended):  # it says below why it reads nothing
                running.write(f"{self._part} {self._digest}\n".encode(), until)
            while (line := running.read_line(until).decode(errors="replace")) != "ready":
                word, _space, rest = line.partition(" ")
                said[word] = rest.strip()
        except Ended:
            return None
        except TimeoutError as error:
            raise self._shell.late("looking at what is there", seconds) from error
        free, part = _FREE.search(f" {said.get('free', '')}"), said.get("part", "")
        free_bytes = max(0, int(free.group(3))) * 1024 if free else None
        return _Found(free_bytes, int(part) if part.isdigit() else 0, "have" in said)

    def _append(self, running: RunningCommand, done: int, how: str) -> None:
        idle_s = self._shell.limits.idle_s
        self._stream.seek(done)
        self._progress(done, self._size)
        try:
            with suppress(Ended):  # the device says below why it reads no more
                running.write(f"{how}\n".encode(), time.monotonic() + idle_s)
                while chunk := self._stream.read(_CHUNK_BYTES):
                    running.write(chunk, time.monotonic() + idle_s)
                    self._handed_over = True
                    done += len(chunk)
                    self._sent += len(chunk)
                    self._progress(done, self._size)
            running.channel.end_input()
            on_the_way = min(self._sent, _BUFFERED_BYTES)
            with suppress(Ended):
                running.read_line(time.monotonic() + idle_s + on_the_way / _SLOWEST_BYTES_PER_S)
        except TimeoutError as error:
            raise self._shell.late("taking data", idle_s) from error

    def _taken(self, running: RunningCommand) -> bool:
        """How the device's side ended.

        Raises:
            Ended: The link did.
        """
        seconds = self._checking_s()
        if running.status is None:
            try:
                running.finish(time.monotonic() + seconds)
            except TimeoutError as error:
                raise self._shell.late("checking what arrived", seconds) from error
        status, said = running.status, running.error_text()
        if status == _DAMAGED:
            if self._part.endswith(".again"):
                raise DeviceError(
                    "EK809",
                    f"{self._path} arrived damaged on {self._shell.device.name}, twice.",
                    "The card or disk of the device may be failing.",
                )
            # Somebody else may be writing the same part: once more, under a name of our own.
            self._part = f"{secrets.token_hex(8)}.again"
            return False
        if status == _NO_DIGEST:
            raise self._shell.failed("sha256sum", Completed(status, b"", said))
        # Somebody else who sent the same file may have been first.
        if status == _NOT_RENAMED and sha256(self._shell, self._path, self._size) == self._digest:
            return True
        if status in {_UNWRITABLE, _NOT_TAKEN, _NOT_RENAMED}:
            raise self._unwritable(said)
        if status:
            raise self._shell.failed("taking the file", Completed(status, b"", said))
        return True

    def _checking_s(self) -> float:
        return self._shell.limits.command_s + self._size / _VERIFY_BYTES_PER_S

    def _full(self, free_bytes: int) -> DeviceError:
        return DeviceError(
            "EK807",
            f"{self._folder} on {self._shell.device.name} has {free_bytes:,} bytes free; "
            f"{posixpath.basename(self._path)} has {self._size:,}.",
            "Free some space there, or choose another place with edgekit device add --folder.",
        )

    def _unwritable(self, said: str) -> DeviceError:
        if "o space left" in said or "isk quota" in said:
            return self._full(0)
        reason = last_words(said) or "no reason was given"
        return DeviceError(
            "EK808",
            f"{self._folder} on {self._shell.device.name} cannot be written: {reason}.",
            "Choose another place with edgekit device add --folder.",
            detail=said,
        )
