"""Whether a value of a TOML file is of the type that a function's argument asks for."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
}


def fits(value: Any, wanted: Any) -> bool:
    """Whether a value fits an annotation: ``fits(8, Literal[4, 8])``."""
    if wanted is Any:
        return True
    origin = get_origin(wanted)
    if origin in {Union, types.UnionType}:
        return any(fits(value, part) for part in get_args(wanted))
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(wanted))
    if origin is not None:
        return _fits_inside(value, origin, get_args(wanted))
    if isinstance(value, bool):
        return wanted is bool
    if wanted is float:
        return isinstance(value, (int, float))
    if wanted is Path:
        return isinstance(value, str)
    if is_dataclass(wanted) and isinstance(value, dict):
        known = {item.name: item.type for item in fields(wanted)}
        required = {
            item.name
            for item in fields(wanted)
            if item.default is MISSING and item.default_factory is MISSING
        }
        return required <= value.keys() <= known.keys()
    return isinstance(wanted, type) and isinstance(value, wanted)


def in_words(wanted: Any) -> str:
    """What an annotation asks for: ``"4 or 8"``, ``"a whole number"``."""
    if get_origin(wanted) in {Union, types.UnionType}:
        return " or ".join(
            dict.fromkeys(in_words(part) for part in get_args(wanted) if part is not type(None))
        )
    if get_origin(wanted) is Literal:
        return " or ".join(repr(choice) for choice in get_args(wanted))
    origin = get_origin(wanted)
    if origin is not None:
        return "a table" if issubclass(origin, Mapping) else "a list"
    return _WORDS.get(wanted, f"a {getattr(wanted, '__name__', 'value')}")


def made(value: Any, wanted: Any) -> Any:
    """A table as the dataclass that an annotation asks for; other values as they are."""
    if not isinstance(value, dict):
        return value
    for choice in get_args(wanted) or (wanted,):
        if isinstance(choice, type) and is_dataclass(choice) and fits(value, choice):
            return choice(**value)
    return value


def _fits_inside(value: Any, origin: type, parts: tuple[Any, ...]) -> bool:
    if issubclass(origin, Mapping):
        return isinstance(value, dict)
    if not issubclass(origin, Sequence) or not isinstance(value, list):
        return False
    inner = [part for part in parts if part is not Ellipsis]
    return not inner or all(fits(item, inner[0]) for item in value)
