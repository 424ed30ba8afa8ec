"""Which runtimes can run on a device, and why others cannot."""

from dataclasses import dataclass
from typing import Any

from edgekit.devices import native_library, wheels
from edgekit.devices.facts import DeviceFacts
from edgekit.errors import DeviceError

# What edgekit sets up in the Python of a device; the versions and what they need stand in wheels.py.
_WITH_PYTHON = ("litert", "onnxruntime", "tflite_runtime")
# The runner without Python, by system and architecture: the glibc that it starts with.
_NATIVE = {("glibc", "aarch64"): (2, 17), ("glibc", "x86_64"): (2, 17), ("bionic", "aarch64"): (0, 0)}
# LiteRT's library for it binds symbols up to GLIBC_2.30, and exists for Arm alone.
_LIBRARY = ("glibc", "aarch64")
_LIBRARY_GLIBC = (2, 30)


@dataclass(frozen=True)
class RuntimeSupport:
    """Whether a runtime can run on a device.

    ``version`` is the one that edgekit would bring there, None where none runs. ``reason`` says why it cannot
    run; where it can, it says what it has to do without, or is empty.
    """

    name: str
    version: str | None
    possible: bool
    reason: str

    def describe(self) -> dict[str, Any]:
        """The answer as it stands in JSON documents."""
        return {
            "name": self.name,
            "version": self.version,
            "possible": self.possible,
            "reason": self.reason,
        }


def support(facts: DeviceFacts) -> tuple[RuntimeSupport, ...]:
    """What edgekit can run on a device: litert, onnxruntime, tflite_runtime and native, in this order."""
    disk = facts.disk
    if not disk.executable:
        # Neither programs nor the libraries of Python packages are loaded from a disk mounted with noexec.
        reason = (
            f"{disk.path} cannot be written" if not disk.writable else f"nothing can be run in {disk.path}"
        )
        names = (*_WITH_PYTHON, "native")
        return tuple(RuntimeSupport(name, None, possible=False, reason=reason) for name in names)
    return (*(_with_python(name, facts) for name in _WITH_PYTHON), _native(facts))


def platform_tags(facts: DeviceFacts) -> list[str]:
    """The platform tags of the wheels that fit a device's Python, the best first; none without a Python."""
    return facts.python.platform.tags() if facts.python else []


def _with_python(name: str, facts: DeviceFacts) -> RuntimeSupport:
    python = facts.python
    if python is None:
        reason = f"it needs Python, and {facts.python_problem}"
        return RuntimeSupport(name, None, possible=False, reason=reason)
    if python.implementation != "cpython":
        reason = f"it needs CPython, and {python.path} is {python.implementation}"
        return RuntimeSupport(name, None, possible=False, reason=reason)
    try:
        version = wheels.wanted(name, python.platform)[0].version.removeprefix("==")
    except DeviceError:
        reason = wheels.why_not(name, python.platform)
        if facts.libc and facts.libc.kind != "glibc":
            reason = f"its wheels need glibc, and the device has {facts.libc}"
        return RuntimeSupport(name, None, possible=False, reason=reason)
    # A 64-bit kernel lists other features, and runs on no processor without it.
    if facts.machine.startswith("armv7") and "vfpv4" not in facts.processor.features:
        reason = "its wheels need a processor with VFPv4, such as a Cortex-A7"
        return RuntimeSupport(name, None, possible=False, reason=reason)
    without = ""
    if name == "litert" and not facts.has_lse:
        without = "without its WebGPU accelerator, which needs a processor with LSE"
    return RuntimeSupport(name, version, possible=True, reason=without)


def _native(facts: DeviceFacts) -> RuntimeSupport:
    libc = facts.libc
    place = (libc.kind if libc else "", facts.userland)
    number = (libc.number if libc else None) or (0, 0)
    if place not in _NATIVE:
        made_for = ", ".join(f"{architecture} with {kind}" for kind, architecture in _NATIVE)
        reason = f"it is made for {made_for}; the device is {facts.userland} with {libc or 'an unknown libc'}"
        return RuntimeSupport("native", None, possible=False, reason=reason)
    if number < _NATIVE[place]:
        reason = f"it needs glibc {_dotted(_NATIVE[place])} or newer, and the device has {libc}"
        return RuntimeSupport("native", None, possible=False, reason=reason)
    if place == _LIBRARY and number >= _LIBRARY_GLIBC:
        return RuntimeSupport("native", native_library.WHEEL_VERSION, possible=True, reason="")
    reason = "with a TFLite library that you name"
    if place == _LIBRARY:
        reason += f": LiteRT's own needs glibc {_dotted(_LIBRARY_GLIBC)}"
    elif place[0] == "bionic":
        reason = "with a TFLite library for Android that you name, and Android's NDK"
    return RuntimeSupport("native", None, possible=True, reason=reason)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
