"""Make a device without Python able to run models: the native runner, and the TFLite library that it opens."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.devices import facts, inventory, native_library, native_runner
from edgekit.devices.facts import DeviceFacts
from edgekit.devices.native_runner import NativePlatform
from edgekit.devices.native_setup import set_up_native
from edgekit.devices.runtime_setup import RuntimeSetup
from edgekit.devices.shell import Shell
from edgekit.devices.wheels import Platform, Wanted, Wheels
from edgekit.errors import TargetError, UsageError

_PACKAGE = Wanted("ai-edge-litert", f"=={native_library.WHEEL_VERSION}", "the last with TFLite's C API")
# Any Python that the wheel exists for: its library knows nothing of Python.
_PYTHON = (3, 11)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class NativePlan:
    """What a native setup brings to a device: the runner for a platform, and a library or the wheel that has it."""

    platform: NativePlatform
    glibc: tuple[int, int] | None
    library: Path | None
    wheel: Path | None
    folder: Path

    @property
    def version(self) -> str:
        """The library's version; that of one that the user names is its digest's beginning."""
        if self.library is None:
            return native_library.WHEEL_VERSION
        return files.sha256(self.library)[:12]

    def describe(self) -> dict[str, Any]:
        """The plan as it stands in JSON documents."""
        return {
            "runtime": "native",
            "version": self.version,
            "platform": {
                "system": self.platform.system,
                "architecture": self.platform.machine,
                "glibc": ".".join(map(str, self.glibc or ())) or None,
            },
            "library": None if self.library is None else str(self.library),
            "wheel": None if self.wheel is None else self.wheel.name,
            "wheels_folder": str(self.folder),
        }


def plan_native_setup(device: str, *, library: Path | None = None, wheels: Path | None = None) -> NativePlan:
    """What ``device_setup_native`` would bring; nothing is compiled or fetched.

    Raises:
        UsageError: There is no such device, or the library is not for it.
        TargetError: There is no runner for such a device.
        DeviceError: The device is unreachable.
    """
    with Shell(inventory.resolve(device)) as shell:
        return _plan(facts.probe(shell), library, wheels)


def device_setup_native(
    device: str,
    *,
    library: Path | None = None,
    wheels: Path | None = None,
    progress: Progress | None = None,
) -> tuple[NativePlan, RuntimeSetup]:
    """Compile the native runner for a device, bring it there with a TFLite library, and try it.

    Args:
        device: Its name in the inventory, or its URL.
        library: A TFLite C library for the device, such as the one of Android's AAR; by default the one of the
            pinned ai-edge-litert wheel.
        wheels: A folder that has that wheel; by default it is fetched into edgekit's cache.
        progress: Called with the bytes sent and those to send.

    Raises:
        UsageError: There is no such device, or the library is not for it.
        TargetError: There is no runner for such a device.
        DependencyError: There is no compiler for it, or the wheel cannot be had.
        DeviceError: The device is unreachable or full, or the runner fails there.
    """
    with Shell(inventory.resolve(device)) as shell:
        plan = _plan(facts.probe(shell), library, wheels)
        program = native_runner.build(plan.platform)
        found = plan.library or _from_wheel(plan, wheels)
        native_library.check(found, plan.platform.machine, plan.glibc)
        done = set_up_native(shell, program, found, plan.version, progress=progress)
    return plan, done


def _plan(facts: DeviceFacts, library: Path | None, wheels: Path | None) -> NativePlan:
    libc = facts.libc
    system = "android" if libc is not None and libc.kind == "bionic" else "linux"
    glibc = libc.number if libc is not None and libc.kind == "glibc" else None
    if system == "linux" and glibc is None:
        raise TargetError(
            "EK592",
            f"There is no native runner for a device with {libc or 'an unknown C library'}.",
            "It is made for glibc and for Android.",
        )
    platform = NativePlatform(system, facts.userland)
    native_runner.check(platform)
    folder = wheels or _cache("wheels")
    if library is not None:
        native_library.check(library, platform.machine, glibc)
        return NativePlan(platform, glibc, library, None, folder)
    if system == "android" or platform.machine != "aarch64":
        raise UsageError(
            "EK593",
            f"No package has a TFLite C library for {platform}.",
            "Name one with --library: on Android the libtensorflowlite_c.so or LiteRT library of the AAR.",
        )
    return NativePlan(
        platform, glibc, None, Wheels(folder, _wheel_platform(platform, glibc)).find(_PACKAGE), folder
    )


def _from_wheel(plan: NativePlan, wheels: Path | None) -> Path:
    """The library of the pinned wheel, unpacked into the cache."""
    source = Wheels(plan.folder, _wheel_platform(plan.platform, plan.glibc))
    (wheel,) = source.require([_PACKAGE]) if wheels else source.fetch([_PACKAGE])
    path = _cache("native") / f"{wheel.stem}-{Path(native_library.MEMBER).name}"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        native_library.from_wheel(wheel, path)
    return path


def _wheel_platform(platform: NativePlatform, glibc: tuple[int, int] | None) -> Platform:
    return Platform(_PYTHON, platform.machine, glibc)


def _cache(name: str) -> Path:
    import platformdirs

    return platformdirs.user_cache_path("edgekit") / name
