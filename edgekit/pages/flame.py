"""Where the time of a run goes, in boxes as wide: kinds of operators above, and the operators of each below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.pages import series

_WIDTH = 640.0
_ROW = 26
_GAP = 1.0
# A character of a label is so wide; narrower boxes bear none, and have their note alone.
_CHARACTER = 7.2
_HUES = 6


@dataclass(frozen=True)
class Box:
    """A box of the plot, in the units of its view; ``note`` is shown where the pointer rests."""

    x: float
    y: float
    width: float
    label: str
    note: str
    kind: str


@dataclass(frozen=True)
class Flame:
    """The boxes of one model."""

    title: str
    boxes: tuple[Box, ...]
    width: float
    height: float
    row: int


@dataclass(frozen=True)
class _Slice:
    """A part of the time, before it has a place."""

    label: str
    what: str
    time_us: float
    kind: str

    def box(self, x: float, row: int, total_us: float) -> Box:
        width = _WIDTH * self.time_us / total_us
        fitting = int((width - 2 * _GAP) / _CHARACTER)
        short = self.label
        if len(short) > fitting:
            short = short[: max(0, fitting - 1)] + "\N{HORIZONTAL ELLIPSIS}"
        note = f"{self.what}: {self.time_us:,.1f} microseconds, {100 * self.time_us / total_us:.1f}%"
        shown = short if fitting > 2 else ""
        place, inner = round(x + _GAP / 2, 2), round(max(0.0, width - _GAP), 2)
        return Box(place, row * _ROW + 1, inner, shown, note, self.kind)


def flame(model: str, profile: Mapping[str, Any]) -> Flame | None:
    """Draw what ``benchmark --per-op`` found; None where nothing took any time.

    Args:
        model: The model's name.
        profile: ``{"total_us": 64.0, "ops": [{"op": "CONV_2D", "name": "conv1", "mean_us": 11.0, ...}], ...}``.
    """
    total = sum(entry["mean_us"] for entry in profile["ops"])
    if total <= 0:
        return None
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for entry in profile["ops"]:
        by_kind.setdefault(entry["op"], []).append(entry)
    kinds = sorted(by_kind.items(), key=lambda pair: -_sum(pair[1]))
    boxes: list[Box] = []
    x = 0.0
    for number, (kind, entries) in enumerate(kinds):
        hue = series(number % _HUES)
        whole = _Slice(kind, f"{len(entries)} {kind}", _sum(entries), hue)
        boxes.append(whole.box(x, 0, total))
        for entry in sorted(entries, key=lambda one: -one["mean_us"]):
            part = _Slice(entry["name"] or kind, f"{kind} {entry['name']}".strip(), entry["mean_us"], hue)
            boxes.append(part.box(x, 1, total))
            x += _WIDTH * entry["mean_us"] / total
    title = f"time by operator of {model}: {total:,.0f} microseconds a run"
    return Flame(title, tuple(box for box in boxes if box.width > 0), _WIDTH, 2 * _ROW, _ROW)


def _sum(entries: Sequence[Mapping[str, Any]]) -> float:
    return float(sum(entry["mean_us"] for entry in entries))
