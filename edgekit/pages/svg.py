"""Plots as points, bars and paths in the coordinates of an SVG; the templates only write them down."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_WIDTH, _WIDE, _HEIGHT = 400, 860, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 16, 44
_LABEL_HEIGHT, _CHARACTER_WIDTH = 15.0, 6.6
_TICKS = 5
# Fits on one side of a mark wherever that is.
_MARK_LABEL = 24

Interval = Sequence[float] | None


@dataclass(frozen=True)
class Datum:
    """What is plotted of one model: two values, each perhaps with its interval.

    ``series`` is the class of its colour, and ``note`` what is shown while the pointer rests on it.
    """

    name: str
    series: str
    x: float
    y: float
    x_interval: Interval = None
    y_interval: Interval = None
    note: str = ""
    hollow: bool = False


@dataclass(frozen=True)
class Point:
    """A model in a plot, in the plot's coordinates: its mark, its intervals and where its label stands."""

    name: str
    series: str
    x: float
    y: float
    x_interval: tuple[float, float] | None
    y_interval: tuple[float, float] | None
    label_x: float
    label_y: float
    label_anchor: str
    note: str
    hollow: bool


@dataclass(frozen=True)
class Line:
    """A path through a plot, with its name: ``M52 256L60 200``."""

    name: str
    series: str
    path: str
    note: str


@dataclass(frozen=True)
class Panel:
    """A plot: points or lines, and the ticks of both axes as (place, text)."""

    title: str
    x_title: str
    y_title: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    points: tuple[Point, ...] = ()
    lines: tuple[Line, ...] = ()
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = _HEIGHT - _BOTTOM


def scatter(
    data: Sequence[Datum], x_title: str, y_title: str, y_text: Callable[[float], str] = lambda v: f"{v:g}"
) -> Panel:
    """One mark per model, the horizontal axis from 0.

    Args:
        data: At least one.
        x_title: The horizontal axis with its unit: ``"size, kB"``.
        y_title: The vertical axis.
        y_text: How a tick of the vertical axis is written.
    """
    x_ticks = nice_ticks(0.0, max(value for datum in data for value in [datum.x, *(datum.x_interval or [])]))
    heights = [value for datum in data for value in [datum.y, *(datum.y_interval or [])]]
    y_ticks = nice_ticks(min(heights), max(heights))
    x, y = _horizontal(x_ticks[0], x_ticks[-1]), _vertical(y_ticks[0], y_ticks[-1])
    marks = [(x(datum.x), y(datum.y)) for datum in data]
    texts = mark_labels([datum.name for datum in data])
    labels = place_labels(marks, texts)
    points = tuple(
        Point(
            text,
            datum.series,
            *mark,
            None if datum.x_interval is None else (x(datum.x_interval[0]), x(datum.x_interval[1])),
            None if datum.y_interval is None else (y(datum.y_interval[0]), y(datum.y_interval[1])),
            label_x=label[0],
            label_y=label[1],
            label_anchor=label[2],
            note=datum.note or datum.name,
            hollow=datum.hollow,
        )
        for datum, text, mark, label in zip(data, texts, marks, labels, strict=True)
    )
    return Panel(
        f"{y_title} over {x_title}",
        x_title,
        y_title,
        tuple((x(tick), f"{tick:g}") for tick in x_ticks),
        tuple((y(tick), y_text(tick)) for tick in y_ticks),
        points,
    )


def step_lines(
    curves: Sequence[tuple[str, str, Sequence[tuple[float, float]], str]], x_title: str, y_title: str
) -> Panel:
    """Shares of 1 over a value, as lines; the horizontal axis is logarithmic where values differ tenfold.

    Args:
        curves: Name, colour's class, (value, share) in rising order, and note of each line.
        x_title: The horizontal axis with its unit.
        y_title: The vertical axis.
    """
    values = [value for _, _, curve, _ in curves for value, _ in curve]
    low, high = min(values), max(values)
    logarithmic = low > 0 and high > 10 * low
    x_ticks = log_ticks(low, high) if logarithmic else nice_ticks(low, high)
    place = _horizontal(x_ticks[0], x_ticks[-1], logarithmic=logarithmic)
    y = _vertical(0.0, 1.0)
    lines = tuple(
        Line(name, series, "M" + "L".join(f"{place(value)} {y(share)}" for value, share in curve), note)
        for name, series, curve, note in curves
    )
    return Panel(
        f"{y_title} over {x_title}",
        x_title,
        y_title,
        tuple((place(tick), f"{tick:g}") for tick in x_ticks),
        tuple((y(share), f"{100 * share:g}%") for share in (0, 0.25, 0.5, 0.75, 1.0)),
        lines=lines,
    )


