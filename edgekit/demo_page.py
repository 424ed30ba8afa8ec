"""The demo's page: one HTML file that needs no network, no script and no other file.

It is made from the JSON document alone, so what it shows is what the document says.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WIDTH, _HEIGHT = 400, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 16, 44
_LABEL_HEIGHT, _CHARACTER_WIDTH = 15.0, 6.6
_TICKS = 5


def page(document: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> str:
    """The page as HTML.

    Args:
        document: What ``Demo.describe`` gives.
        findings: What the steps noticed, described.
    """
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "kilobytes": lambda size: f"{size / 1000:.1f}",
        "percent": lambda share: f"{100 * share:.2f}%",
        "points": lambda share: f"{100 * share:+.2f}".replace("-", "\N{MINUS SIGN}"),
        "milliseconds": milliseconds,
    }
    models = document["models"]
    plotted = [model for model in models if model["latency_ms"]]
    panels = [
        scatter(plotted, "size, kB", lambda model: (model["artifact"]["size_bytes"] / 1000, None)),
        scatter(plotted, "median latency, ms", _latency),
    ]
    series = {_name(model): f"series-{number}" for number, model in enumerate(plotted)}
    return environment.get_template("demo_page.html").render(
        document=document,
        findings=findings,
        panels=panels,
        series=series,
        name=_name,
        baseline=plotted[0],
        best=_fastest(plotted),
        n=models[0]["evaluation"]["n"],
    )


def milliseconds(value: float) -> str:
    """Three significant digits without an exponent: ``0.00852``, ``12.3``."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(0, digits)}f}"


@dataclass(frozen=True)
class Point:
    """A model in a plot, in the plot's coordinates: its mark, its intervals and where its label stands."""

    name: str
    series: str
    x: float
    y: float
    x_interval: tuple[float, float] | None
    y_interval: tuple[float, float]
    label_x: float
    label_y: float
    label_anchor: str


@dataclass(frozen=True)
class Panel:
    """A plot: points, and the ticks of both axes as (place, text)."""

    title: str
    points: tuple[Point, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = _HEIGHT - _BOTTOM


def scatter(
    models: Sequence[Mapping[str, Any]],
    title: str,
    horizontal: Callable[[Mapping[str, Any]], tuple[float, Sequence[float] | None]],
) -> Panel:
    """Accuracy over something that costs; ``horizontal`` gives a model's value and its 95% interval."""
    values = [horizontal(model) for model in models]
    shares = [model["evaluation"] for model in models]
    x_ticks = nice_ticks(0.0, max(max([value, *(interval or [])]) for value, interval in values))
    y_ticks = nice_ticks(min(share["ci95"][0] for share in shares), max(share["ci95"][1] for share in shares))
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(value: float) -> float:
        return round(_LEFT + (right - _LEFT) * (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - _TOP) * (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]), 1)

    marks = [(x(value), y(share["value"])) for (value, _), share in zip(values, shares, strict=True)]
    labels = place_labels(marks, [_name(model) for model in models])
    points = tuple(
        Point(
            name=_name(model),
            series=f"series-{number}",
            x=marks[number][0],
            y=marks[number][1],
            x_interval=None if interval is None else (x(interval[0]), x(interval[1])),
            y_interval=(y(share["ci95"][0]), y(share["ci95"][1])),
            label_x=labels[number][0],
            label_y=labels[number][1],
            label_anchor=labels[number][2],
        )
        for number, (model, (_, interval), share) in enumerate(zip(models, values, shares, strict=True))
    )
    return Panel(
        f"top-1 over {title}",
        points,
        tuple((x(tick), f"{tick:g}") for tick in x_ticks),
        tuple((y(tick), f"{100 * tick:g}%") for tick in y_ticks),
    )


def nice_ticks(low: float, high: float) -> list[float]:
    """About five round numbers from at most ``low`` to at least ``high``: 0, 20, 40, 60, 80, 100.

    >>> nice_ticks(0.0, 83.0)
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    """
    span = (high - low) or abs(high) or 1.0
    rough = span / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 12) for number in range(first, max(last, first + 1) + 1)]


def place_labels(
    marks: Sequence[tuple[float, float]], texts: Sequence[str]
) -> list[tuple[float, float, str]]:
    """Where the label of each mark stands so that none covers another: (x, y, anchor).

    Right of the mark where there is room, else left; moved up and down in turn until it is free.
    """
    taken: list[tuple[float, float, float]] = [(x - 6, x + 6, y) for x, y in marks]
    placed = []
    for (x, y), text in zip(marks, texts, strict=True):
        width = _CHARACTER_WIDTH * len(text)
        fits_right = x + 10 + width <= _WIDTH - 2
        left = x + 10 if fits_right else x - 10 - width
        for step in range(2 * len(texts) + 3):
            away = (step + 1) // 2 * (1 if step % 2 else -1) * _LABEL_HEIGHT
            row = min(max(y + away, _TOP), _HEIGHT - _BOTTOM - 6)
            own = (left, left + width)
            if not any(
                a < own[1] and own[0] < b and abs(other - row) < _LABEL_HEIGHT for a, b, other in taken
            ):
                break
        taken.append((*own, row))
        anchor = "start" if fits_right else "end"
        placed.append((round(own[0] if fits_right else own[1], 1), round(row + 4, 1), anchor))
    return placed


def _name(model: Mapping[str, Any]) -> str:
    return Path(model["artifact"]["path"]).name


def _fastest(plotted: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The file that gains most against the first."""
    return min(plotted[1:], key=lambda model: float(model["ratio"]["median_ratio"]))


def _latency(model: Mapping[str, Any]) -> tuple[float, Sequence[float] | None]:
    latency = model["latency_ms"]
    return latency["median"], latency["ci95_median"]
