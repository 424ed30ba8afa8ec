"""The noun `Release`: a model as it goes to a device, with all that belongs to it and a digest over that."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.errors import ModelError

MANIFEST = "manifest.json"
PREPROCESSING = "preprocessing.json"

DIGEST = re.compile(r"[0-9a-f]{64}")
_SCHEMA_VERSION = 1
_MOST_FILES = 64
# A name that every file system takes, with room for what an upload adds to it.
_MOST_NAME_BYTES = 200


@dataclass(frozen=True)
class ReleaseFile:
    """One file of a release; ``name`` has no slash."""

    name: str
    size_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not is_plain_name(self.name) or self.size_bytes < 0 or not DIGEST.fullmatch(self.sha256):
            raise ValueError(f"no file of a release: {self!r}")

    def describe(self) -> dict[str, Any]:
        """The file as it stands in the manifest."""
        return {"name": self.name, "size_bytes": self.size_bytes, "sha256": self.sha256}


@dataclass(frozen=True)
class Release:
    """What is deployed: the file ``model``, and what lies beside it.

    Equal files under equal names are the same release, whoever deploys them and when.
    """

    model: str
    format: str
    files: tuple[ReleaseFile, ...]

    @property
    def digest(self) -> str:
        """sha256 over the sorted names and digests of the files."""
        lines = "".join(
            f"{file.name}\0{file.sha256}\n" for file in sorted(self.files, key=lambda file: file.name)
        )
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size_bytes for file in self.files)

    def manifest(self, edgekit_version: str) -> bytes:
        """What ``manifest.json`` on the device says."""
        document = {
            "schema_version": _SCHEMA_VERSION,
            "release": self.digest,
            "model": self.model,
            "format": self.format,
            "files": [file.describe() for file in self.files],
            "edgekit_version": edgekit_version,
        }
        return json.dumps(document, indent=2).encode() + b"\n"


def read_manifest(content: bytes, digest: str) -> Release:
    """The release that a manifest describes.

    Args:
        content: What was read from a device: anybody may have written it.
        digest: The release that it claims to be.

    Raises:
        ValueError: It is no manifest, or one of another release.
    """
    document: Any = json.loads(content)
    if not isinstance(document, Mapping) or document.get("schema_version") != _SCHEMA_VERSION:
        raise ValueError("not a manifest of this version")
    files = document.get("files")
    if not isinstance(files, list) or not 0 < len(files) <= _MOST_FILES:
        raise ValueError("the manifest lists no files")
    release = Release(str(document.get("model")), printable(document.get("format")), tuple(map(_file, files)))
    names = [file.name for file in release.files]
    if len(set(names)) != len(names) or MANIFEST in names or release.model not in names:
        raise ValueError("the manifest's names do not fit together")
    if release.digest != digest:
        raise ValueError("the manifest is that of another release")
    return release


def printable(text: object) -> str:
    """A text that somebody wrote on a device, fit for a terminal: short, and without control characters."""
    return "".join(filter(str.isprintable, str(text)))[:_MOST_NAME_BYTES]


def is_plain_name(name: str) -> bool:
    """Whether a file of that name may lie in a release: one visible name, printable, not too long."""
    return (
        name.isprintable()
        and not name.startswith(".")
        and "/" not in name
        and 0 < len(name.encode()) <= _MOST_NAME_BYTES
    )


def check_model_name(name: str) -> None:
    """Refuse a model whose name would not survive the way to a device.

    Raises:
        ModelError: It is hidden, too long, has control characters or is a name that edgekit uses itself.
    """
    if not is_plain_name(name) or name in {MANIFEST, PREPROCESSING}:
        raise ModelError(
            "EK840",
            f"A model named {name!r} cannot be deployed.",
            f"Rename it: no leading dot, at most {_MOST_NAME_BYTES} bytes, neither {MANIFEST} nor {PREPROCESSING}.",
        )


def _file(entry: Any) -> ReleaseFile:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("size_bytes"), int):
        raise ValueError("a file of the manifest has no size")
    return ReleaseFile(str(entry.get("name")), entry["size_bytes"], str(entry.get("sha256")))