def along(
    curves: Sequence[tuple[str, str, Sequence[tuple[float, float]]]],
    data: Sequence[Datum],
    x_title: str,
    y_title: str,
) -> Panel:
    """A wide plot of values along a row of numbered things: lines, and marks that need no label.

    Args:
        curves: Name, colour's class and points in order, of each line.
        data: Marks; those with a name get a label.
        x_title: What is numbered, from 1.
        y_title: The vertical axis with its unit.
    """
    places = [*((x, y) for _, _, curve in curves for x, y in curve), *((datum.x, datum.y) for datum in data)]
    x_ticks = [tick for tick in nice_ticks(0.0, max(x for x, _ in places)) if tick == round(tick)]
    y_ticks = nice_ticks(min(y for _, y in places), max(y for _, y in places))
    x = _horizontal(x_ticks[0], x_ticks[-1], width=_WIDE)
    y = _vertical(y_ticks[0], y_ticks[-1])
    lines = tuple(
        Line(name, series, "M" + "L".join(f"{x(place)} {y(value)}" for place, value in curve), name)
        for name, series, curve in curves
        if curve
    )
    named = [datum for datum in data if datum.name]
    labels = iter(place_labels([(x(d.x), y(d.y)) for d in named], [d.name for d in named], width=_WIDE))
    points = []
    for datum in data:
        across, down = x(datum.x), y(datum.y)
        label = next(labels) if datum.name else (across, down, "start")
        points.append(
            Point(datum.name, datum.series, across, down, None, None, *label, datum.note, datum.hollow)
        )
    return Panel(
        f"{y_title} over {x_title}",
        x_title,
        y_title,
        tuple((x(tick), f"{tick:g}") for tick in x_ticks),
        tuple((y(tick), f"{tick:g}") for tick in y_ticks),
        tuple(points),
        lines,
        width=_WIDE,
        right=_WIDE - _RIGHT,
    )


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart: from ``x`` over ``width``, with an interval, a label and the value as text."""

    label: str
    text: str
    x: float
    width: float
    y: float
    interval: tuple[float, float] | None
    kind: str
    note: str


@dataclass(frozen=True)
class Bars:
    """A bar chart with one row per bar; ``zero`` is where bars begin."""

    title: str
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    zero: float
    width: int
    height: int
    left: int
    row: int


@dataclass(frozen=True)
class BarDatum:
    """What a bar shows. ``kind`` is the class of its colour."""

    label: str
    value: float
    text: str
    interval: Interval = None
    kind: str = "series-1"
    note: str = ""


_BAR_ROW = 22
_BAR_WIDTH = 430
_BAR_LABEL = 22
_BAR_CHARACTER = 7.4


def bars(title: str, data: Sequence[BarDatum], tick_text: Callable[[float], str]) -> Bars:
    """Horizontal bars from 0, to the left where a value is negative.

    Args:
        title: What it shows.
        data: At least one.
        tick_text: How a tick is written.
    """
    ends = [value for datum in data for value in [datum.value, *(datum.interval or [])]]
    ticks = nice_ticks(min(0.0, *ends), max(0.0, *ends))
    longest = min(_BAR_LABEL, max(len(datum.label) for datum in data))
    left = round(16 + _BAR_CHARACTER * longest)
    right = _BAR_WIDTH - 16 - round(_CHARACTER_WIDTH * max(len(datum.text) for datum in data))
    span = (right - left) / (ticks[-1] - ticks[0])

    def x(value: float) -> float:
        return round(left + span * (value - ticks[0]), 1)

    made = tuple(
        Bar(
            _shortened(datum.label),
            datum.text,
            min(x(datum.value), x(0)),
            round(abs(x(datum.value) - x(0)), 1),
            number * _BAR_ROW + 6,
            None if datum.interval is None else (x(datum.interval[0]), x(datum.interval[1])),
            datum.kind,
            datum.note or f"{datum.label}: {datum.text}",
        )
        for number, datum in enumerate(data)
    )
    height = len(data) * _BAR_ROW + 34
    return Bars(
        title, made, tuple((x(t), tick_text(t)) for t in ticks), x(0), _BAR_WIDTH, height, left, _BAR_ROW
    )


def _shortened(label: str) -> str:
    """The end of a long name tells more than its beginning: layers share prefixes."""
    return label if len(label) <= _BAR_LABEL else "\N{HORIZONTAL ELLIPSIS}" + label[-_BAR_LABEL + 1 :]


def mark_labels(names: Sequence[str]) -> list[str]:
    """Names as they stand beside marks: without endings such as .tflite where that tells them apart, and short.

    >>> mark_labels(["a.tflite", "b.int8.tflite"])
    ['a', 'b.int8']
    """
    stems = [name.rpartition(".")[0] or name for name in names]
    labels = stems if len(set(stems)) == len(stems) else list(names)
    half = _MARK_LABEL // 2
    return [
        label if len(label) <= _MARK_LABEL else f"{label[:half]}\N{HORIZONTAL ELLIPSIS}{label[-half + 1 :]}"
        for label in labels
    ]


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


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis, one, two or five times a power of ten.

    >>> log_ticks(0.3, 40.0)
    [0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    if high > 1e4 * low:
        every = [10.0**power for power in powers]
    first = max(index for index, tick in enumerate(every) if tick <= low * (1 + 1e-9))
    last = next((index for index, tick in enumerate(every) if tick >= high * (1 - 1e-9)), len(every) - 1)
    return [round(tick, 12) for tick in every[first : last + 1]]


# From where to where on the horizontal axis, and at which height.
_Span = tuple[float, float, float]


def place_labels(
    marks: Sequence[tuple[float, float]], texts: Sequence[str], *, width: int = _WIDTH
) -> list[tuple[float, float, str]]:
    """Where the label of each mark stands so that none covers another: (x, y, anchor).

    Right of the mark where there is room, else left; as little up or down as makes it free.
    """
    points: list[_Span] = [(x - 6, x + 6, y) for x, y in marks]
    labels: list[_Span] = []
    placed = []
    for (x, y), text in zip(marks, texts, strict=True):
        length = _CHARACTER_WIDTH * len(text)
        fits_right = x + 10 + length <= width - 2
        left = x + 10 if fits_right else x - 10 - length
        own = (left, left + length)
        # Where marks stand too close together for that, a label covers a mark rather than another label.
        row = _nearest_row(y, own, points + labels)
        row = _nearest_row(y, own, labels) if row is None else row
        row = y if row is None else row
        labels.append((*own, row))
        anchor = "start" if fits_right else "end"
        placed.append((round(own[0] if fits_right else own[1], 1), round(row + 4, 1), anchor))
    return placed


def _nearest_row(y: float, own: tuple[float, float], taken: Sequence[_Span]) -> float | None:
    """The free place nearest to ``y`` for a label that reaches over ``own``, None where there is none."""
    beside = [other for start, end, other in taken if start < own[1] and own[0] < end]
    rows = [y, *(other + side * _LABEL_HEIGHT for other in beside for side in (-1, 1))]
    inside = [row for row in rows if _TOP <= row <= _HEIGHT - _BOTTOM - 6]
    free = [row for row in inside if all(abs(other - row) >= _LABEL_HEIGHT - 1e-9 for other in beside)]
    return min(free, key=lambda row: abs(row - y), default=None)


def _horizontal(
    low: float, high: float, *, logarithmic: bool = False, width: int = _WIDTH
) -> Callable[[float], float]:
    """From a value to its place on the horizontal axis."""
    scale: Callable[[float], float] = math.log if logarithmic else float
    start, span = scale(low), (width - _RIGHT - _LEFT) / (scale(high) - scale(low))
    return lambda value: round(_LEFT + span * (scale(value) - start), 1)


def _vertical(low: float, high: float) -> Callable[[float], float]:
    """From a value to its place on the vertical axis, which SVG counts from the top."""
    bottom, span = _HEIGHT - _BOTTOM, (_HEIGHT - _BOTTOM - _TOP) / (high - low)
    return lambda value: round(bottom - span * (value - low), 1)
