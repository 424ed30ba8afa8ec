"""The plots of a comparison, each made from its JSON document."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.pages import drop_in, kilobytes, milliseconds, series, value_in
from edgekit.pages.svg import BarDatum, Bars, Datum, Panel, along, bars, scatter, step_lines

Model = Mapping[str, Any]

SHOWN_CLASSES = 20
_SHOWN_LAYERS = 20
# A shorter run says nothing about heat.
_COURSE_S = 10.0
_CURVE_POINTS = 200
_MOST_HEAT = 30
_CELL = 26
_HEAT_CHARACTER, _HEAT_NAME = 7.4, 14


def by_size(models: Sequence[Model], metric: str, unit: str) -> Panel | None:
    """The metric over the size of each file, None where nothing can be drawn."""
    return _scatter(
        models, "size, kB", (metric, unit), lambda model: (model["artifact"]["size_bytes"] / 1000, None)
    )


def by_latency(models: Sequence[Model], metric: str, unit: str) -> Panel | None:
    """The metric over the median latency of each model that has one."""

    def horizontal(model: Model) -> tuple[float, Sequence[float] | None]:
        latency = model["benchmark"]["latency_ms"]
        return latency["median"], latency["ci95_median"]

    measured = [model if model["benchmark"] else None for model in models]
    return _scatter(measured, "median latency, ms", (metric, unit), horizontal)


def _scatter(
    models: Sequence[Model | None],
    x_title: str,
    metric: tuple[str, str],
    horizontal: Callable[[Model], tuple[float, Sequence[float] | None]],
) -> Panel | None:
    name, unit = metric
    data = []
    for number, model in enumerate(models):
        if model is None or model["evaluation"]["value"] is None:
            continue
        judged = model["evaluation"]
        value, interval = horizontal(model)
        ends = judged["ci95"]
        data.append(
            Datum(
                model["name"],
                series(number),
                value,
                judged["value"],
                interval,
                None if None in ends else ends,
                f"{model['name']}: {name} {value_in(judged['value'], unit)}, {x_title} {value:.4g}",
                hollow=not model["pareto"],
            )
        )
    tick: Callable[[float], str] = (lambda v: f"{100 * v:g}%") if unit == "fraction" else (lambda v: f"{v:g}")
    return scatter(data, x_title, name if unit != "dB" else f"{name}, dB", tick) if data else None


def distribution(latencies: Sequence[tuple[int, str, Sequence[float]]]) -> Panel | None:
    """Which share of the runs took at most so long, from all of them.

    Args:
        latencies: Number, name and latencies in ns of each measured model.
    """
    if not latencies:
        return None
    shares = np.linspace(0.0, 1.0, _CURVE_POINTS)
    curves = []
    for number, name, values_ns in latencies:
        curve = np.quantile(np.asarray(values_ns, np.float64) / 1e6, shares)
        note = f"{name}: {len(values_ns):,} runs, median {milliseconds(float(np.median(curve)))} ms"
        curves.append((name, series(number), list(zip(curve.tolist(), shares.tolist(), strict=True)), note))
    return step_lines(curves, "latency, ms", "share of runs")


def course(latencies: Sequence[tuple[int, str, Sequence[tuple[float, float]]]]) -> Panel | None:
    """The latency over the time of a run under load: a device that heats up climbs.

    Args:
        latencies: Number and name of each model, and (seconds since the start, median in ns) of its blocks.
    """
    long = [entry for entry in latencies if entry[2] and entry[2][-1][0] >= _COURSE_S]
    if not long:
        return None
    curves = [
        (name, series(number), [(seconds, median_ns / 1e6) for seconds, median_ns in blocks])
        for number, name, blocks in long
    ]
    return along(curves, [], "seconds under load", "median latency of a block, ms")


def class_bars(model: Model, number: int, unit: str) -> Bars | None:
    """The drop of the classes that lost most, with intervals."""
    worst = sorted(model["drop"]["per_class"], key=lambda item: -item["drop"])[:SHOWN_CLASSES]
    if not worst:
        return None
    data = [
        BarDatum(
            item["name"],
            item["drop"],
            drop_in(item["drop"], unit),
            item["drop_ci95"],
            series(number),
            f"{item['name']}: {drop_in(item['drop'], unit)} points, {item['broken']} broken, "
            f"{item['fixed']} fixed of {item['n']}",
        )
        for item in worst
    ]
    return bars(f"drop per class of {model['name']}, points", data, _points_tick)


def _points_tick(share: float) -> str:
    return f"{100 * share:+g}".replace("-", "\N{MINUS SIGN}") if share else "0"


def layer_bars(model: Model, number: int) -> Bars | None:
    """The layers with the largest weights; what computes on real numbers is marked."""
    layers = (model["operators"] or {}).get("layers", [])
    largest = sorted(layers, key=lambda item: -item["weight_bytes"])[:_SHOWN_LAYERS]
    if not largest:
        return None
    data = [
        BarDatum(
            item["name"] or item["op"],
            item["weight_bytes"] / 1000,
            kilobytes(item["weight_bytes"]),
            kind=series(number),
            note=f"{item['op']} {item['name']}: {item['weight_bytes']:,} bytes{', float' if item['float'] else ''}",
        )
        for item in largest
    ]
    return bars(f"bytes of weights by layer of {model['name']}, kB", data, lambda v: f"{v:g}")


@dataclass(frozen=True)
class Cell:
    """A cell of the heat map: how the count changed, and how strongly it is coloured from 0 to 1."""

    x: int
    y: int
    text: str
    kind: str
    strength: float
    note: str


@dataclass(frozen=True)
class HeatMap:
    """How the confusion matrix changed: labels downwards, predictions to the right."""

    title: str
    cells: tuple[Cell, ...]
    rows: tuple[tuple[int, str], ...]
    columns: tuple[tuple[int, str], ...]
    margin: int
    extent: int
    side: int


def heat_map(first: Model, other: Model, class_names: Sequence[str]) -> HeatMap | None:
    """The confusion matrix of a model minus that of the first, None for many classes or where there is none."""
    before, after = first["evaluation"]["confusion"], other["evaluation"]["confusion"]
    if before is None or after is None or len(before) != len(after) or len(before) > _MOST_HEAT:
        return None
    change = np.array(after) - np.array(before)
    highest = int(np.abs(change).max()) or 1
    side = len(before) * _CELL
    names = [class_names[i] if i < len(class_names) else str(i) for i in range(len(before))]
    names = [
        name if len(name) <= _HEAT_NAME else f"{name[: _HEAT_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
        for name in names
    ]
    margin = round(16 + _HEAT_CHARACTER * max(map(len, names)))
    cells = []
    for label, predicted in zip(*change.nonzero(), strict=True):
        more = int(change[label, predicted])
        better = (more > 0) == (label == predicted)
        note = (
            f"{names[label]} taken for {names[predicted]}: {before[label][predicted]} before, "
            f"{after[label][predicted]} after"
        )
        cells.append(
            Cell(
                margin + int(predicted) * _CELL,
                margin + int(label) * _CELL,
                f"{more:+d}".replace("-", "\N{MINUS SIGN}"),
                "better" if better else "worse",
                round(0.15 + 0.65 * abs(more) / highest, 2),
                note,
            )
        )
    places = tuple((margin + i * _CELL + _CELL // 2, name) for i, name in enumerate(names))
    title = f"change of confusions, {other['name']} against {first['name']}"
    return HeatMap(title, tuple(cells), places, places, margin, side, _CELL)
