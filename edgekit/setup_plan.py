"""What a device needs so that models run there: chosen for its Python, its C library and its processor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import device_facts, device_python, device_support, native_library
from edgekit.catalog import unknown
from edgekit.device_python import DevicePython
from edgekit.errors import DeviceError
from edgekit.native_runner import NativePlatform
from edgekit.shell import Shell
from edgekit.wheels import Platform, Wanted, Wheels, wanted

RUNTIMES = ("litert", "onnxruntime", "tflite_runtime", "native")

# The library in a wheel is the same for every Python; one has to be named to choose the file.
_ANY_PYTHON = (3, 11)


@dataclass(frozen=True)
class SetupPlan:
    """What a setup brings to a device.

    ``python`` is None for the native runner. ``wheels`` has None for what is still to be fetched.
    ``device_numpy`` is the version of the device's own numpy where that one is used. ``library`` is the TFLite
    library that the user named for the native runner, compiled for ``native``.
    """

    runtime: str
    version: str
    platform: Platform
    python: DevicePython | None
    packages: tuple[Wanted, ...]
    wheels: tuple[Path | None, ...]
    folder: Path
    device_numpy: str | None = None
    native: NativePlatform | None = None
    library: Path | None = None

    @property
    def where(self) -> str:
        """The device in a few words."""
        return str(self.native or self.platform)

    @property
    def source(self) -> Wheels:
        """Where the wheels are taken from."""
        return Wheels(self.folder, self.platform)

    def describe(self) -> dict[str, Any]:
        """The plan as it stands in JSON documents."""
        platform, python = self.platform, self.python
        return {
            "runtime": self.runtime,
            "version": self.version,
            "python": None if python is None else {"path": python.path, "version": python.version},
            "platform": {
                "architecture": platform.architecture,
                "glibc": ".".join(map(str, platform.glibc or ())) or None,
                "best_tag": next(iter(platform.tags()), None),
            },
            "packages": [
                {
                    "package": package.package,
                    "version": package.version,
                    "why": package.why,
                    "wheel": wheel.name if wheel else None,
                    "size_bytes": wheel.stat().st_size if wheel else None,
                }
                for package, wheel in zip(self.packages, self.wheels, strict=True)
            ],
            "device_numpy": self.device_numpy,
            "library": None if self.library is None else str(self.library),
            "wheels_folder": str(self.folder),
        }


def plan(
    shell: Shell,
    runtime: str,
    *,
    wheels: Path | None = None,
    python: str = "python3",
    library: Path | None = None,
) -> SetupPlan:
    """What a runtime needs on a device; nothing is fetched, and nothing changed there.

    Raises:
        UsageError: There is no such runtime, or the library does not fit the device.
        DeviceError: The runtime does not run there, or the link is lost.
    """
    if runtime not in RUNTIMES:
        raise unknown("runtime of devices", runtime, list(RUNTIMES))
    folder = wheels or cache_folder()
    if runtime == "native":
        return _native(shell, folder, library)
    found = device_python.find(shell, python)
    platform = found.platform
    source = Wheels(folder, platform)
    engine, numpy = wanted(runtime, platform)
    packages: tuple[Wanted, ...] = (engine, numpy)
    device_numpy = None
    # There is no numpy for this processor on PyPI; distributions have one.
    theirs = platform.architecture == "armv7l" and not source.find(numpy)
    if theirs and found.numpy_version and numpy.allows(found.numpy_version):
        packages, device_numpy = (engine,), found.numpy_version
    version = engine.version.removeprefix("==")
    have = tuple(map(source.find, packages))
    return SetupPlan(runtime, version, platform, found, packages, have, folder, device_numpy)


def cache_folder() -> Path:
    """Where fetched wheels stay."""
    import platformdirs

    return platformdirs.user_cache_path("edgekit") / "wheels"


def _native(shell: Shell, folder: Path, library: Path | None) -> SetupPlan:
    facts = device_facts.probe(shell)
    answer = next(found for found in device_support.support(facts) if found.name == "native")
    if not answer.possible:
        raise DeviceError(
            "EK830",
            f"The native runner does not run on {shell.device.name}: {answer.reason}.",
            "See edgekit device probe for the runtimes that do.",
        )
    libc = facts.libc
    glibc = libc.number if libc is not None and libc.kind == "glibc" else None
    target = NativePlatform("android" if facts.android else "linux", facts.userland)
    platform = Platform(_ANY_PYTHON, facts.userland, glibc)
    if library is not None:
        native_library.check(library, facts.userland, glibc)
        return SetupPlan(
            "native", "own library", platform, None, (), (), folder, native=target, library=library
        )
    if target.system == "android" or facts.userland != "aarch64":
        raise DeviceError(
            "EK830",
            f"edgekit knows no TFLite library for {target}, which {shell.device.name} is.",
            "Name one with --library: libtensorflowlite_c.so, built for the device.",
        )
    wheel = Wanted(
        "ai-edge-litert",
        f"=={native_library.WHEEL_VERSION}",
        "the last that has TFLite's C library, which the runner opens",
    )
    have = (Wheels(folder, platform).find(wheel),)
    return SetupPlan(
        "native", native_library.WHEEL_VERSION, platform, None, (wheel,), have, folder, native=target
    )
