"""The noun ``Configuration``: one way to quantize, as the options of ``edgekit quantize``; and which options vary."""

import hashlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, get_args

import edgekit
from edgekit.artifact import Format
from edgekit.catalog import names
from edgekit.engines import engine
from edgekit.errors import UsageError
from edgekit.plan import Effort, Equalize
from edgekit.recipe import PRECISIONS, Mode, Recipe, Rule

# More exact ways for the layers that a recipe harms most, the cheapest first.
SPARING: Mapping[str, tuple[str, ...]] = {
    "static_wi4_ai8": ("static_wi8_ai8", "float32"),
    "static_wi8_ai8": ("static_wi8_ai16", "float32"),
    "dynamic_wi4_afp32": ("dynamic_wi8_afp32", "float32"),
    "weight_only_wi4_afp32": ("weight_only_wi8_afp32", "float32"),
}


@dataclass(frozen=True)
class Knob:
    """An option of ``edgekit.quantize`` that a search may turn, by its name there.

    ``usual`` is what ``quantize`` does where nothing is said, ``values`` what is tried; the option changes nothing for
    recipes of other ``modes`` and with other ``engines``, and is left alone there, so that no file is made twice.
    """

    usual: Any
    values: tuple[Any, ...]
    modes: frozenset[Mode] = frozenset({Mode.STATIC})
    engines: frozenset[str] = frozenset({"ai_edge_quantizer"})

    def matters(self, recipe: str, engine_name: str) -> bool:
        """Whether the option changes anything."""
        return PRECISIONS[recipe].mode in self.modes and engine_name in self.engines


# The engines whose files are corrected.
_CORRECTED = frozenset({"ai_edge_quantizer", "onnxruntime"})
# A new option of `quantize` is searched as soon as it has a line here.
KNOBS: Mapping[str, Knob] = {
    "effort": Knob("low", get_args(Effort), engines=_CORRECTED),
    "ranges": Knob("auto", ("auto", "min-max", "percentile"), engines=_CORRECTED),
    "equalize": Knob("auto", get_args(Equalize), engines=_CORRECTED),
    "calibration_samples": Knob(
        None, (None,), engines=frozenset({"ai_edge_quantizer", "onnxruntime", "tensorflow"})
    ),
}


