"""Saved runs, read with care: a file may be cut short, of another version, or made by somebody else."""

import base64
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.baseline import Baseline
from edgekit.errors import DataError, UsageError
from edgekit.measurement import Record
from edgekit.pages.report import Section
from edgekit.verbs.schema import schema
from edgekit.workflows.comparison import KIND, SCHEMA_VERSION

_MOST_BYTES = 256 << 20
_MOST_DIGITS = 18
_PNG = "data:image/png;base64,"
_MOST_PIXELS = 96
_MOST_NS = 1e15  # twelve days


def read_run(path: Path) -> Section:
    """Read what a command saved: a comparison, a benchmark, a baseline, or any ``--json`` document.

    Raises:
        DataError: The file is missing, too large, damaged, no saved run, or of a newer edgekit.
    """
    document = _document(path)
    version, kind = document.get("schema_version"), document.get("kind")
    if type(version) is not int or version < 1:
        raise _no_run(path)
    if version > SCHEMA_VERSION:
        raise DataError(
            "EK452",
            f"{path} has schema version {version}; this edgekit reads up to {SCHEMA_VERSION}.",
            "Update edgekit.",
        )
    if kind == KIND:
        return as_section(document, path)
    if kind == "benchmark":
        return _benchmark(document, path)
    if kind == "baseline":
        summary = Baseline.read(path).summary()
        return _generic(path.name, "baseline", {**document, "result": summary, "findings": []})
    return _command(document, path)


def as_section(document: Mapping[str, Any], path: Path | None = None) -> Section:
    """A saved comparison as a section, once everything that the page relies on has been checked.

    Args:
        document: What ``Comparison.saved`` gives, or ``edgekit compare --json`` prints.
        path: Where it was found.

    Raises:
        DataError: It is damaged.
    """
    where = path or Path("the comparison")
    _check(document, "compare", where)
    result = document["result"]
    if "models" not in result or "dry_run" in result or not _fits_together(result):
        raise _damaged(where, "its parts do not belong together")
    names = [str(model["name"]) for model in result["models"]]
    others = names[1] if len(names) == 2 else f"{len(names) - 1} others"
    title = f"{names[0]} and {others}"
    return Section(f"{path.name}: {title}" if path else title, KIND, document, _latencies(document, where))


def _fits_together(result: Mapping[str, Any]) -> bool:
    """What a schema cannot say: every model but the first has a drop, and numbers of models exist."""
    models, count = result["models"], len(result["models"])
    names = {model["name"] for model in models}
    squares = [model["evaluation"]["confusion"] for model in models if model["evaluation"]["confusion"]]
    return (
        len(names) == count
        and models[0]["drop"] is None
        and all(model["drop"] is not None for model in models[1:])
        and all((model["drop"]["broken"] is None) == (model["drop"]["fixed"] is None) for model in models[1:])
        and all(len(row) == len(square) for square in squares for row in square)
        and all(
            len(sample["answers"]) == count and all(number < count for number in sample["wrong"])
            for sample in result["broken_samples"]
        )
        and all(_is_small_png(sample["picture"]) for sample in result["broken_samples"] if sample["picture"])
    )


def _is_small_png(url: str) -> bool:
    """Whether a data URL is a PNG whose header promises at most 96 by 96 pixels."""
    try:
        content = base64.b64decode(url.removeprefix(_PNG), validate=True)
        magic, _, chunk, width, height = struct.unpack(">8sI4sII", content[:24])
    except (ValueError, struct.error):
        return False
    is_png = url.startswith(_PNG) and magic == b"\x89PNG\r\n\x1a\n" and chunk == b"IHDR"
    return is_png and 0 < width <= _MOST_PIXELS and 0 < height <= _MOST_PIXELS


def _latencies(document: Mapping[str, Any], path: Path) -> dict[int, Sequence[float]]:
    """All latencies in ns by the number of the model; empty where they were not kept."""
    if document.get("benchmark") is None:
        return {}
    record = _record(document["benchmark"], path)
    measured = [number for number, model in enumerate(document["result"]["models"]) if model["benchmark"]]
    if len(measured) != len(record.models):
        raise _damaged(path, "its latencies are of other models")
    return {
        number: latency.values.tolist() for number, (_, latency) in zip(measured, record.models, strict=True)
    }


