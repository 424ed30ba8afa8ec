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
from pathlib import Path
from typing import BinaryIO

from edgekit import files
from edgekit.devices.channel import Ended, last_words
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError

_CHUNK_BYTES = 256 << 10
_MARGIN_BYTES = 64 << 10
_PAUSE_S = 0.2
_VERIFY_BYTES_PER_S = 4 << 20
# What was handed over may still be on its way, in buffers of this size, over a link that is at least so fast.
_BUFFERED_BYTES = 4 << 20
_SLOWEST_BYTES_PER_S = 64 << 10
_MOST_BYTES = 64 << 20

# $1 folder, $2 file, $3 part. Only an attempt tells whether the folder can be written. What a full disk is called
# is looked for in English.
_LOOK = (
    "export LC_ALL=C; "
    'mkdir -p "$1" && : > "$1/.edgekit-probe-$$" && rm -f "$1/.edgekit-probe-$$" || exit 9; '
    'if [ -d "$2" ]; then echo "$2 is a folder" >&2; exit 9; fi; '
    'echo "free $(df -Pk "$1" | tail -n 1)"; '
    'if [ -f "$3" ]; then echo "part $(wc -c < "$3")"; fi; '
    'if [ -f "$2" ]; then echo "have $(sha256sum < "$2")"; fi'
)
_APPEND = 'export LC_ALL=C; exec cat >> "$1"'
# Synced before the rename, or a power cut could leave the name with nothing behind it.
_FINISH = (
    'export LC_ALL=C; set -e; sync "$1" 2> /dev/null || sync; mv -f "$1" "$2"; '
    'sync "$(dirname "$2")" 2> /dev/null || sync'
)
_FREE = re.compile(r"\s(\d+)\s+(-?\d+)\s+(-?\d+)\s+\d+%\s")

Progress = Callable[[int, int], None]


def upload(shell: Shell, source: Path, path: str, *, progress: Progress | None = None) -> int:
    """Bring a file to the device, unless it is there already; returns the bytes that were sent.

    A lost link is connected again and the rest is sent, within the limits' patience. What was sent before
    is used even by a later run of the same upload.

    Raises:
        DeviceError: The link stayed lost, the disk is full, the folder cannot be written, or what arrived is
            not what was sent.
    """
    with source.open("rb") as stream:
        return _Upload(shell, path, files.sha256(source), source.stat().st_size, progress).send(stream)


def write(shell: Shell, content: bytes, path: str) -> None:
    """Bring bytes to the device as a file.

    Raises:
        DeviceError: As ``upload``.
    """
    _Upload(shell, path, hashlib.sha256(content).hexdigest(), len(content), None).send(io.BytesIO(content))


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


class _Upload:
    """One file on its way."""

    def __init__(
        self, shell: Shell, path: str, digest: str, size_bytes: int, progress: Progress | None
    ) -> None:
        self._shell = shell
        self._path = path
        self._folder = posixpath.dirname(path)
        self._digest = digest
        self._size = size_bytes
        self._progress = progress or (lambda _done, _total: None)
        # The digest in the name: what was sent of another file is never continued with this one.
        self._part = f"{path}.{digest[:16]}.part"
        self._sent = self._arrived = 0
        # Patience begins with the first failure and ends at a moment, while nothing more arrives.
        self._failure: DeviceError | None = None
        self._until = math.inf
        self._handed_over = False

    def send(self, stream: BinaryIO) -> int:
        """Send what is missing, check it, and give it its name."""
        patience_s = self._shell.limits.patience_s
        while True:
            try:
                if self._try(stream):
                    return self._sent
            except DeviceError as error:
                late = time.monotonic() >= self._until and not self._handed_over
                if error is self._failure or error.code not in {"EK804", "EK805"} or late:
                    raise
                self._failure, self._until = error, min(self._until, time.monotonic() + patience_s)
                time.sleep(min(_PAUSE_S, patience_s / 5))
                self._shell.reconnect()

    def _try(self, stream: BinaryIO) -> bool:
        self._handed_over = False
        free_bytes, part_bytes, digest = self._look()
        # A link that breaks again and again may go on as long as more and more arrives. Only the device knows how
        # much that is: of what was handed over, all may be lost.
        if part_bytes > self._arrived:
            self._arrived, self._until = part_bytes, math.inf
        elif self._failure is not None and time.monotonic() >= self._until:
            raise self._failure
        if digest == self._digest:
            self._progress(self._size, self._size)
            return True
        if part_bytes > self._size:
            self._remove()
            part_bytes = 0
        if free_bytes is not None and free_bytes < self._size - part_bytes + _MARGIN_BYTES:
            raise self._full(free_bytes)
        stream.seek(part_bytes)
        self._append(stream, part_bytes)
        if sha256(self._shell, self._part, self._size) != self._digest:
            self._remove()
            if self._part.endswith(".again.part"):
                raise DeviceError(
                    "EK809",
                    f"{self._path} arrived damaged on {self._shell.device.name}, twice.",
                    "The card or disk of the device may be failing.",
                )
            # Somebody else may be writing the same part: once more, under a name of our own.
            self._part = f"{self._path}.{secrets.token_hex(8)}.again.part"
            return False
        done = self._shell.script(_FINISH, self._part, self._path, check=False)
        # Somebody else who sent the same file may have been first.
        if done.status and sha256(self._shell, self._path, self._size) != self._digest:
            raise self._unwritable(done.errors)
        return True

    def _look(self) -> tuple[int | None, int, str | None]:
        """Free bytes (None where ``df`` does not tell), bytes of the part, digest of what has the name."""
        seconds = self._shell.limits.command_s + self._size / _VERIFY_BYTES_PER_S
        done = self._shell.script(
            _LOOK, self._folder, self._path, self._part, deadline_s=seconds, check=False
        )  # fmt: skip
        if done.status == 9:
            raise self._unwritable(done.errors)
        found = dict(line.split(" ", 1) for line in done.text.splitlines() if " " in line)
        free, part, have = (
            _FREE.search(found.get("free", "")),
            found.get("part", "").strip(),
            found.get("have", ""),
        )
        free_bytes = max(0, int(free.group(3))) * 1024 if free else None
        return free_bytes, int(part) if part.isdigit() else 0, have.split()[0] if have else None

    def _append(self, stream: BinaryIO, done: int) -> None:
        idle_s = self._shell.limits.idle_s
        running = self._shell.start(["sh", "-c", _APPEND, "edgekit", self._part])
        self._progress(done, self._size)
        try:
            with suppress(Ended):  # the device says below why it reads no more
                while chunk := stream.read(_CHUNK_BYTES):
                    running.write(chunk, time.monotonic() + idle_s)
                    self._handed_over = True
                    done += len(chunk)
                    self._sent += len(chunk)
                    self._progress(done, self._size)
            running.channel.end_input()
            on_the_way = min(self._sent, _BUFFERED_BYTES)
            running.finish(time.monotonic() + idle_s + on_the_way / _SLOWEST_BYTES_PER_S)
            said = running.error_text()
        except Ended as error:
            raise self._shell.lost(running.error_text()) from error
        except TimeoutError as error:
            raise self._shell.late("taking data", idle_s) from error
        finally:
            running.close()
        if running.status:
            self._remove()
            raise self._unwritable(said)

    def _remove(self) -> None:
        self._shell.run("rm", "-f", self._part, check=False)

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