@dataclass(frozen=True)
class Configuration:
    """One way to quantize: ``Configuration("static_wi4_ai8", knobs={"effort": "medium"}, spared=("conv1",))``.

    ``spared`` are the names of layers that get the precision ``spared_as`` instead of the recipe's; ``rules`` are more
    of those, as pairs of a regular expression and a precision. ``knobs`` holds what is not as usual.
    """

    recipe: str
    engine: str = "ai_edge_quantizer"
    knobs: Mapping[str, Any] = field(default_factory=dict)
    spared: tuple[str, ...] = ()
    spared_as: str = ""
    rules: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """What ``describe`` gave."""
        given = dict(document)
        given.pop("name", None)
        rules = tuple((str(layers), str(precision)) for layers, precision in given.pop("rules"))
        return cls(**{**given, "spared": tuple(given["spared"]), "rules": rules})

    def __post_init__(self) -> None:
        kept = {
            name: value
            for name, value in sorted(self.knobs.items())
            if KNOBS[name].matters(self.recipe, self.engine) and value != KNOBS[name].usual
        }
        object.__setattr__(self, "knobs", kept)
        if not self.spared:
            object.__setattr__(self, "spared_as", "")
        # A rule that gives a layer what it has anyway is none.
        rules = tuple(rule for rule in self.rules if rule[1] != self.recipe)
        object.__setattr__(self, "rules", rules)

    @property
    def recipe_with_rules(self) -> Recipe:
        """The recipe as ``edgekit.quantize`` takes it."""
        base = PRECISIONS[self.recipe]
        rules = [Rule(PRECISIONS[precision], layers) for layers, precision in self.rules]
        # An engine may put a semicolon behind a name.
        rules += [Rule(PRECISIONS[self.spared_as], f"^{re.escape(name)}(;|$)") for name in self.spared]
        return Recipe(self.recipe, base, tuple(rules))

    @property
    def name(self) -> str:
        """What tables call it: ``static_wi4_ai8, effort medium, 3 layers static_wi8_ai8``."""
        words = [self.recipe]
        if self.engine not in {"ai_edge_quantizer", "onnxruntime"}:
            words.append(self.engine)
        words += [f"{name.replace('_', ' ')} {value}" for name, value in self.knobs.items()]
        if self.spared:
            words.append(f"{len(self.spared)} layer{'s' * (len(self.spared) > 1)} {self.spared_as}")
        words += [f"{layers} {precision}" for layers, precision in self.rules]
        return ", ".join(words)

    def arguments(self) -> dict[str, Any]:
        """The options for ``edgekit.quantize``."""
        return {"recipe": self.recipe_with_rules, "engine": self.engine, **self.knobs}

    def with_knob(self, name: str, value: Any) -> "Configuration":
        """The same with one option set otherwise."""
        return replace(self, knobs={**self.knobs, name: value})

    def sparing(self, layers: Sequence[str], precision: str) -> "Configuration":
        """The same with some layers in a more exact precision."""
        return replace(self, spared=tuple(sorted(layers)), spared_as=precision)

    def describe(self) -> dict[str, Any]:
        """The configuration as it stands in JSON documents."""
        return {
            "name": self.name,
            "recipe": self.recipe,
            "engine": self.engine,
            "knobs": dict(self.knobs),
            "spared": list(self.spared),
            "spared_as": self.spared_as,
            "rules": [list(rule) for rule in self.rules],
        }

    def toml(self) -> str:
        """The recipe with its rules, as ``edgekit quantize --recipe FILE.toml`` reads it."""
        import tomli_w

        recipe = self.recipe_with_rules
        rules = [{"layers": rule.layers, "precision": rule.precision.name} for rule in recipe.rules]
        return tomli_w.dumps({"schema": 1, "name": recipe.name, "base": recipe.default.name, "rules": rules})

    def digest(self, *others: Any) -> str:
        """What a trial of it goes by, beside everything else that decides its result."""
        content = json.dumps([self.describe(), *others], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    def command(self, model: Path, recipe: Path, *words: str) -> list[str]:
        """The words of the command that makes the same file, with the recipe's rules in a TOML file."""
        options = [text for name, value in self.knobs.items() for text in (_option(name), str(value))]
        return [
            "edgekit", "quantize", str(model), *words, "-r", str(recipe) if self.has_rules else self.recipe,
            "--engine", self.engine.replace("_", "-"), *options,
        ]  # fmt: skip

    @property
    def has_rules(self) -> bool:
        """Whether some layers differ from the recipe."""
        return bool(self.spared or self.rules)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def engines(source: Format, output: Format, recipe: str) -> tuple[str, ...]:
    """The engines that make files of this format by a recipe without rules."""
    found = []
    for name in names("engines"):
        module = engine(name)
        if module.OUTPUT_FORMAT is output and not module.refuses(Recipe.load(recipe)):
            direct = source in module.SOURCE_FORMATS
            if direct or name != "tensorflow":
                found.append(name)
    return tuple(found)


def check_knob(name: str, value: Any) -> Any:
    """A value that a search may give to a knob.

    Raises:
        UsageError: The option has no such value, or ``edgekit.quantize`` has no such option.
    """
    knob = KNOBS[name]
    if name not in inspect.signature(edgekit.quantize).parameters:
        raise UsageError("EK570", f"`edgekit quantize` has no option {name}.", f"Known: {', '.join(KNOBS)}.")
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if value not in knob.values and not (name == "calibration_samples" and is_count):
        known = ", ".join(str(one) for one in knob.values if one is not None)
        raise UsageError(
            "EK570", f"{value!r} is no value of {name}.", f"Known: {known or 'whole numbers above 0'}."
        )
    return value
