"""The Python of a device, asked itself: only it knows its version, its libc and how wide its pointers are."""

import json
import re
from dataclasses import dataclass

from edgekit.devices.shell import Shell
from edgekit.devices.wheels import Platform
from edgekit.errors import DeviceError

# Must run in every Python 3. A 64-bit kernel may run a 32-bit Python, whose wheels are the 32-bit ones.
ASK = """
import json, os, platform, struct, sys
try:
    import numpy
    numpy = numpy.__version__
except Exception:
    numpy = None
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION")
except (AttributeError, ValueError, OSError):
    libc = None
try:
    with open("/proc/cpuinfo") as stream:
        cpuinfo = stream.read()
except OSError:
    cpuinfo = ""
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": list(sys.version_info[:3]),
    "machine": platform.machine(),
    "bits": 8 * struct.calcsize("P"),
    "libc": libc,
    "numpy": numpy,
    "lse": "atomics" in cpuinfo.split(),
}))
"""
_FIND = 'command -v "$1"'
_ASK_WIDTH = "import platform, struct; print(platform.machine(), 8 * struct.calcsize('P'))"
_32_BIT = {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}
_NAMES = {"arm64": "aarch64", "amd64": "x86_64"}


@dataclass(frozen=True)
class DevicePython:
    """A Python on a device.

    ``numpy_version`` is that of the numpy which it finds by itself; ``has_lse`` tells whether an Arm processor
    has the atomic instructions of ARMv8.1.
    """

    path: str
    version: str
    platform: Platform
    numpy_version: str | None
    has_lse: bool
    implementation: str = "cpython"


def find(shell: Shell, program: str = "python3") -> DevicePython:
    """The Python of a device, by its name or path there.

    Raises:
        DeviceError: There is none, it does not run, or it is another one than CPython; or the link is lost.
    """
    place = shell.script(_FIND, program, check=False)
    path = place.text.splitlines()[-1] if place.text else ""
    if place.status or not path.startswith("/"):
        raise DeviceError(
            "EK836",
            f"{shell.device.name} has no {program}.",
            "Install Python 3.9 or newer there, or use --native, which needs none.",
        )
    done = shell.run(path, "-c", ASK, check=False)
    try:
        found = parse(path, done.text)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        said = done.errors.splitlines()[-1] if done.errors else f"it ends with status {done.status}"
        raise DeviceError(
            "EK836",
            f"{path} on {shell.device.name} does not run: {said}.",
            "Name another one with --python.",
            detail=done.errors,
        ) from error
    if found.implementation != "cpython":
        raise DeviceError(
            "EK836",
            f"{path} on {shell.device.name} is {found.implementation}; the runtimes need CPython.",
            "Name another one with --python.",
        )
    return found


def parse(path: str, answer: str) -> DevicePython:
    """What a Python said to ``ASK``.

    Raises:
        ValueError, KeyError, TypeError, IndexError: That is no answer.
    """
    facts = json.loads(answer.splitlines()[-1])
    major, minor, micro = map(int, facts["version"])
    libc = re.fullmatch(r"glibc (\d+)\.(\d+).*", facts["libc"] or "")
    architecture = userland(str(facts["machine"]), int(facts["bits"]))
    return DevicePython(
        path,
        f"{major}.{minor}.{micro}",
        Platform((major, minor), architecture, (int(libc[1]), int(libc[2])) if libc else None),
        facts["numpy"],
        bool(facts["lse"]) or not architecture.startswith(("aarch64", "arm")),
        str(facts["implementation"]),
    )


def architecture(shell: Shell, path: str) -> str:
    """The architecture of a Python on a device, which may be 32-bit on a 64-bit kernel; empty if it does not run.

    Raises:
        DeviceError: The link is lost.
    """
    words = shell.run(path, "-c", _ASK_WIDTH, check=False).text.split()
    return userland(words[0], int(words[1])) if len(words) == 2 and words[1].isdigit() else ""


def userland(machine: str, bits: int) -> str:
    """The architecture of programs, from that of the kernel and the width of their pointers."""
    machine = _NAMES.get(machine.lower(), machine)
    return _32_BIT.get(machine, machine) if bits == 32 else machine
