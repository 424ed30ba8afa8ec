"""Recipes of runs: a model, its data, and the steps that it goes through, as TOML."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from edgekit import files
from edgekit.catalog import unknown
from edgekit.errors import UsageError

SOURCE = "source"
# Steps that make a model out of a model; the others measure.
MAKERS = ("prune", "cluster", "distill", "qat", "quantize")
KINDS = (*MAKERS, "evaluate", "benchmark", "compare", "check")
DATA = ("train", "validation", "calibration", "test", "preprocess")

_MOST_BYTES = 1 << 20
_MOST_STEPS = 100
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_RESERVED = (SOURCE, "recipe", "data")
_HINT = "`edgekit run --help` shows a recipe."


@dataclass(frozen=True)
class StepRecipe:
    """One step: ``StepRecipe("qat", "qat", ("prune",), {"epochs": 5})``.

    ``inputs`` are the ids of earlier steps, or ``"source"`` for the recipe's model. ``tflite`` says whether a
    training exports its model too; ``options`` go to the verb as they are.
    """

    id: str
    do: str
    inputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    tflite: bool = False


@dataclass(frozen=True)
class RunRecipe:
    """A model, data by their roles, and steps in the order in which they are done.

    ``data`` maps ``train``, ``validation``, ``calibration``, ``test`` and ``preprocess`` to specs. Relative paths
    are resolved against the folder of the recipe's file.
    """

    path: Path
    name: str
    model: Path
    data: Mapping[str, str]
    steps: tuple[StepRecipe, ...]

    @classmethod
    def load(cls, path: Path, changes: Mapping[str, Any] | None = None) -> Self:
        """Read a recipe.

        Args:
            path: The TOML file.
            changes: Values that replace those of the file: ``{"qat.epochs": 5, "data.test": "test.npz"}``.

        Raises:
            UsageError: It cannot be read, or a key, a step's id or an input does not fit.
        """
        document = _document(path)
        _check_keys(document, ("recipe", "data", "step", "check"), str(path))
        head = _table(document, "recipe", path)
        _check_keys(head, ("schema", "name", "model"), f"[recipe] of {path}")
        tables = _step_tables(document, path)
        data = _table(document, "data", path)
        for name, value in (changes or {}).items():
            _change({"recipe": head, "data": data} | {_id_of(entry): entry for entry in tables}, name, value)
        if head.get("schema") != 1:
            raise UsageError("EK770", f"{path} has no 'schema = 1' under [recipe].", _HINT)
        _check_keys(data, DATA, f"[data] of {path}")
        for name, value in (*data.items(), ("model", head.get("model"))):
            if not isinstance(value, str):
                raise UsageError("EK770", f"{path}: {name} is {value!r}; it must be a path.", _HINT)
        folder = path.resolve().parent
        return cls(
            path=path,
            name=str(head.get("name", path.stem)),
            model=Path(beside(folder, head["model"])),
            data={name: beside(folder, value) for name, value in data.items()},
            steps=_steps(tables, path),
        )


def beside(folder: Path, text: str) -> str:
    """A path of a recipe, or ``FILE.py:function``, seen from its folder; other names stay as they are."""
    file, colon, function = text.rpartition(":")
    if colon and file.endswith(".py"):
        return f"{folder / file}:{function}"
    found = folder / text
    return str(found) if found.exists() or "/" in text or "." in text else text


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(files.read_bytes(path, most_bytes=_MOST_BYTES).decode())
    except FileNotFoundError as error:
        raise UsageError("EK770", f"There is no file {path}.", _HINT) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError("EK770", f"{path} cannot be read as a recipe: {reason}.", _HINT) from error


def _table(document: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise UsageError("EK770", f"{name} is not a table in {path}.", f"Write it as [{name}].")
    return dict(found)


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise unknown(f"key in {where}", key, sorted(known))


def _step_tables(document: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """Every ``[[step]]``; a table ``[check]`` is one more at the end."""
    entries = document.get("step", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError("EK770", f"The steps of {path} are no tables.", "Write each as [[step]].")
    tables = [dict(entry) for entry in entries]
    if "check" in document:
        tables.append({"do": "check", **_table(document, "check", path)})
    if not 0 < len(tables) <= _MOST_STEPS:
        raise UsageError("EK770", f"{path} has {len(tables)} steps; 1 to {_MOST_STEPS} can be done.", _HINT)
    return tables


def _id_of(entry: Mapping[str, Any]) -> str:
    return str(entry.get("id", entry.get("do", "")))


def _change(tables: Mapping[str, dict[str, Any]], name: str, value: Any) -> None:
    table, *inner = name.split(".")
    if not inner or not all(inner):
        raise UsageError("EK776", f"{name!r} does not say which step's option is meant.", "STEP.OPTION=VALUE")
    if table not in tables:
        raise unknown("step", table, sorted(tables))
    # A path of the command line is seen from where that is, not from the recipe.
    is_path = (
        table == "data" or name == "recipe.model" or name.partition(".")[2] in ("teacher", "teacher.model")
    )
    if is_path and isinstance(value, str) and Path(re.sub(r"(?<=\.py):\w+$", "", value)).exists():
        value = str(Path(value).absolute())
    target = tables[table]
    for part in inner[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise UsageError(
                "EK776", f"{part} of {table} has no {inner[-1]}: it is no table.", "STEP.OPTION=VALUE"
            )
    target[inner[-1]] = value


def _steps(tables: list[dict[str, Any]], path: Path) -> tuple[StepRecipe, ...]:
    steps: list[StepRecipe] = []
    for number, table in enumerate(tables, start=1):
        steps.append(_step(table, f"step {number} of {path}", steps))
    return tuple(steps)


def _step(table: dict[str, Any], where: str, earlier: list[StepRecipe]) -> StepRecipe:
    do = table.get("do")
    if not isinstance(do, str):
        raise UsageError("EK770", f"There is no 'do' in {where}.", f"Known: {', '.join(KINDS)}.")
    if do not in KINDS:
        raise unknown("step", do, list(KINDS))
    name = table.get("id", do)
    if not isinstance(name, str) or not _ID.fullmatch(name) or name in _RESERVED:
        text = f"The id {name!r} of {where} cannot be used."
        raise UsageError("EK772", text, "Use letters, digits, - and _; not source, recipe or data.")
    if any(step.id == name for step in earlier):
        text = f"Two steps are called {name!r}."
        raise UsageError("EK772", text, 'Give one of them an id of its own: id = "..."')
    tflite = table.get("tflite", do == "qat")
    if not isinstance(tflite, bool):
        raise UsageError("EK771", f"tflite is {tflite!r} in {where}; it must be true or false.")
    options = {key: value for key, value in table.items() if key not in {"do", "id", "input", "tflite"}}
    return StepRecipe(name, do, _inputs(table, do, where, earlier), options, tflite)


def _inputs(table: Mapping[str, Any], do: str, where: str, earlier: list[StepRecipe]) -> tuple[str, ...]:
    made = [SOURCE, *(step.id for step in earlier if step.do in MAKERS)]
    default = [SOURCE, made[-1]] if do == "compare" else [made[-1]]
    given = table.get("input", default)
    inputs = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not inputs:
        raise UsageError(
            "EK773", f"input is {given!r} in {where}; it must be a step's id, or a list of them."
        )
    for name in inputs:
        if name not in made:
            text = f"The input {name!r} of {where} is no model that an earlier step makes."
            raise UsageError("EK773", text, f"Known there: {', '.join(made)}.")
    if do in (*MAKERS, "check") and len(inputs) != 1:
        raise UsageError("EK773", f"{do} takes one model, and {where} gives {len(inputs)}.")
    return tuple(inputs)
