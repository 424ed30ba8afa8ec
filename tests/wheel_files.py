"""Wheels for tests: small ones made on the spot, those of packages that are installed here, and fetched ones."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest

from edgekit.devices.wheels import Platform, Wheels, wanted
from edgekit.errors import DependencyError

# Where the lab keeps what it fetched.
CACHE = Path(os.environ.get("EDGEKIT_LAB_CACHE", Path.home() / ".cache" / "edgekit-lab")) / "wheels"
PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"


def write_wheel(folder: Path, name: str, files: Mapping[str, str | bytes]) -> Path:
    """A wheel of that file name, with what its metadata must have and some files."""
    package, version = name.split("-")[:2]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{package}-{version}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: {version}\n",
        )
        archive.writestr(f"{package}-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        archive.writestr(f"{package}-{version}.dist-info/RECORD", "")
        for file, content in files.items():
            archive.writestr(file, content)
    return path


def installed_wheel(package: str, folder: Path) -> Path:
    """The wheel that an installed package came from, put together again: real code without a network."""
    distribution = metadata.distribution(package)
    tag = next(line for line in distribution.read_text("WHEEL").splitlines() if line.startswith("Tag: "))
    name = package.replace("-", "_")
    path = folder / f"{name}-{distribution.version}-{tag.removeprefix('Tag: ')}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in distribution.files or []:
            if ".." not in file.parts and "__pycache__" not in file.parts and file.locate().is_file():
                archive.write(file.locate(), str(file))
    return path


def fetched(runtime: str, platform: Platform) -> Path:
    """The lab's folder of wheels, with those of a runtime for a platform in it; skips the test without a network."""
    try:
        Wheels(CACHE, platform).fetch(wanted(runtime, platform))
    except DependencyError as error:
        pytest.skip(f"no wheels of {runtime} for {platform}: {error}")
    return CACHE


def bare_python(folder: Path) -> Path:
    """A Python that finds none of the packages installed beside it: what a fresh device has."""
    path = folder / "python"
    base = sys._base_executable or sys.executable
    path.write_text(f'#!/bin/sh\nexec "{base}" -S "$@"\n')
    path.chmod(0o755)
    # The packages of the environment that tests run in must not shine through.
    assert subprocess.run([path, "-c", "import numpy"], capture_output=True, check=False).returncode
    return path
