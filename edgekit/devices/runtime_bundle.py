"""Wheels as one archive for a device: unpacked in order, without what a device has no use for.

Wheels come from elsewhere, so nothing in them is trusted: neither their names nor their sizes.
"""

import gzip
import hashlib
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from edgekit import files
from edgekit.errors import DataError

_MOST_BYTES = 1 << 30
_MOST_FILES = 20_000
# 1980: zip files know nothing older, and a device whose clock is wrong has no reason to complain.
_MTIME_S = 315_532_800
_LEVEL = 6
# Raised when another choice is made here, so that devices get the new one.
_LAYOUT = b"1"

# Loaded as soon as anything of LiteRT's newer interface is used, and its first atomic instruction ends the
# process on processors without LSE, such as those of the Raspberry Pi 3 and 4.
WEBGPU = "libLiteRtWebGpuAccelerator.so"
# A second copy of ONNX Runtime, for programs in C: the module for Python has all of it inside.
_ORT_FOR_C = "libonnxruntime.so."
_FOLDERS = frozenset({"tests", "__pycache__", "include"})
_SUFFIXES = frozenset({".pyi", ".pxd", ".pyc", ".h", ".a", ".lib"})
# Tools for building, converting and quantizing, which no inference imports.
_PACKAGES = (
    "numpy/f2py",
    "numpy/distutils",
    "numpy/typing",
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "ai_edge_litert/aot",
    "ai_edge_litert/tools",
)


class Bundle:
    """What becomes of some wheels on a device: ``with_webgpu`` keeps LiteRT's WebGPU accelerator.

    The archive has ``about_packed_bytes``, as both formats compress alike, and its files ``unpacked_bytes``.

    Raises:
        DataError: A wheel is damaged, or holds what no wheel may hold.
    """

    def __init__(self, wheels: Sequence[Path], *, with_webgpu: bool = False) -> None:
        self._wheels = tuple(wheels)
        self._with_webgpu = with_webgpu
        self.unpacked_bytes = self.about_packed_bytes = 0
        seen: set[str] = set()
        for wheel in self._wheels:
            with _opened(wheel) as archive:
                for member in self._members(wheel, archive):
                    if member.filename in seen:
                        raise _refused(wheel, f"it holds {member.filename!r} twice, or another wheel does")
                    seen.add(member.filename)
                    self.unpacked_bytes += member.file_size
                    self.about_packed_bytes += member.compress_size

    @property
    def digest(self) -> str:
        """Names the content: 8 hexadecimal digits that follow from the wheels and from what is left out."""
        parts = [_LAYOUT, b"webgpu" if self._with_webgpu else b"", *sorted(self._digests())]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:8]

    def write(self, path: Path) -> None:
        """Write the archive, a ``.tar.gz``; the same wheels give the same bytes, so that uploads can resume.

        Raises:
            DataError: A wheel is damaged.
        """
        with ExitStack() as stack:
            raw = stack.enter_context(path.open("wb"))
            packed = stack.enter_context(
                gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=_LEVEL, mtime=0)
            )
            tar = stack.enter_context(tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT))
            for wheel in self._wheels:
                archive = stack.enter_context(_opened(wheel))
                for member in self._members(wheel, archive):
                    self._add(tar, wheel, archive, member)

    def _add(
        self, tar: tarfile.TarFile, wheel: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo
    ) -> None:
        entry = tarfile.TarInfo(member.filename)
        entry.size, entry.mode, entry.mtime = member.file_size, 0o644, _MTIME_S
        try:
            with archive.open(member) as content:
                tar.addfile(entry, content)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise _refused(wheel, f"{member.filename!r} is damaged") from error

    def _members(self, wheel: Path, archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
        """The files that a device needs."""
        members = archive.infolist()
        if len(members) > _MOST_FILES or sum(member.file_size for member in members) > _MOST_BYTES:
            raise _refused(wheel, f"it unpacks to more than {_MOST_FILES:,} files or {_MOST_BYTES >> 20} MiB")
        for member in sorted(members, key=lambda member: member.filename):
            if member.is_dir():
                continue
            _check_name(wheel, member)
            if self._wants(PurePosixPath(member.filename)):
                yield member

    def _wants(self, path: PurePosixPath) -> bool:
        if path.name == WEBGPU:
            return self._with_webgpu
        if path.name.startswith(_ORT_FOR_C) or path.suffix in _SUFFIXES:
            return False
        if not _FOLDERS.isdisjoint(path.parts[:-1]):
            return False
        return not any(path.is_relative_to(package) for package in _PACKAGES)

    def _digests(self) -> Iterator[bytes]:
        return (files.sha256(wheel).encode() for wheel in self._wheels)


def _opened(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _refused(wheel, str(error)) from error


def _check_name(wheel: Path, member: zipfile.ZipInfo) -> None:
    """Refuse what would land outside of the folder, or is no plain file."""
    name = member.filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or any(ord(sign) < 32 for sign in name):
        raise _refused(wheel, f"it holds the name {name!r}")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFREG}:
        raise _refused(wheel, f"{name!r} is no plain file")


def _refused(wheel: Path, reason: str) -> DataError:
    return DataError(
        "EK835", f"{wheel.name} cannot be used: {reason}.", f"Remove it and fetch it again: {wheel}"
    )
