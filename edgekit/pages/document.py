"""Any JSON document as headings, facts and tables: for runs that have no section of their own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MOST_ROWS = 100
_MOST_COLUMNS = 12
_MOST_DEPTH = 6
_MOST_TEXT = 500
_UNKNOWN = "\N{EN DASH}"


@dataclass(frozen=True)
class Block:
    """A part of a document: facts as (name, text), or a table; ``path`` says where it stands."""

    path: str
    facts: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    left_out: int = 0


def blocks(document: Mapping[str, Any], path: str = "", depth: int = 0) -> Iterator[Block]:
    """A document's plain values first, then its tables and inner documents, each under its path.

    Args:
        document: What a command found.
        path: Where it stands in the whole: ``"conditions, before"``.
        depth: How deep that is; what lies too deep is left out.
    """
    facts = tuple(
        (_words(key), _shown(key, value))
        for key, value in document.items()
        if _is_plain(value) and value != ""
    )
    if facts:
        yield Block(path, facts)
    for key, value in document.items():
        inner = f"{path}, {_words(key)}" if path else _words(key)
        if isinstance(value, Mapping) and depth < _MOST_DEPTH:
            yield from blocks(value, inner, depth + 1)
        elif isinstance(value, list) and not _is_plain(value):
            yield from _listed(value, inner, depth)


def _listed(items: Sequence[Any], path: str, depth: int) -> Iterator[Block]:
    if not all(isinstance(item, Mapping) for item in items):
        return  # a matrix of numbers
    flat = all(_is_plain(value) for item in items for value in item.values())
    if not flat and len(items) <= _MOST_COLUMNS and depth < _MOST_DEPTH:
        for number, item in enumerate(items, 1):
            yield from blocks(item, f"{path} {number}", depth + 1)
        return
    columns = list(dict.fromkeys(key for item in items for key in item))[:_MOST_COLUMNS]
    rows = tuple(tuple(_shown(key, item.get(key)) for key in columns) for item in items[:_MOST_ROWS])
    yield Block(path, (), tuple(map(_words, columns)), rows, max(0, len(items) - _MOST_ROWS))


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= _MOST_COLUMNS and all(not isinstance(item, (list, Mapping)) for item in value)
    return not isinstance(value, Mapping)


def text(value: Any) -> str:
    """A value for people: four digits, thousands apart, lists with commas."""
    if value is None:
        return _UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return "\N{HORIZONTAL ELLIPSIS}"
    if isinstance(value, list):
        return ", ".join(map(text, value))
    shown = str(value)
    return shown if len(shown) <= _MOST_TEXT else shown[:_MOST_TEXT] + "\N{HORIZONTAL ELLIPSIS}"


def _shown(key: str, value: Any) -> str:
    """A value under its name: intervals as ``0.855 to 0.911``."""
    if "ci95" in key and isinstance(value, list):
        return " to ".join(map(text, value))
    return text(value)


def _words(key: str) -> str:
    """``first_inference_ms`` as ``first inference ms``."""
    return key.replace("ci95", "95%_interval").replace("_", " ")
