"""HTML pages that need no network and no other file: made from JSON documents alone."""

import base64
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_MINUS = "\N{MINUS SIGN}"
_UNKNOWN = "\N{EN DASH}"


def render(
    template: str,
    *,
    is_scripted: bool = False,
    filters: Mapping[str, Callable[..., str]] | None = None,
    **values: Any,
) -> str:
    """A page as HTML.

    Args:
        template: One that fills the blocks of ``page.html``.
        is_scripted: Whether tables can be sorted and samples filtered.
        filters: What this page has besides the filters that all share.
        values: What the template names.
    """
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {
        "kilobytes": kilobytes,
        "percent": percent,
        "points": points,
        "milliseconds": milliseconds,
        "series": series,
        "value_in": value_in,
        "drop_in": drop_in,
        **(filters or {}),
    }
    style, script = _text("style.css"), _text("page.js") if is_scripted else ""
    return made.get_template(template).render(
        style=style, script=script, policy=_policy(style, script), **values
    )


def kilobytes(size_bytes: float) -> str:
    """Thousands of bytes: ``23.2``."""
    return f"{size_bytes / 1000:,.1f}"


def percent(share: float | None) -> str:
    """A share of 1 as ``98.50%``."""
    return _UNKNOWN if share is None else f"{100 * share:.2f}%"


def points(share: float | None) -> str:
    """A difference of shares as points of a hundred: ``+0.17``."""
    return _UNKNOWN if share is None else f"{100 * share:+.2f}".replace("-", _MINUS)


def milliseconds(value: float) -> str:
    """Three significant digits without an exponent: ``0.00852``, ``12.3``."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(0, digits)}f}"


def decibels(value: float | None, *, infinite: str) -> str:
    """An SNR: ``31.2``; ``infinite`` is the word for one without any noise."""
    if value is None or value == float("inf"):
        return infinite
    return f"{value:.1f}".replace("-", _MINUS)


def is_finite(value: float | None) -> bool:
    """Whether a plot can show it."""
    return value is not None and not math.isinf(value)


def value_in(value: float | None, unit: str) -> str:
    """A metric's value in its unit: ``98.50%``, ``31.20 dB``, ``0.0123``."""
    if value is None:
        return _UNKNOWN
    if unit == "fraction":
        return percent(value)
    return f"{value:.2f} dB" if unit == "dB" else f"{value:.4g}"


def drop_in(drop: float | None, unit: str) -> str:
    """A drop in its unit, fractions as points: ``+0.17``."""
    if drop is None:
        return _UNKNOWN
    if unit == "fraction":
        return points(drop)
    return (f"{drop:+.2f}" if unit == "dB" else f"{drop:+.4g}").replace("-", _MINUS)


def series(number: int) -> str:
    """The class of a model's colour; there are eight, and names always stand beside them."""
    return f"series-{number % 8}"


def unique_names(paths: Sequence[str]) -> list[str]:
    """One name per model, as short as tells them apart: ``a/m.tflite``, ``b/m.tflite`` and ``c.tflite``.

    >>> unique_names(["x/a/m.tflite", "x/b/m.tflite", "c.tflite", "c.tflite"])
    ['a/m.tflite', 'b/m.tflite', 'c.tflite', 'c.tflite (2)']
    """
    parts = [Path(path).parts for path in paths]
    found: list[str] = []
    for own in parts:
        others = [other for other in parts if other != own]
        length = next(
            (size for size in range(1, len(own)) if all(other[-size:] != own[-size:] for other in others)),
            len(own),
        )
        name = "/".join(own[-length:])
        copies = (f"{name} ({number})" for number in count(2))
        found.append(next(text for text in chain([name], copies) if text not in found))
    return found


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy that allows this style, this script and embedded pictures, and nothing else."""
    parts = ["default-src 'none'", f"style-src '{_digest(style)}'", "img-src data:"]
    if script:
        parts.append(f"script-src '{_digest(script)}'")
    return "; ".join([*parts, "base-uri 'none'", "form-action 'none'"])


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
