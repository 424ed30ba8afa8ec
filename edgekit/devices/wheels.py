"""Python packages for another machine: which wheel of each fits there, and fetching it on this one.

This is the only code of edgekit that reaches a package index, and it does so through ``pip download``, so that
the user's own index, proxy and certificates count.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import DependencyError, DeviceError

if TYPE_CHECKING:
    from packaging.tags import Tag
    from packaging.version import Version

_FETCH_S = 1800.0
# The oldest glibc that a manylinux tag names: PEP 600, and before it PEP 513 on x86.
_OLDEST_GLIBC = {"x86_64": 5, "i686": 5}
_ALIASES = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
# pip says one of these where the index does not answer, before it ends with "No matching distribution found".
_NO_NUMPY = "Install numpy on the device with its own package manager: sudo apt install python3-numpy"
_UNREACHABLE = (
    "connection broken",
    "NewConnectionError",
    "Could not fetch URL",
    "timed out",
    "name resolution",
)


@dataclass(frozen=True)
class Platform:
    """What decides which wheel fits: CPython's version, the architecture of its binary, and its libc.

    ``Platform((3, 11), "aarch64", (2, 36))``; ``glibc`` is None where the libc is another one.
    """

    python: tuple[int, int]
    architecture: str
    glibc: tuple[int, int] | None

    def __str__(self) -> str:
        libc = "no glibc" if self.glibc is None else f"glibc {_dotted(self.glibc)}"
        return f"{self.architecture}, Python {_dotted(self.python)}, {libc}"

    def tags(self, built_for: int = 0) -> list[str]:
        """The platform tags of wheels that run here, the best first: ``manylinux_2_36_aarch64`` and so on.

        ``built_for`` adds newer tags, up to that minor version of glibc 2: some wheels need less than they say.
        """
        if self.glibc is None:
            return []
        newest = max(self.glibc[1], built_for)
        found = []
        for minor in range(newest, _OLDEST_GLIBC.get(self.architecture, 17) - 1, -1):
            found.append(f"manylinux_2_{minor}_{self.architecture}")
            if minor in _ALIASES:
                found.append(f"{_ALIASES[minor]}_{self.architecture}")
        return [*found, f"linux_{self.architecture}"]


@dataclass(frozen=True)
class Wanted:
    """One package that a device needs: ``Wanted("numpy", "<2")``, with the reason for its version.

    ``built_for`` is the minor version of glibc 2 that its wheels name though they need less; 0 where they do not.
    """

    package: str
    version: str
    why: str
    built_for: int = 0

    def __str__(self) -> str:
        return f"{self.package}{self.version}"

    def allows(self, version: "str | Version") -> bool:
        """Whether a version is one that is wanted."""
        from packaging.specifiers import SpecifierSet

        return SpecifierSet(self.version).contains(version, prereleases=False)


WEBGPU_IMPORTS = Wanted("ml-dtypes", ">=0.4", "what LiteRT's interface to its GPU accelerator imports")


@dataclass(frozen=True)
class _Rule:
    """A version of a runtime, and what it runs on: Python from, Python to, glibc at least."""

    package: str
    version: str
    pythons: tuple[tuple[int, int], tuple[int, int]]
    glibc: tuple[int, int]
    architectures: tuple[str, ...] = ("aarch64", "x86_64")
    numpy: str = ""
    built_for: int = 0


def _rules(runtime: str) -> tuple[_Rule, ...]:
    """The versions of a runtime, newest first; glibc is what the libraries bind, not what their tags say."""
    match runtime:
        case "litert":
            return (
                _Rule("ai-edge-litert", "2.3.0", ((3, 10), (3, 14)), (2, 34)),
                _Rule("ai-edge-litert", "1.4.0", ((3, 9), (3, 12)), (2, 30)),
            )
        case "onnxruntime":
            # The host's own version: then a difference in the outputs is the machine's.
            return (
                _Rule("onnxruntime", metadata.version("onnxruntime"), ((3, 11), (3, 14)), (2, 28)),
                _Rule("onnxruntime", "1.23.2", ((3, 10), (3, 10)), (2, 28)),
                _Rule("onnxruntime", "1.19.2", ((3, 9), (3, 9)), (2, 28)),
            )
    # Built against NumPy 1, which its metadata do not say.
    everywhere = ("aarch64", "x86_64", "armv7l")
    return (_Rule("tflite-runtime", "2.14.0", ((3, 9), (3, 11)), (2, 27), everywhere, "<2", 34),)


def wanted(runtime: str, platform: Platform) -> tuple[Wanted, Wanted]:
    """What a runtime needs on a device: itself and numpy, and nothing else that their metadata name.

    Raises:
        DeviceError: No version of the runtime runs there.
    """
    rules = _rules(runtime)
    for rule in rules:
        if not _refusal(rule, platform):
            why = f"needs glibc {_dotted(rule.glibc)} and Python {_dotted(rule.pythons[0])} or newer"
            return (
                Wanted(rule.package, f"=={rule.version}", why, rule.built_for),
                Wanted("numpy", rule.numpy or ">=1.23.2", "what the runtime takes and gives arrays with"),
            )
    others = [other for other in ("litert", "tflite_runtime") if other != runtime and runs(other, platform)]
    native = "Use --native, which needs no Python there"
    if platform.glibc is None:
        native += ", with --library and a TFLite library built for that libc"
    raise DeviceError(
        "EK830",
        f"{runtime} does not run on {platform}: {_refusal(rules[-1], platform)}.",
        f"Use --runtime {others[0]}." if others else f"{native}.",
    )


def runs(runtime: str, platform: Platform) -> bool:
    """Whether some version of a runtime runs on a platform."""
    return not why_not(runtime, platform)


def why_not(runtime: str, platform: Platform) -> str:
    """Why no version of a runtime runs on a platform; empty where one does."""
    refusals = [_refusal(rule, platform) for rule in _rules(runtime)]
    return refusals[-1] if all(refusals) else ""


def _refusal(rule: _Rule, platform: Platform) -> str:
    """Why a version does not run on a platform; empty where it does."""
    who = f"{rule.package} {rule.version}"
    low, high = rule.pythons
    if platform.architecture not in rule.architectures:
        return f"{who} exists for {', '.join(rule.architectures)} alone"
    if platform.glibc is None or platform.glibc < rule.glibc:
        return f"{who} needs glibc {_dotted(rule.glibc)} or newer"
    if not low <= platform.python <= high:
        return f"{who} is for Python {_dotted(low)} to {_dotted(high)}"
    return ""


class Wheels:
    """A folder of wheels, as the choice for one platform."""

    def __init__(self, folder: Path, platform: Platform) -> None:
        self.folder = folder
        self.platform = platform

    def find(self, package: Wanted) -> Path | None:
        """The newest wheel in the folder that a package may be; None where there is none."""
        from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

        ranks = {tag: rank for rank, tag in enumerate(self._tags(package))}
        best: tuple[Version, int, Path] | None = None
        for path in sorted(self.folder.glob("*.whl")):
            try:
                name, version, _build, tags = parse_wheel_filename(path.name)
            except InvalidWheelFilename:
                continue
            fitting = [-ranks[tag] for tag in tags if tag in ranks]
            if name != canonicalize_name(package.package) or not fitting or not package.allows(version):
                continue
            candidate = (version, max(fitting), path)
            best = max(best, candidate) if best else candidate
        return best[2] if best else None

    def missing(self, packages: Sequence[Wanted]) -> list[Wanted]:
        """The packages that the folder has no fitting wheel of."""
        return [package for package in packages if self.find(package) is None]

    def require(self, packages: Sequence[Wanted]) -> list[Path]:
        """The wheels of all packages, without reaching any index.

        Raises:
            DependencyError: Some are not in the folder; all of them are named.
        """
        missing = self.missing(packages)
        if missing:
            raise DependencyError(
                "EK831",
                f"{self.folder} has no wheel that fits {self.platform} for {' and '.join(map(str, missing))}.",
                # There is none for it on PyPI that could be fetched.
                _NO_NUMPY
                if self.platform.architecture == "armv7l"
                and any(wheel.package == "numpy" for wheel in missing)
                else "Where there is a network: the same command with --fetch-only fills the folder.",
            )
        return [path for package in packages if (path := self.find(package))]

    def fetch(
        self, packages: Sequence[Wanted], *, progress: Callable[[int, int], None] | None = None
    ) -> list[Path]:
        """The wheels of all packages; those that the folder has not are downloaded into it.

        Raises:
            DependencyError: The index is not reachable, has no wheel that fits, or there is no pip.
        """
        missing = self.missing(packages)
        for done, package in enumerate(missing):
            if progress:
                progress(done, len(missing))
            self._download(package)
        if progress and missing:
            progress(len(missing), len(missing))
        return self.require(packages)

    def _tags(self, package: Wanted) -> "Iterator[Tag]":
        """The tags that a wheel may have, the best first."""
        from packaging.tags import compatible_tags, cpython_tags

        python, platforms = self.platform.python, self.platform.tags(package.built_for)
        interpreter = f"cp{python[0]}{python[1]}"
        yield from cpython_tags(python, abis=[interpreter], platforms=platforms)
        yield from compatible_tags(python, interpreter, platforms)

    def _download(self, package: Wanted) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        # Beside, then renamed: a download that is cut short is never taken for a wheel.
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".fetch-") as folder:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                *self._options(package),
                "-d",
                folder,
                str(package),
            ]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_S, check=False)
            except subprocess.TimeoutExpired as error:
                raise _unreachable(package, f"pip took longer than {_FETCH_S:g} s") from error
            if done.returncode:
                raise self._failure(package, done.stderr)
            for wheel in Path(folder).glob("*.whl"):
                wheel.replace(self.folder / wheel.name)

    def _options(self, package: Wanted) -> list[str]:
        platforms = [word for tag in self.platform.tags(package.built_for) for word in ("--platform", tag)]
        version = ["--implementation", "cp", "--python-version", _dotted(self.platform.python)]
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
        return ["--only-binary=:all:", "--no-deps", *quiet, *platforms, *version]

    def _failure(self, package: Wanted, said: str) -> DependencyError:
        if "No module named pip" in said:
            return DependencyError(
                "EK834",
                "Wheels are fetched with pip, which is not installed here.",
                f"{sys.executable} -m ensurepip, or give the wheels with --wheels.",
                detail=said,
            )
        if any(sign in said for sign in _UNREACHABLE):
            return _unreachable(package, "the package index does not answer", said)
        errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
        return DependencyError(
            "EK833",
            f"pip finds no wheel of {package} for {self.platform}: {errors[-1] if errors else 'it does not say why'}",
            "Look whether pip's settings name the right index; -v shows all that pip said."
            if package.package != "numpy"
            else _NO_NUMPY,
            detail=said,
        )


def _unreachable(package: Wanted, reason: str, said: str = "") -> DependencyError:
    return DependencyError(
        "EK832",
        f"{package} cannot be fetched: {reason}.",
        "Fetch the wheels where there is a network (--fetch-only --wheels FOLDER), then use --wheels FOLDER here.",
        detail=said,
    )


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
