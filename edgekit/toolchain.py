"""Isolated environments of compilers and converters that cannot share edgekit's own.

Each is a virtual environment below the user's cache, made by an explicit command from requirements that are pinned with
hashes, and used as a process. A file ``complete.json``, which is written last, marks one that is whole.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from edgekit import files
from edgekit.catalog import unknown
from edgekit.errors import DependencyError

_FOLDER = Path(__file__).parent / "toolchains"
_MARK = "complete.json"
_INSTALL_S = 3600.0
_HEALTH_S = 120.0
_TAIL = 2000

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Toolchain:
    """A program of others with all that it imports: ``Toolchain.load("vela")``.

    ``requirements`` is a file for pip with a hash for every wheel, and nothing else is installed: it may leave out
    what a package asks for and does without. ``health`` is a command whose output holds ``expects`` where the
    environment works.
    """

    name: str
    description: str
    package: str
    version: str
    programs: tuple[str, ...]
    health: tuple[str, ...]
    expects: str
    needs_mb: int
    requirements: Path

    @classmethod
    def load(cls, name: str) -> Self:
        """A toolchain by name.

        Raises:
            UsageError: There is none; the nearest name is given.
        """
        if name not in names():
            raise unknown("toolchain", name, names())
        document: dict[str, Any] = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
        del document["schema"]
        lists = {key: tuple(value) for key, value in document.items() if isinstance(value, list)}
        return cls(name=name, requirements=_FOLDER / f"{name}.txt", **(document | lists))

    @property
    def folder(self) -> Path:
        """Where it is, or would be: other requirements or another Python have another folder."""
        import platformdirs

        digest = hashlib.sha256(self.requirements.read_bytes() + sys.version.encode()).hexdigest()
        return (
            platformdirs.user_cache_path("edgekit")
            / "toolchains"
            / f"{self.name}-{self.version}-{digest[:12]}"
        )

    @property
    def python(self) -> Path:
        """Its Python, which is there once it is installed."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Its packages, for a process of edgekit's environment that needs them beside its own.

        Raises:
            DependencyError: It is not installed.
        """
        self.require()
        base = str(self.folder)
        return Path(sysconfig.get_path("purelib", "venv", {"base": base, "installed_base": base}))

    @property
    def is_installed(self) -> bool:
        """Whether it is there and whole."""
        return (self.folder / _MARK).is_file()

    def install(self, say: Progress | None = None, *, options: Sequence[str] = ()) -> None:
        """Make the environment, or do nothing where it is there; what an interruption left is removed first.

        Args:
            say: Told what is being done.
            options: More options for pip, ``["--no-index", "--find-links", "wheels/"]``.

        Raises:
            DependencyError: pip cannot install it, or its health test fails.
            OutputError: The cache cannot be written.
        """
        tell = say or (lambda _text: None)
        folder = self.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.output_error(folder, error) from error
        with files.locked_folder(folder):
            if self.is_installed:
                return
            for leftover in folder.iterdir():
                shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink()
            try:
                tell(f"making an environment for {self.name} {self.version}")
                self._pip([sys.executable, "-m", "venv", str(folder)])
                tell(f"installing {self.package} {self.version} (about {self.needs_mb} MB)")
                pip = [
                    str(self.python),
                    "-m",
                    "pip",
                    "install",
                    "--no-input",
                    "--require-hashes",
                    # The list is whole, and may hold a build without CUDA in place of the one that is asked for.
                    "--no-deps",
                ]
                self._pip([*pip, *options, "-r", str(self.requirements)])
                tell(f"trying {' '.join(self.health)}")
                said = self.check()
                files.write_bytes(
                    folder / _MARK, json.dumps({"version": self.version, "said": said}).encode()
                )
            except BaseException:
                # ctrl-C included: half an environment is none.
                self.remove()
                raise

    def _pip(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_INSTALL_S, check=False
        )
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [""]
            raise DependencyError(
                "EK631",
                f"{self.name} {self.version} cannot be installed: "
                f"{errors[-1].removeprefix('ERROR: ').rstrip('.') or 'pip failed'}.",
                "It needs the network, or wheels of your own: --pip-option --find-links=FOLDER.",
                detail=done.stderr[-_TAIL:],
            )

    def check(self) -> str:
        """Run the health test; gives what it printed.

        Raises:
            DependencyError: It fails, or prints something else.
        """
        try:
            done = self._run(self.health, _HEALTH_S, None)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._ill(repr(error)) from error
        said = (done.stdout + done.stderr).strip()
        if done.returncode or self.expects not in said:
            raise self._ill(said)
        return said

    def _ill(self, detail: str) -> DependencyError:
        message = f"{self.name} does not work: {' '.join(self.health)} does not answer with {self.expects}."
        hint = (
            f"Install it anew: edgekit toolchain remove {self.name}; edgekit toolchain install {self.name}."
        )
        return DependencyError("EK632", message, hint, detail=detail[-_TAIL:])

    def run(
        self, command: Sequence[str], *, timeout_s: float, folder: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run one of its programs, ``run(["vela", "model.tflite"], timeout_s=600)``, or its Python.

        Raises:
            DependencyError: It is not installed.
            subprocess.TimeoutExpired: It takes longer.
        """
        self.require()
        return self._run(command, timeout_s, folder)

    def require(self) -> None:
        """Refuse to go on where it is not installed.

        Raises:
            DependencyError: It is not.
        """
        if not self.is_installed:
            message = f"The toolchain {self.name} is not installed."
            raise DependencyError("EK630", message, f"Install it: edgekit toolchain install {self.name}")

    def _run(
        self, command: Sequence[str], timeout_s: float, folder: Path | None
    ) -> "subprocess.CompletedProcess[str]":
        program, *arguments = command
        # Through the environment's Python: the first line of a script breaks where paths are long.
        script = [] if program == "python" else [str(self.folder / "bin" / program)]
        return subprocess.run(
            [str(self.python), "-P", *script, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            cwd=folder,
            check=False,
        )

    def remove(self) -> bool:
        """Remove the environment; gives whether there was one."""
        folder = self.folder
        if not folder.is_dir():
            return False
        # The mark first: an interruption leaves what the next install removes.
        (folder / _MARK).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        return True

    def describe(self) -> Mapping[str, Any]:
        """The toolchain as it stands in JSON documents."""
        return {
            "name": self.name,
            "description": self.description,
            "package": self.package,
            "version": self.version,
            "programs": list(self.programs),
            "installed": self.is_installed,
            "folder": str(self.folder),
            "size_bytes": files.size_bytes(self.folder) if self.is_installed else None,
        }


def names() -> list[str]:
    """Every toolchain that edgekit knows, sorted."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))
