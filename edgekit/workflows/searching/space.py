"""The noun ``Space``: everything that a search may try, from a TOML file."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from edgekit import files
from edgekit.artifact import Format
from edgekit.catalog import unknown
from edgekit.errors import UsageError
from edgekit.recipe import ALIASES, PRECISIONS, Mode, Recipe, Rule, recipe_names
from edgekit.workflows.searching.configuration import KNOBS, SPARING, Configuration, check_knob, engines

_MOST_BYTES = 1 << 20
_HINT = "`edgekit search --help` shows a space."
DEFAULT_SPARED = 6


@dataclass(frozen=True)
class Space:
    """What may vary.

    ``recipes`` and ``engines`` are names, ``knobs`` has the values of each option of ``KNOBS``. Up to ``spared`` of the
    layers that a recipe harms most get one of the precisions ``spared_as`` instead; ``layers`` maps regular
    expressions to precisions of which each layer that matches gets one.
    """

    recipes: tuple[str, ...]
    engines: tuple[str, ...]
    knobs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    spared: int = 0
    spared_as: tuple[str, ...] = ()
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def usual(cls, source: Format, output: Format) -> Self:
        """What is searched where no file says it: all recipes that write this format, and every value of every knob."""
        by_recipe = {name: engines(source, output, name) for name in recipe_names()}
        recipes = tuple(name for name, able in by_recipe.items() if able)
        able = tuple(dict.fromkeys(name for names in by_recipe.values() for name in names))
        as_precisions = dict.fromkeys(precision for base in recipes for precision in sparing(base, output))
        return cls(
            recipes,
            able,
            {name: knob.values for name, knob in KNOBS.items() if len(knob.values) > 1},
            DEFAULT_SPARED,
            tuple(as_precisions),
        )

    @classmethod
    def read(cls, path: Path, source: Format, output: Format) -> Self:
        """Read a space; what the file does not name stays as usual.

        Raises:
            UsageError: There is no such file, it is no TOML, or a key or a value does not fit.
        """
        document = _document(path)
        _check_keys(document, ("schema", "choices", "spare", "layers"), path)
        if document.get("schema") != 1:
            raise UsageError("EK570", f"{path} has no 'schema = 1'.", "Put schema = 1 in its first line.")
        usual = cls.usual(source, output)
        choices, spare = (_table(document, name, path) for name in ("choices", "spare"))
        _check_keys(choices, ("recipe", "engine", *KNOBS), path)
        _check_keys(spare, ("layers", "as"), path)
        knobs = {
            name: tuple(check_knob(name, value) for value in _several(choices, name, path))
            for name in choices
            if name in KNOBS
        }
        recipes, chosen = usual.recipes, usual.engines
        if "recipe" in choices:
            recipes = tuple(_precision(name) for name in _several(choices, "recipe", path))
        if "engine" in choices:
            chosen = tuple(str(name).replace("-", "_") for name in _several(choices, "engine", path))
            for name in chosen:
                if name not in usual.engines:
                    raise unknown("engine for this model", name, list(usual.engines))
        return cls(
            recipes,
            chosen,
            knobs if choices else usual.knobs,
            _count(spare, path) if spare else 0,
            tuple(_precision(name) for name in _several(spare, "as", path))
            if "as" in spare
            else usual.spared_as,
            {
                _pattern(layers): tuple(
                    _precision(name) for name in _several(document["layers"], layers, path)
                )
                for layers in _table(document, "layers", path)
            },
        )

    def dimensions(self) -> dict[str, tuple[Any, ...]]:
        """Every dimension with its values: ``{"recipe": ("static_wi8_ai8", ...), "spared": (0, 1, 2)}``."""
        found: dict[str, tuple[Any, ...]] = {"recipe": self.recipes, "engine": self.engines, **self.knobs}
        if self.spared and self.spared_as:
            found |= {"spared": tuple(range(self.spared + 1)), "spared_as": self.spared_as}
        found |= {f"layers {layers}": precisions for layers, precisions in self.layers.items()}
        return {
            name: values for name, values in found.items() if len(values) > 1 or name in {"recipe", "engine"}
        }

    def configuration(
        self, point: Mapping[str, Any], source: Format, output: Format, ranking: Mapping[str, Sequence[str]]
    ) -> Configuration:
        """What a point of the space means.

        Args:
            point: A value for each of the ``dimensions``.
            source: The model's format.
            output: The format that is written.
            ranking: Layers by recipe, those first that lose most.
        """
        recipe = point["recipe"]
        able = engines(source, output, recipe)
        fixed = {name: values[0] for name, values in self.knobs.items() if len(values) == 1}
        knobs = fixed | {name: point[name] for name in self.knobs if name in point}
        rules = tuple(
            (layers, point.get(f"layers {layers}", precisions[0]))
            for layers, precisions in self.layers.items()
        )
        # An engine that cannot follow the recipe stands for the first that can: the same file is not made twice.
        chosen = point["engine"] if point["engine"] in able else next(iter(able), point["engine"])
        if rules and chosen == "tensorflow":
            chosen = next((name for name in able if name != "tensorflow"), chosen)
        made = Configuration(recipe, chosen, knobs, rules=rules)
        count, precision = point.get("spared", 0), point.get("spared_as", "")
        if precision not in sparing(recipe, output):
            precision = next(iter(sparing(recipe, output)), "")
        if count and precision and recipe in ranking:
            mixing = next((name for name in able if name != "tensorflow"), chosen)
            return Configuration(recipe, mixing, knobs, rules=rules).sparing(
                ranking[recipe][:count], precision
            )
        return made

    def without_calibration(self) -> "Space":
        """What is left where no samples calibrate.

        Raises:
            UsageError: Nothing is.
        """

        def needs_none(names: Sequence[str]) -> tuple[str, ...]:
            return tuple(name for name in names if PRECISIONS[name].mode is not Mode.STATIC)

        recipes = needs_none(self.recipes)
        if not recipes:
            raise UsageError(
                "EK908", "Every recipe of the space needs calibration data.", "Add --calibration DATA."
            )
        return replace(
            self,
            recipes=recipes,
            spared_as=needs_none(self.spared_as),
            layers={layers: kept for layers, names in self.layers.items() if (kept := needs_none(names))},
        )


def sparing(recipe: str, output: Format) -> tuple[str, ...]:
    """The precisions that layers of a recipe can be given instead, the cheapest first."""
    wanted = SPARING.get(recipe, ())
    # ONNX Runtime's quantizer mixes one precision with float32 only.
    return wanted if output is Format.TFLITE else tuple(name for name in wanted if name == "float32")


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(files.read_bytes(path, most_bytes=_MOST_BYTES).decode())
    except FileNotFoundError as error:
        raise UsageError("EK570", f"There is no file {path}.", _HINT) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError("EK570", f"{path} cannot be read as a space: {reason}.", _HINT) from error


def _table(document: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise UsageError("EK570", f"{name} is not a table in {path}.", f"Write it as [{name}].")
    return found


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], path: Path) -> None:
    for key in table:
        if key not in known:
            raise unknown(f"key in {path}", key, sorted(known))


def _several(table: Mapping[str, Any], name: str, path: Path) -> list[Any]:
    values = table[name]
    if not isinstance(values, list) or not values or len({str(value) for value in values}) < len(values):
        raise UsageError("EK570", f"{name} in {path} is no list of different values.", f"{name} = [...]")
    return values


def _count(spare: Mapping[str, Any], path: Path) -> int:
    count = spare.get("layers", DEFAULT_SPARED)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise UsageError("EK570", f"layers in [spare] of {path} is {count!r}.", "Give a number of layers.")
    return count


def _precision(name: Any) -> str:
    found = ALIASES.get(str(name), str(name))
    if found not in PRECISIONS:
        return Recipe.load(found).name  # raises, and names the nearest
    return found


def _pattern(layers: str) -> str:
    return Rule(PRECISIONS["float32"], layers).layers
