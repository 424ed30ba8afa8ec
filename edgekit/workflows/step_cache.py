"""What a finished step leaves on disk, and whether it still holds: found by what went into the step."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.documents import plain
from edgekit.findings import Finding, Level
from edgekit.versions import installed_versions
from edgekit.workflows.input_digests import DATA_ARGUMENTS, data_digest, digested
from edgekit.workflows.steps import Bound, Result

# 1 (2026): identity, files with digests, the verb's document, findings.
SCHEMA_VERSION = 1
_NAME = "step.json"
_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Kept:
    """A step's result as it was found, with how long it took when it was done; or why it has to be done."""

    result: Result | None
    seconds: float
    why: str


def identity(bound: Bound) -> dict[str, Any]:
    """Everything that decides a step's result: options, the digests of files and data, and versions."""
    options = {name: value for name, value in bound.arguments.items() if name not in DATA_ARGUMENTS}
    data = {name: value for name, value in bound.arguments.items() if name in DATA_ARGUMENTS}
    return {
        "do": bound.step.do,
        "options": {name: digested(name, value) for name, value in sorted(options.items())},
        "tflite": bound.step.tflite,
        "inputs": {name: files.sha256(path) for name, path in bound.models.items()},
        "data": {name: data_digest(str(spec)) for name, spec in sorted(data.items())},
        "versions": installed_versions(),
        "machine": platform.node() if bound.is_timed else None,
    }


def read(bound: Bound) -> Kept:
    """The kept result of a step, if nothing that it depends on has changed since."""
    try:
        document = json.loads(files.read_bytes(bound.folder / _NAME, most_bytes=_MOST_BYTES))
        if document["schema_version"] != SCHEMA_VERSION:
            return Kept(None, 0.0, "it was kept by another version of edgekit")
        changed = _changed(document["identity"], plain(identity(bound)))
        if changed:
            return Kept(None, 0.0, changed)
        for name, digest in document["digests"].items():
            path = bound.folder / Path(name).name
            if not path.is_file() or files.sha256(path) != digest:
                return Kept(None, 0.0, f"its file {path.name} is missing or was changed")
        result = Result(
            document["document"],
            tuple(Finding(**{**found, "level": Level(found["level"])}) for found in document["findings"]),
            {kind: Path(name).name for kind, name in document["files"].items()},
            tuple(document["measured"]),
            int(document["exit_code"]),
        )
        return Kept(result, float(document["seconds"]), "")
    except FileNotFoundError:
        return Kept(None, 0.0, "it was not done before")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Kept(None, 0.0, "what was kept of it is damaged")


def save(bound: Bound, result: Result, seconds: float) -> None:
    """Keep a finished step; written last, so that a step that was killed is not taken for done."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "identity": identity(bound),
        "digests": {name: files.sha256(bound.folder / name) for name in result.files.values()},
        "document": result.document,
        "findings": [finding.describe() for finding in result.findings],
        "files": result.files,
        "measured": result.measured,
        "exit_code": result.exit_code,
        "seconds": seconds,
    }
    files.write_bytes(bound.folder / _NAME, json.dumps(plain(document), indent=1, allow_nan=False).encode())


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What makes a kept result unfit, in words; empty where nothing does."""
    for part, words in _WORDS.items():
        if before[part] == now[part]:
            continue
        if isinstance(now[part], dict) and isinstance(before[part], dict):
            names = sorted(
                name for name in {*before[part], *now[part]} if before[part].get(name) != now[part].get(name)
            )
            return f"{words} {', '.join(names)} changed"
        return f"{words} changed"
    return ""


_WORDS = {
    "do": "what it does",
    "options": "options:",
    "tflite": "whether it exports a .tflite",
    "inputs": "the input",
    "data": "the data of",
    "versions": "the version of",
    "machine": "the machine",
}
