"""The TFLite library that the native runner opens on a device: out of a wheel, or one that the user names."""

import re
import zipfile
from pathlib import Path

from edgekit import files
from edgekit.errors import DataError, UsageError

# The last release whose wheels hold TFLite's C API, and only those for Arm do.
WHEEL_VERSION = "1.4.0"
MEMBER = "ai_edge_litert/libLiteRtRuntimeCApi.so"

_MOST_BYTES = 256 << 20
# e_machine of the ELF header, by the name that the kernel gives the machine.
_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
# What a library with the C API exports; names of symbols end with a zero byte.
_NEEDED_SYMBOL = b"\0TfLiteInterpreterCreate\0"


def from_wheel(wheel: Path, path: Path) -> None:
    """Write the library of an ai-edge-litert wheel to ``path``; nothing else of the wheel is unpacked.

    Raises:
        DataError: The wheel is damaged, or has no such library.
        OutputError: ``path`` cannot be written.
    """
    hint = f"Use a wheel of ai-edge-litert {WHEEL_VERSION} for aarch64, or name a library with --library."
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [member for member in archive.infolist() if member.filename == MEMBER]
            if len(members) != 1 or members[0].file_size > _MOST_BYTES:
                raise DataError("EK594", f"{wheel.name} has no file {MEMBER} that could be used.", hint)
            with archive.open(members[0]) as stream:
                content = stream.read(_MOST_BYTES + 1)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise DataError("EK594", f"{wheel.name} cannot be read: {error}.", hint) from error
    if len(content) > _MOST_BYTES or _NEEDED_SYMBOL not in content:
        raise DataError("EK594", f"The TFLite library in {wheel.name} lacks the C API.", hint)
    files.write_bytes(path, content)


def check(path: Path, machine: str, glibc: tuple[int, int] | None) -> None:
    """Refuse a library that cannot work on a device, as far as its bytes tell.

    Args:
        path: The library.
        machine: The device's machine, ``"aarch64"``.
        glibc: The version of the device's glibc; None where it has another C library, as Android has.

    Raises:
        UsageError: It is no library for that machine, lacks TFLite's C API, or needs a newer glibc.
    """
    try:
        content = files.read_bytes(path, most_bytes=_MOST_BYTES)
    except OSError as error:
        raise _unfit(path, f"cannot be read: {error.strerror or error}") from error
    if content[:4] != b"\x7fELF" or int.from_bytes(content[18:20], "little") != _ELF_MACHINES.get(machine):
        raise _unfit(path, f"is no library for {machine}")
    if _NEEDED_SYMBOL not in content:
        raise _unfit(path, "lacks TFLite's C API (TfLiteInterpreterCreate)")
    needed = needed_glibc(content)
    if glibc is not None and needed is not None and needed > glibc:
        raise _unfit(path, f"needs glibc {_dotted(needed)}, and the device has {_dotted(glibc)}")
    if glibc is None and needed is not None:
        raise _unfit(path, f"needs glibc {_dotted(needed)}, and the device has another C library")


def needed_glibc(content: bytes) -> tuple[int, int] | None:
    """The newest version of glibc that a program or library asks for: ``(2, 30)``; None where it asks for none."""
    found = re.findall(rb"\0GLIBC_(\d{1,4})\.(\d{1,4})(?=[.\0])", content)
    return max(((int(major), int(minor)) for major, minor in found), default=None)


def _unfit(path: Path, what: str) -> UsageError:
    return UsageError(
        "EK593", f"{path.name} {what}.", "Give --library the TFLite C library that was built for the device."
    )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
