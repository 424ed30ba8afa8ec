"""What edgekit finds on this machine: packages and whether they load, processor, memory, free disk."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

import edgekit
from edgekit.errors import DependencyError
from edgekit.findings import Finding, Level

_IMPORT_DEADLINE_S = 120
_LITTLE_SPACE_BYTES = 1 << 30
# Modules that load what a package has of native code, where their name is not the package's.
_MODULES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "ai-edge-quantizer": "ai_edge_quantizer.quantizer",
    "pillow": "PIL.Image",
    "tflite-runtime": "tflite_runtime.interpreter",
}
# Instructions that decide how fast integer kernels are.
_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")
_IMPORT_EACH = """
import importlib, json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for module in sys.argv[1:]:
    try:
        importlib.import_module(module)
        problem = ""
    except BaseException as error:
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
    print(json.dumps([module, problem]), file=answers, flush=True)
"""


@dataclass(frozen=True)
class Package:
    """A package that edgekit can use, and how it stands with it.

    ``version`` is None where it is not installed; ``extra`` is empty for packages of the core;
    ``problem`` is empty where all is well; ``install`` is the line that installs or mends it.
    """

    name: str
    wanted: str
    version: str | None
    extra: str
    problem: str
    install: str


@dataclass(frozen=True)
class Processor:
    """The processor as the operating system describes it; ``usable_cores`` is what this process may use."""

    model: str
    architecture: str
    cores: int
    usable_cores: int
    features: tuple[str, ...]


@dataclass(frozen=True)
class Environment:
    """Everything that ``edgekit doctor`` shows."""

    edgekit_version: str
    python_version: str
    python_executable: str
    platform: str
    processor: Processor
    memory_bytes: int
    temporary_folder: str
    temporary_free_bytes: int
    working_free_bytes: int
    packages: tuple[Package, ...]

    def describe(self) -> dict[str, Any]:
        """The environment as it stands in JSON documents."""
        return asdict(self)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What needs the user's attention: broken packages, missing ones of the core, a disk nearly full."""
        found = [
            Finding("EK620", f"{package.name}: {package.problem}.", package.install, _level(package))
            for package in self.packages
            if package.problem and (package.version or not package.extra)
        ]
        if self.temporary_free_bytes < _LITTLE_SPACE_BYTES:
            text = f"Only {self.temporary_free_bytes >> 20} MiB are free in {self.temporary_folder}."
            found.append(
                Finding("EK621", text, "Free some space, or set TMPDIR to a folder on another disk.")
            )
        return tuple(found)


def doctor(*, imports: bool = True, progress: Callable[[int, int], None] | None = None) -> Environment:
    """Look at this machine and at the packages that edgekit can use.

    Args:
        imports: Import every installed package too, in processes of their own: it takes some seconds,
            and finds those that are installed but do not load.
        progress: Called with the number of packages imported so far, and that of all.

    Raises:
        DependencyError: edgekit itself was not installed, so that its requirements are unknown.
    """
    packages = _packages()
    if imports:
        packages = _with_import_problems(packages, progress or (lambda _done, _total: None))
    temporary = Path(tempfile.gettempdir())
    return Environment(
        edgekit_version=edgekit.__version__,
        python_version=platform.python_version(),
        python_executable=sys.executable,
        platform=platform.platform(),
        processor=_processor(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        temporary_folder=str(temporary),
        temporary_free_bytes=shutil.disk_usage(temporary).free,
        working_free_bytes=shutil.disk_usage(Path.cwd()).free,
        packages=packages,
    )


def _level(package: Package) -> Level:
    return Level.WARNING if package.extra else Level.ERROR


def _packages() -> tuple[Package, ...]:
    """What edgekit's own metadata requires, tools for its development left out."""
    try:
        lines = metadata.requires("edgekit") or []
    except metadata.PackageNotFoundError as error:
        raise DependencyError(
            "EK622", "edgekit runs from a folder and is not installed.", "pip install -e . in that folder."
        ) from error
    seen: dict[tuple[str, str], Package] = {}
    for line in lines:
        requirement = Requirement(line)
        extra = _extra(requirement)
        if extra != "dev" and not (extra and requirement.name == "numpy"):
            seen[requirement.name, extra] = _package(requirement, extra)
    return tuple(sorted(seen.values(), key=lambda package: (package.extra, package.name)))


def _extra(requirement: Requirement) -> str:
    found = re.search(r"""extra == ["']([\w-]+)["']""", str(requirement.marker or ""))
    return found[1] if found else ""


def _package(requirement: Requirement, extra: str) -> Package:
    install = (
        f'pip install "edgekit[{extra}]"'
        if extra
        else f'pip install --force-reinstall "{requirement.name}{requirement.specifier}"'
    )
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        version = None
    problem = ""
    if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
        problem, install = f"there is none for Python {platform.python_version()}", ""
    elif version is None:
        problem = "not installed"
    elif not requirement.specifier.contains(version, prereleases=True):
        problem = f"version {version} is installed, but {requirement.specifier} is needed"
    return Package(requirement.name, str(requirement.specifier), version, extra, problem, install)


def _with_import_problems(
    packages: Sequence[Package], progress: Callable[[int, int], None]
) -> tuple[Package, ...]:
    """Import the packages of the core in one process, and those of each extra in another."""
    checked: list[Package] = []
    for extra in dict.fromkeys(package.extra for package in packages):
        group = [package for package in packages if package.extra == extra]
        problems = _import_problems([_module(package) for package in group if package.version])
        for package in group:
            problem = package.problem or problems.get(_module(package), "")
            checked.append(Package(**(asdict(package) | {"problem": problem})))
        progress(len(checked), len(packages))
    return tuple(checked)


def _module(package: Package) -> str:
    return _MODULES.get(package.name, package.name.replace("-", "_"))


def _import_problems(modules: Sequence[str]) -> dict[str, str]:
    """Why each module cannot be imported, empty where it can, from a process that may crash."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _IMPORT_EACH, *modules],
            capture_output=True,
            text=True,
            timeout=_IMPORT_DEADLINE_S,
            check=False,
        )
        output, end = done.stdout, f"its import ends Python with status {done.returncode}"
    except subprocess.TimeoutExpired as error:
        partial = error.stdout or b""
        output = partial.decode() if isinstance(partial, bytes) else partial
        end = f"its import takes longer than {_IMPORT_DEADLINE_S} s"
    problems: dict[str, str] = dict(json.loads(line) for line in output.splitlines())
    # The first without an answer is the one that ended the process; those after it were not tried.
    unanswered = [module for module in modules if module not in problems]
    return problems | dict.fromkeys(unanswered[:1], end)


def _processor() -> Processor:
    facts = Path("/proc/cpuinfo")
    text = facts.read_text(errors="replace") if facts.is_file() else ""
    model = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    return Processor(
        model=model[1].strip() if model else platform.processor() or platform.machine(),
        architecture=platform.machine(),
        cores=os.cpu_count() or 1,
        usable_cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        features=tuple(feature for feature in _FEATURES if feature in present),
    )
