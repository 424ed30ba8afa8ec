"""Files that appear whole or not at all, and their digests."""

import errno
import fcntl
import gzip
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgekit.errors import OutputError

_CHUNK_BYTES = 1 << 20


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output before any work is done.

    Raises:
        OutputError: It exists and ``overwrite`` is not set, it is a folder or a device, or its folder is
            missing or cannot be written.
    """
    try:
        if path.is_dir():
            raise OutputError("EK601", f"{path} is a folder.", "Give the name of a file.")
        _check_place(path, overwrite=overwrite)
    except OSError as error:
        raise output_error(path, error) from error


def check_output_folder(path: Path, mark: str, *, overwrite: bool) -> None:
    """Refuse an output that is to be a folder before any work is done.

    Args:
        path: The folder to make.
        mark: A file that every such folder has, ``"Manifest.json"``: another folder is never replaced.
        overwrite: Whether one that is there may be.

    Raises:
        OutputError: It exists and ``overwrite`` is not set, it is another folder or a device, or the folder that it
            is to lie in is missing or cannot be written.
    """
    try:
        if path.is_dir() and not (path / mark).is_file():
            message = f"{path} is a folder without a {mark}: edgekit did not make it."
            raise OutputError("EK601", message, "Choose another name.")
        _check_place(path, overwrite=overwrite)
    except OSError as error:
        raise output_error(path, error) from error


def _check_place(path: Path, *, overwrite: bool) -> None:
    # Renaming over /dev/null would replace it, for everyone on the machine.
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OutputError("EK607", f"{path} is no regular file.", "Give the name of a file.")
    if path.exists() and not overwrite:
        raise OutputError("EK602", f"{path} exists already.", "Choose another name, or add --overwrite.")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise OutputError("EK603", f"The folder {folder} does not exist.", f"Create it: mkdir -p {folder}")
    # Only an attempt tells: permissions say nothing about a read-only mount, and root may do anything.
    with tempfile.TemporaryFile(dir=folder):
        pass


@contextmanager
def atomic_write(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed into place.

    On any failure, ctrl-C included, the temporary file is removed and what was at ``path`` stays. Where
    ``path`` is a symbolic link, the file that it leads to is written. A ``private`` file is for its owner alone.

    Raises:
        OutputError: The disk is full or read-only, or the folder is gone.
    """
    target = path.resolve()
    # Named before it is there, so that whatever interrupts the next line, the last one removes it.
    part = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.part")
    try:
        try:
            part.touch(mode=0o600, exist_ok=False)
        except OSError as error:
            raise output_error(path, error) from error
        yield part
        # While it was written it was private; an output gets the permissions that any new file would get.
        if not private:
            part.chmod(0o666 & ~_umask())
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        # The caller's block reads files too: those that it may not read are not the output's fault.
        if error.errno in _OUTPUT_ERRNOS and error.filename in {None, str(part)}:
            raise output_error(path, error) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def read_bytes(path: Path, *, most_bytes: int) -> bytes:
    """The content of a regular file that is not larger than it may be.

    Raises:
        OSError: It cannot be read, is no regular file (a device has no end), or is too large.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file")
    if path.stat().st_size > most_bytes:
        raise OSError(errno.EFBIG, f"it has more than {most_bytes:,} bytes")
    return path.read_bytes()


def write_bytes(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file whole or not at all; a ``private`` one is for its owner alone."""
    with atomic_write(path, private=private) as part:
        part.write_bytes(content)


@contextmanager
def locked_folder(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Keep other processes of edgekit from changing files of a folder for as long as this lasts.

    The lock is on the folder itself and leaves nothing behind; it ends with the process that holds it.

    Raises:
        OutputError: The folder cannot be opened.
        BlockingIOError: Another process holds the lock, and this one does not ``wait``.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def copy_file(source: Path, path: Path) -> None:
    """Copy a file whole or not at all."""
    with atomic_write(path) as part:
        shutil.copyfile(source, part)


def copy_folder(source: Path, path: Path) -> None:
    """Copy a folder whole or not at all; what was at ``path`` goes only when its successor is complete.

    Raises:
        OutputError: The disk is full or read-only.
    """
    target = path.resolve()
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name[:40]}.") as name:
            part, old = Path(name) / "new", Path(name) / "old"
            part.mkdir()
            for member in sorted(source.rglob("*")):
                _copy_member(member, part / member.relative_to(source))
            try:
                if target.exists():
                    target.rename(old)
                part.rename(target)
            except BaseException:
                if old.exists() and not target.exists():
                    old.rename(target)
                raise
            _sync_folder(target.parent)
    except OSError as error:
        raise output_error(path, error) from error


def _copy_member(member: Path, path: Path) -> None:
    if member.is_dir():
        path.mkdir()
        return
    # The content alone: some programs make private files, and an output gets the usual permissions.
    shutil.copyfile(member, path)
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def sha256(path: Path) -> str:
    """The digest of a file; of a folder, that of its files' names and digests in sorted order."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_model_path(path: Path) -> bool:
    """Whether a path leads to a file or folder that ends; a device or a pipe may not."""
    return path.is_file() or path.is_dir()


def size_bytes(path: Path) -> int:
    """The size of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size


def gzip_bytes(path: Path) -> int:
    """How many bytes are left after gzip -9: what an app store or an update would transfer."""
    counter = _Counter()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    with gzip.GzipFile(fileobj=counter, mode="wb", compresslevel=9, mtime=0) as packed:
        for file in files:
            with file.open("rb") as stream:
                shutil.copyfileobj(stream, packed, _CHUNK_BYTES)
    return counter.count


class _Counter:
    """A stream that keeps nothing but the number of bytes written to it."""

    def __init__(self) -> None:
        self.count = 0

    def write(self, content: bytes) -> int:
        self.count += len(content)
        return len(content)

    def flush(self) -> None:
        """Nothing is buffered."""


_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
_OUTPUT_ERRNOS = {
    *_FULL_ERRNOS, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.ENAMETOOLONG
}  # fmt: skip
_HINTS = {
    errno.EFBIG: "Raise the limit of a file's size (ulimit -f), or write to another file system.",
    errno.EIO: "Look at the disk: it may be broken, or a network drive may be gone.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def output_error(path: Path, error: OSError) -> OutputError:
    """What to say about an output that could not be written."""
    if error.errno in _FULL_ERRNOS:
        return OutputError(
            "EK604", f"The disk is full: {path} was not written.", "Free some space, or write elsewhere."
        )
    hint = _HINTS.get(error.errno or 0, "Choose a folder that you may write to.")
    return OutputError("EK605", f"{path} cannot be written: {error.strerror}.", hint)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the file system lets folders be synced."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