def _record(document: Any, path: Path) -> Record:
    try:
        record = Record.from_document(document, path)
        values = [value for _, latency in record.models for block in latency.blocks for value in block]
    except (TypeError, ValueError) as error:
        raise _damaged(path, "its latencies are no numbers") from error
    if not all(type(value) in {int, float} and 1 <= value <= _MOST_NS for value in values):
        raise _damaged(path, "its latencies are no numbers")
    return record


def _benchmark(document: Mapping[str, Any], path: Path) -> Section:
    from edgekit.measurement import latency_ms

    record = _record(document, path)
    models = [{**facts, "latency_ms": latency_ms(latency)} for facts, latency in record.models]
    result = {
        "device": record.device,
        "models": models,
        "before": record.before.describe(),
        "after": record.after.describe(),
    }
    # Records of old versions do not say when a block began.
    courses = [
        (
            number,
            Path(str(facts["model"])).name,
            list(zip(latency.starts_s, latency.block_medians.tolist(), strict=True))
            if latency.starts_s
            else [],
        )
        for number, (facts, latency) in enumerate(record.models)
    ]
    shown = {**document, "result": result, "findings": []}
    return Section(path.name, "benchmark", shown, courses=courses, profiles=_profiles(models, path))


def _profiles(models: Sequence[Mapping[str, Any]], path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """The times by operator of the models that have them.

    Raises:
        DataError: One is damaged.
    """
    import jsonschema

    rules = _open(schema("benchmark")["$defs"]["per_op"])
    found = [(Path(str(model.get("model", ""))).name, model.get("per_op")) for model in models]
    for _name, profile in found:
        if not jsonschema.Draft202012Validator(rules).is_valid(profile):
            raise _damaged(path, "its times by operator are no numbers")
    return [(name, profile) for name, profile in found if profile is not None]


def _command(document: Mapping[str, Any], path: Path) -> Section:
    """What a command printed with ``--json``."""
    command = document.get("command")
    if not isinstance(command, str):
        raise _no_run(path)
    try:
        _check(document, command, path)
    except UsageError as error:
        raise _no_run(path) from error
    result = document["result"]
    if command == "compare" and "models" in result and "dry_run" not in result:
        return as_section(document, path)
    shown = {**result, "error": document["error"]} if document["status"] == "error" else result
    section = _generic(f"{path.name}: edgekit {command}", command, {**document, "result": shown})
    models = result.get("models", [result]) if command == "benchmark" else []
    return replace(section, profiles=_profiles(models, path))


def _generic(title: str, kind: str, document: Mapping[str, Any]) -> Section:
    return Section(title, kind, document)


def _check(document: Mapping[str, Any], command: str, path: Path) -> None:
    """Hold a document against its schema; what a later edgekit may have added is let through.

    Raises:
        DataError: It does not fit.
        UsageError: There is no such command.
    """
    import jsonschema

    rules = _open(schema(command))
    if "kind" in document:  # a saved file has no command
        rules = {**rules, "required": ["schema_version", "edgekit_version", "findings", "result"]}
    validator = jsonschema.Draft202012Validator(rules)
    try:
        error = jsonschema.exceptions.best_match(validator.iter_errors(document))
    except RecursionError as deep:
        raise _damaged(path, "it is nested too deeply") from deep
    if error is not None:
        raise _damaged(path, f"{error.json_path} is not as its schema says ({error.validator})")


def _open(rules: Any) -> Any:
    """A schema without its ban on more properties than it names."""
    if isinstance(rules, dict):
        return {
            key: _open(value)
            for key, value in rules.items()
            if not (key == "additionalProperties" and value is False)
        }
    return [_open(item) for item in rules] if isinstance(rules, list) else rules


def _document(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError("EK451", f"{path} is larger than any saved run.", "Give a file of edgekit.")
        document = json.loads(
            path.read_bytes(), parse_constant=_refuse, parse_float=_finite, parse_int=_whole
        )
    except FileNotFoundError as error:
        raise DataError(
            "EK451", f"{path} does not exist.", "Make it: edgekit compare A B --data DATA --save RUN.json"
        ) from error
    except OSError as error:
        raise DataError("EK451", f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "it is no whole JSON document") from error
    if not isinstance(document, dict):
        raise _no_run(path)
    return document


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is infinite")
    return value


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError("a whole number of too many digits")
    return int(text)


def _no_run(path: Path) -> DataError:
    return DataError(
        "EK451",
        f"{path} is no saved run of edgekit.",
        "Give what edgekit compare --save, or --json of another command, wrote.",
    )


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        "EK453",
        f"{path} is damaged: {why}.",
        "Copy or save it once more; edgekit compare --save makes it anew.",
    )
