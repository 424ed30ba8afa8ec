"""The form of the JSON document that each command prints with ``--json``."""

import json
from pathlib import Path
from typing import Any

from edgekit.catalog import unknown

_FOLDER = Path(__file__).parent.parent / "schemas"
_ENVELOPE = "document"


def schema(command: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a command's document: ``schema("quantize")``.

    Raises:
        UsageError: There is no such command; the nearest one is named.
    """
    known = sorted(file.stem for file in _FOLDER.glob("*.json") if file.stem != _ENVELOPE)
    if command not in known:
        raise unknown("command", command, known)
    document, result = _read(_ENVELOPE), _read(command)
    definitions = result.pop("$defs", {})
    properties = document["properties"]
    properties["command"] = {"const": command}
    nothing = {"type": "object", "maxProperties": 0, "description": "Where there was an error."}
    properties["result"] = {"anyOf": [result, nothing]}
    return {
        "title": f"edgekit {command} --json",
        **document,
        **({"$defs": definitions} if definitions else {}),
    }


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return content
