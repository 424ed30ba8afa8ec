"""What is in service in a folder of a device that this machine can see, checked without edgekit."""

import hashlib
import json
import os
from pathlib import Path

_MODEL = Path(__file__).parent.parent / "examples" / "digits" / "model.tflite"


def make_model(folder: Path, padding: int = 0, name: str = "model.tflite") -> Path:
    """A small model; bytes after the end, which no runtime reads, make it another one."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(_MODEL.read_bytes() + bytes(padding))
    return path


def served(folder: Path) -> Path | None:
    """The model file in service, once every file of its release was checked; None where there is none."""
    current = folder / "current"
    if not os.path.lexists(current):
        return None
    release = current.resolve(strict=True)
    assert release.parent == (folder / "releases").resolve()
    manifest = json.loads((release / "manifest.json").read_text(encoding="utf-8"))
    lines = []
    for file in manifest["files"]:
        content = (release / file["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        assert len(content) == file["size_bytes"]
        lines.append(f"{file['name']}\0{file['sha256']}\n")
    assert hashlib.sha256("".join(sorted(lines)).encode()).hexdigest() == release.name == manifest["release"]
    names = ["manifest.json", *(file["name"] for file in manifest["files"])]
    assert sorted(path.name for path in release.iterdir()) == sorted(names)
    return release / manifest["model"]


def digest_served(folder: Path) -> str | None:
    """The digest of the release in service."""
    model = served(folder)
    return None if model is None else model.parent.name


def residue(folder: Path) -> list[str]:
    """What no release consists of, besides the record and the last lock."""
    kept = {"current", "releases", "switch.json"}
    found = [path.name for path in folder.iterdir() if path.name not in kept and path.name[:5] != "lock."]
    return found + [path.name for path in (folder / "releases").iterdir() if path.name.startswith(".")]
