"""The native runner, for devices without Python: C source that is shipped with edgekit and compiled for a device."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgekit import files
from edgekit.errors import DependencyError, TargetError

SOURCES = Path(__file__).with_name("native")
PROGRAM = "edgekit-runner"

_COMPILE_S = 300.0
_ANDROID_API = 24  # Android 7
_FLAGS = (
    "-std=c11",
    "-D_POSIX_C_SOURCE=200809L",
    "-O2",
    "-Wall",
    "-Wextra",
    "-fstack-protector-strong",
    "-fPIE",
    "-pie",
)
# What old_glibc.c wraps, and the library that has it on systems before glibc 2.34.
_FOR_OLD_GLIBC = (
    "-Wl,--wrap=dlopen,--wrap=dlsym,--wrap=dlerror,--wrap=__libc_start_main",
    "-Wl,--no-as-needed",
    "-l:libdl.so.2",
)
_MACHINES = {"linux": ("aarch64", "x86_64"), "android": ("aarch64",)}
_PACKAGES = {
    "aarch64": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "x86_64": "gcc-x86-64-linux-gnu libc6-dev-amd64-cross",
}


@dataclass(frozen=True)
class NativePlatform:
    """What a runner is compiled for: ``NativePlatform("linux", "aarch64")``.

    ``system`` is linux, with glibc, or android.
    """

    system: str
    machine: str

    def __str__(self) -> str:
        return f"{self.system.capitalize()} on {self.machine}"


@dataclass(frozen=True)
class _Toolchain:
    command: tuple[str, ...]
    sources: tuple[Path, ...]
    libraries: tuple[str, ...]


def build(target: NativePlatform, *, cache: Path | None = None) -> Path:
    """The runner for a device, compiled once for each source, compiler and target, and kept in edgekit's cache.

    On Linux it starts with glibc 2.17 or newer. Android's needs the NDK that ANDROID_NDK_HOME names.

    Args:
        target: The device's system and machine.
        cache: Another folder than ``native`` in edgekit's cache.

    Raises:
        TargetError: There is no runner for such a device.
        DependencyError: There is no compiler for it, or compiling fails.
        OutputError: The cache cannot be written.
    """
    check(target)
    toolchain = _android(target) if target.system == "android" else _linux(target)
    folder = (cache or _cache_folder()) / _digest(toolchain)
    program = folder / PROGRAM
    if program.is_file():
        return program
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / PROGRAM
            _compile(toolchain, made, target)
            made.replace(program)
    except OSError as error:
        raise files.output_error(program, error) from error
    return program


def check(target: NativePlatform) -> None:
    """Refuse a device that no runner is made for.

    Raises:
        TargetError: It is such a device; the hint says what there is instead.
    """
    if target.machine not in _MACHINES.get(target.system, ()):
        raise TargetError(
            "EK592",
            f"There is no native runner for {target}.",
            "It is made for Linux on aarch64 and x86_64 and for Android on aarch64; with Python there, "
            "use --runtime tflite_runtime."
            if target.system == "linux"
            else "On Android it is made for aarch64 alone.",
        )


def _cache_folder() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("edgekit") / "native"


def _linux(target: NativePlatform) -> _Toolchain:
    here = sys.platform == "linux" and target.machine == platform.machine()
    compiler = shutil.which("gcc" if here else f"{target.machine}-linux-gnu-gcc")
    if compiler is None:
        packages = "gcc libc6-dev" if here else _PACKAGES[target.machine]
        raise DependencyError(
            "EK590", f"There is no C compiler for {target} here.", f"Install it: sudo apt install {packages}"
        )
    return _Toolchain((compiler,), tuple(sorted(SOURCES.glob("*.c"))), _FOR_OLD_GLIBC)


def _android(target: NativePlatform) -> _Toolchain:
    home = os.environ.get("ANDROID_NDK_HOME", "")
    found = sorted(Path(home).glob("toolchains/llvm/prebuilt/*/bin/clang")) if home else []
    if not found:
        raise DependencyError(
            "EK590",
            f"ANDROID_NDK_HOME names no NDK: {home}." if home else "ANDROID_NDK_HOME is not set.",
            "Install Android's NDK and set it: export ANDROID_NDK_HOME=~/Android/Sdk/ndk/VERSION",
        )
    sources = tuple(path for path in sorted(SOURCES.glob("*.c")) if path.name != "old_glibc.c")
    command = (str(found[0]), f"--target={target.machine}-linux-android{_ANDROID_API}")
    return _Toolchain(command, sources, ("-ldl",))


def _digest(toolchain: _Toolchain) -> str:
    """Names the result: what it is made of, by which compiler, and how."""
    digest = hashlib.sha256()
    version = _run([*toolchain.command, "--version"]).stdout
    for part in (version, *toolchain.command, *_FLAGS, *toolchain.libraries):
        digest.update(f"{part}\0".encode())
    for path in (*toolchain.sources, *sorted(SOURCES.glob("*.h"))):
        digest.update(f"{path.name}\0{files.sha256(path)}\0".encode())
    return digest.hexdigest()[:16]


def _compile(toolchain: _Toolchain, program: Path, target: NativePlatform) -> None:
    sources = map(str, toolchain.sources)
    done = _run([*toolchain.command, *_FLAGS, "-s", "-o", str(program), *sources, *toolchain.libraries])
    if done.returncode != 0:
        packages = _PACKAGES.get(target.machine, "") if target.system == "linux" else ""
        raise DependencyError(
            "EK591",
            f"{toolchain.command[0]} cannot compile the native runner for {target}.",
            f"Its libraries may be missing: sudo apt install {packages}"
            if packages
            else "-v shows what it said.",
            detail=done.stderr,
        )


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_COMPILE_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DependencyError(
            "EK591", f"The compiler {command[0]} does not work: {error}.", "Install it again."
        ) from error
