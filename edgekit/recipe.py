"""Recipes: which precision each layer gets, as named data.

A name decodes: ``static_wi8_ai8`` has static ranges, integer weights of 8 bits and integer activations of 8
bits; ``dynamic_wi4_afp32`` has 4-bit weights and activations that stay float32 in the file.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from edgekit.catalog import unknown
from edgekit.errors import UsageError


class Mode(StrEnum):
    """How weights and activations are stored and computed."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"  # weights stored as float16
    WEIGHT_ONLY = "weight_only"  # integer weights, expanded to float before they are used
    DYNAMIC = "dynamic"  # integer weights; activations quantized on the fly from their own range
    STATIC = "static"  # integer weights and activations, ranges from calibration data


@dataclass(frozen=True)
class Precision:
    """One way to store and compute a layer: ``Precision("static_wi8_ai8", Mode.STATIC, 8, 8)``."""

    name: str
    mode: Mode
    weight_bits: int
    activation_bits: int = 32


PRECISIONS: Mapping[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision("float32", Mode.FLOAT32, 32),
        Precision("float16", Mode.FLOAT16, 16),
        Precision("dynamic_wi8_afp32", Mode.DYNAMIC, 8),
        Precision("dynamic_wi4_afp32", Mode.DYNAMIC, 4),
        Precision("weight_only_wi8_afp32", Mode.WEIGHT_ONLY, 8),
        Precision("weight_only_wi4_afp32", Mode.WEIGHT_ONLY, 4),
        Precision("static_wi8_ai8", Mode.STATIC, 8, 8),
        Precision("static_wi8_ai16", Mode.STATIC, 8, 16),
        Precision("static_wi4_ai8", Mode.STATIC, 4, 8),
    )
}

ALIASES: Mapping[str, str] = {
    "fp16": "float16",
    "dynamic": "dynamic_wi8_afp32",
    "weight_only": "weight_only_wi8_afp32",
    "int8": "static_wi8_ai8",
    "int16x8": "static_wi8_ai16",
    "int4": "static_wi4_ai8",
}

_FLOAT32 = PRECISIONS["float32"]
_GRANULARITIES = ("per_channel", "per_tensor")


@dataclass(frozen=True)
class Rule:
    """The precision of some layers. Of several rules that match a layer the last one wins.

    ``layers`` is a regular expression searched in the names of a layer's output tensors (for ONNX also
    in the node's name); ``operators`` are operator names of the format, ``("CONV_2D",)`` or ``("Conv",)``,
    compared without regard to case; empty means any.
    """

    precision: Precision
    layers: str = ""
    operators: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            re.compile(self.layers)
        except re.error as error:
            raise UsageError(
                "EK903",
                f"{self.layers!r} is not a regular expression: {error}.",
                "Escape special characters with \\.",
            ) from error

    def matches(self, operator: str, names: Sequence[str]) -> bool:
        """Whether the rule speaks of an operator with these tensor or node names."""
        if self.operators and operator.upper() not in {name.upper() for name in self.operators}:
            return False
        return any(re.search(self.layers, name) for name in names)


@dataclass(frozen=True)
class Recipe:
    """A precision for the whole model, and rules for layers that differ.

    ``is_per_tensor``: integer weights have one scale for a tensor, and not one for each output channel.
    """

    name: str
    default: Precision
    rules: tuple[Rule, ...] = ()
    is_per_tensor: bool = False

    @classmethod
    def load(cls, name: str) -> Self:
        """A recipe by its name, its alias, or the path of a TOML file.

        Raises:
            UsageError: There is no such recipe (the nearest name is given), or the file is wrong.
        """
        if name.endswith(".toml"):
            return cls._from_toml(Path(name))
        return cls(ALIASES.get(name, name), _precision(name))

    @classmethod
    def _from_toml(cls, path: Path) -> Self:
        """Read ``schema = 1``, ``base``, ``granularity``, ``[[rules]]`` of ``layers``, ``operators``, ``precision``."""
        document = _read_toml(path)
        _check_keys(document, {"schema", "base", "granularity", "rules", "name"}, f"{path}")
        if document.get("schema") != 1:
            raise UsageError("EK904", f"{path} has no 'schema = 1'.", "Put schema = 1 in its first line.")
        rules = []
        for index, entry in enumerate(document.get("rules", [])):
            where = f"{path}, rule {index + 1}"
            _check_keys(entry, {"layers", "operators", "precision"}, where)
            if "precision" not in entry:
                raise UsageError("EK904", f"{where} has no precision.", f"Known: {', '.join(PRECISIONS)}.")
            rules.append(
                Rule(
                    _precision(entry["precision"]), entry.get("layers", ""), tuple(entry.get("operators", ()))
                )
            )
        base = _precision(document.get("base", "float32"))
        granularity = document.get("granularity", _GRANULARITIES[0])
        if granularity not in _GRANULARITIES:
            raise unknown(f"granularity in {path}", str(granularity), list(_GRANULARITIES))
        is_per_tensor = granularity == "per_tensor"
        return cls(document.get("name", path.stem), base, tuple(rules), is_per_tensor)

    def keeping_float(self, layers: Sequence[str]) -> Self:
        """This recipe with the layers whose names match one of the regular expressions left float32."""
        return replace(self, rules=(*self.rules, *(Rule(_FLOAT32, layer) for layer in layers)))

    def precision_of(self, operator: str, names: Sequence[str]) -> Precision:
        """The precision that a layer gets: ``precision_of("CONV_2D", ["model/conv1/Relu"])``."""
        for rule in reversed(self.rules):
            if rule.matches(operator, names):
                return rule.precision
        return self.default

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Every precision that the recipe may give to a layer."""
        return (self.default, *(rule.precision for rule in self.rules))

    @property
    def needs_calibration(self) -> bool:
        """Whether some layer has static ranges, which come from calibration data."""
        return any(precision.mode is Mode.STATIC for precision in self.precisions)

    def describe(self) -> dict[str, Any]:
        """The recipe as it stands in lineage documents."""
        rules = [
            {"layers": rule.layers, "operators": list(rule.operators), "precision": rule.precision.name}
            for rule in self.rules
        ]
        document = {"name": self.name, "base": self.default.name, "rules": rules}
        return document | ({"granularity": "per_tensor"} if self.is_per_tensor else {})


def recipe_names() -> list[str]:
    """The names of all built-in recipes, without the aliases."""
    return [name for name in PRECISIONS if name != "float32"]


def _precision(name: str) -> Precision:
    found = PRECISIONS.get(ALIASES.get(name, name))
    if found is None:
        raise unknown("recipe", name, [*PRECISIONS, *ALIASES])
    return found


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(
            "EK904", f"There is no file {path}.", f"Named recipes: {', '.join(recipe_names())}."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(
            "EK904", f"{path} is not readable as TOML: {error}.", "See `edgekit quantize --help`."
        ) from error


def _check_keys(document: Any, known: set[str], where: str) -> None:
    if not isinstance(document, dict):
        raise UsageError("EK904", f"{where} is not a table.", "Rules are written as [[rules]] tables.")
    for key in document:
        if key not in known:
            raise unknown(f"key in {where}", key, sorted(known))
