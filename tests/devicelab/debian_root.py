"""Debian systems of another architecture: unpacked from packages once, kept as a tar, copied for every device."""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from devicelab.processes import LabError, UnavailableError, call, find_program

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
# Debian's name of an architecture: the name of its emulator.
_EMULATORS = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}
_BUILD_LIMIT_S = 600
# What no test reads; it is a third of all files.
_LEFT_OUT = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/lib/apt/lists"]


@dataclass(frozen=True)
class DebianRoot:
    """A recipe for a root folder.

    Attributes:
        suite: Debian's release, such as "bookworm".
        packages: What is in it besides the essential packages.
        architecture: Debian's name, "arm64" or "armhf".
    """

    suite: str
    packages: tuple[str, ...]
    architecture: str = "arm64"

    def require(self) -> None:
        """Make sure that such a root can be built and run here, and let the kernel run its programs.

        The emulator stays registered with the kernel, as it is where its package is installed.

        Raises:
            UnavailableError: It cannot; the message says what is missing.
        """
        if os.geteuid() != 0:
            raise UnavailableError("emulated devices need root, for mounts and namespaces")
        for program, package in [
            ("mmdebstrap", "mmdebstrap"),
            ("arch-test", "arch-test"),
            (f"{_EMULATORS[self.architecture]}-static", "qemu-user-static"),
            ("update-binfmts", "binfmt-support"),
            ("nsenter", "util-linux"),
        ]:
            find_program(program, package)
        try:
            call("unshare", "--mount", "--pid", "--uts", "--fork", "true")
        except LabError as error:
            raise UnavailableError("emulated devices need namespaces, which are refused here") from error
        _register(_EMULATORS[self.architecture])

    def unpack(self, folder: Path) -> None:
        """Fill a new folder with the system; its packages are unpacked and not configured.

        Raises:
            UnavailableError: See ``require``; also where the packages could not be fetched.
        """
        self.require()
        folder.mkdir()
        excluded = [f"--exclude=./{name}/*" for name in _LEFT_OUT]
        call("tar", "-C", folder, "-xf", self._cached_tar(), *excluded, timeout_s=300)
        for name in ("proc", "sys", "dev/pts", "dev/shm", "run", "tmp", "root", "home", "var/tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("tmp", "var/tmp", "dev/shm"):
            (folder / name).chmod(0o1777)
        # The terminals of the devpts that the device mounts.
        (folder / "dev/ptmx").unlink(missing_ok=True)
        (folder / "dev/ptmx").symlink_to("pts/ptmx")
        (folder / "etc/nsswitch.conf").write_text(
            "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"
        )
        (folder / "etc/resolv.conf").write_text("")

    def _cached_tar(self) -> Path:
        name = hashlib.sha256(repr(self).encode()).hexdigest()[:16]
        cached = cache_folder() / f"{self.suite}-{self.architecture}-{name}.tar"
        with _locked(cached.with_suffix(".lock")):
            if not cached.is_file():
                with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
                    built = Path(folder) / "root.tar"
                    self._build(built)
                    built.replace(cached)
        return cached

    def _build(self, tar: Path) -> None:
        mirror = os.environ.get("EDGEKIT_LAB_MIRROR", "http://deb.debian.org/debian")
        command = [
            find_program("mmdebstrap", "mmdebstrap"),
            "--quiet",
            f"--architectures={self.architecture}",
            # Only unpacks: no program of the root is run, which would take minutes.
            "--variant=extract",
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            f"--include={','.join(self.packages)}",
            self.suite,
            str(tar),
            f"deb {mirror} {self.suite} main",
        ]
        try:
            call(*command, timeout_s=_BUILD_LIMIT_S)
        except LabError as error:
            raise UnavailableError(
                f"Debian {self.suite} for {self.architecture} could not be fetched from {mirror}: "
                f"{str(error).splitlines()[-1]}"
            ) from error


def cache_folder() -> Path:
    """Where built roots are kept: EDGEKIT_LAB_CACHE, or the user's cache."""
    folder = Path(os.environ.get("EDGEKIT_LAB_CACHE") or platformdirs.user_cache_dir("edgekit-lab"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _register(emulator: str) -> None:
    """Let the kernel start programs of another architecture with their emulator."""
    entry = _BINFMT / emulator
    if entry.exists():
        return
    with contextlib.suppress(LabError):
        if not (_BINFMT / "register").exists():
            call("mount", "-t", "binfmt_misc", "binfmt_misc", _BINFMT)
        call(find_program("update-binfmts", "binfmt-support"), "--enable", emulator)
    if not entry.exists():
        raise UnavailableError(f"the kernel does not start programs with {emulator} (binfmt_misc)")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time build a root."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
