"""Target profiles: what a device takes, each fact with where it is from and when it was looked up."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

from edgekit.catalog import data_file, unknown
from edgekit.errors import UsageError
from edgekit.recipe import PRECISIONS, Recipe

Accelerator = Literal["xnnpack", "webgpu", "ethos_u", "edgetpu", "htp", "rknn", "openvino", "core_ml", "tflm"]
ACCELERATORS = get_args(Accelerator)

_MOST_BYTES = 1 << 20
_DATE = re.compile(r"20\d\d-[01]\d-[0-3]\d")
_IO = ("float32", "int8", "uint8")
_GRANULARITIES = ("per_channel", "per_tensor")
_TEXTS = ("description", "accelerator", "untested")
FACTS = ("processor", "formats", "runtimes", "delegates", "dtypes", "granularity", "recipe", "io")


@dataclass(frozen=True)
class Fact:
    """Something known of a target: a value or several, the address that says so, and the day it was looked up."""

    values: tuple[Any, ...]
    source: str
    date: str
    note: str = ""

    @classmethod
    def of(cls, document: Any, where: str) -> Self:
        """Read ``{value = 8192, source = "https://...", date = "2026-11-29", note = "..."}``.

        Raises:
            UsageError: A key is missing or unknown, or has a value that makes no sense.
        """
        if not isinstance(document, dict):
            raise _wrong(where, "is no table with value, source and date")
        _check_keys(document, {"value", "values", "source", "date", "note"}, where)
        if ("value" in document) == ("values" in document):
            raise _wrong(where, "needs either value or values")
        given = document["values"] if "values" in document else [document["value"]]
        if not isinstance(given, list) or not all(isinstance(value, (str, int, float)) for value in given):
            raise _wrong(where, "has values that are neither texts nor numbers")
        source, date, note = (document.get(key, "") for key in ("source", "date", "note"))
        if not (isinstance(source, str) and source.startswith("https://")):
            raise _wrong(where, "needs a source, an address that begins with https://")
        if not (isinstance(date, str) and _DATE.fullmatch(date)):
            raise _wrong(where, "needs the date on which its source was looked up, as 2026-11-29")
        if not isinstance(note, str):
            raise _wrong(where, "has a note that is no text")
        return cls(tuple(given), source, date, note)

    def describe(self) -> dict[str, Any]:
        """The fact as it stands in JSON documents."""
        return {"values": list(self.values), "source": self.source, "date": self.date, "note": self.note}


@dataclass(frozen=True)
class Target:
    """A kind of device, and what edgekit knows about it.

    ``accelerator`` names the rules that say which operators run fast there. ``recipe`` is what `quantize` uses where
    none is given, with its reason in the note; ``io`` the type of inputs and outputs in integer files. ``limits`` are
    numbers with units in their names, ``{"ram_bytes": Fact((262144,), ...)}``. ``untested`` says in so many words what
    no test of edgekit could try.
    """

    name: str
    description: str
    accelerator: str
    untested: str
    processor: Fact
    formats: Fact
    runtimes: Fact
    delegates: Fact
    dtypes: Fact
    granularity: Fact
    recipe: Fact
    io: Fact
    limits: Mapping[str, Fact] = field(default_factory=dict)
    compiler: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str) -> Self:
        """A profile by its path or name: in ``./targets/``, then among those of edgekit.

        Raises:
            UsageError: There is none (the nearest name is given), or it is wrong.
        """
        return cls.read(data_file("targets", name))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a profile.

        Raises:
            UsageError: It is no TOML, a key is missing or unknown, or a fact makes no sense.
        """
        document = _read_toml(path)
        where = str(path)
        _check_keys(document, {"schema", *_TEXTS, *FACTS, "limits", "compiler"}, where)
        if document.get("schema") != 1:
            raise _wrong(where, "needs schema = 1")
        for key in _TEXTS:
            if not (isinstance(document.get(key), str) and document[key]):
                raise _wrong(where, f"needs the text {key}")
        missing = [key for key in FACTS if key not in document]
        if missing:
            raise _wrong(where, f"says nothing of {', '.join(missing)}")
        facts = {key: Fact.of(document[key], f"{key} of {where}") for key in FACTS}
        _check_facts(facts, document["accelerator"], where)
        limits = {
            key: _limit(key, entry, f"limits.{key} of {where}")
            for key, entry in document.get("limits", {}).items()
        }
        compiler = document.get("compiler", {})
        if not all(isinstance(value, str) for value in compiler.values()):
            raise _wrong(where, "has options of a compiler that are no texts")
        said: dict[str, Any] = {key: document[key] for key in _TEXTS} | facts
        return cls(name=path.stem, **said, limits=limits, compiler=compiler)

    @property
    def default_recipe(self) -> Recipe:
        """What `quantize` uses where no recipe is given."""
        return Recipe.load(str(self.recipe.values[0]))

    def describe(self) -> dict[str, Any]:
        """The profile as it stands in JSON documents."""
        return {
            "name": self.name,
            **{key: getattr(self, key) for key in _TEXTS},
            **{key: getattr(self, key).describe() for key in FACTS},
            "limits": {key: fact.describe() for key, fact in self.limits.items()},
            "compiler": dict(self.compiler),
        }


def _check_facts(facts: Mapping[str, Fact], accelerator: str, where: str) -> None:
    """Refuse names that edgekit does not know."""
    known = {
        "formats": ("tflite", "onnx"),
        "granularity": _GRANULARITIES,
        "recipe": tuple(PRECISIONS),
        "io": _IO,
    }
    for key, names in known.items():
        for value in facts[key].values:
            if value not in names:
                raise unknown(f"value of {key} in {where}", str(value), list(names))
    if accelerator not in ACCELERATORS:
        raise unknown(f"accelerator in {where}", accelerator, list(ACCELERATORS))
    if not facts["recipe"].note:
        raise _wrong(where, "needs a note with the reason for its recipe")


def _limit(key: str, document: Any, where: str) -> Fact:
    fact = Fact.of(document, where)
    if not (len(fact.values) == 1 and isinstance(fact.values[0], (int, float)) and fact.values[0] > 0):
        raise _wrong(where, "needs one number above 0")
    if not key.endswith(("_bytes", "_count")):
        raise _wrong(where, "needs a name that ends with its unit, _bytes or _count")
    return fact


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _wrong(str(path), "is larger than any profile")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _wrong(str(path), f"cannot be read: {error}") from error


def _check_keys(document: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in document:
        if key not in known:
            raise unknown(f"key in {where}", key, sorted(known))


def _wrong(where: str, what: str) -> UsageError:
    return UsageError(
        "EK913", f"{where} {what}.", "`edgekit targets show linux-x86-64` shows a profile that is right."
    )
