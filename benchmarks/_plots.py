"""Line charts as SVG for the benchmarks, without a plotting library."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from edgekit.pages.svg import nice_ticks

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 760, 420, 70, 60, 60, 20
_COLORS = ("#b3261e", "#e08e00", "#1f6feb", "#1a7f37", "#8250df")
_STYLE = "font: 13px system-ui, sans-serif; background: #fff; color: #1f2328"


@dataclass(frozen=True)
class Curve:
    """Points in data coordinates; not ``joined`` is a cloud."""

    name: str
    points: Sequence[tuple[float, float]]
    joined: bool = True


def chart(
    title: str,
    x_label: str,
    y_label: str,
    curves: Sequence[Curve],
    *,
    rules: Sequence[float] = (),
    logarithmic: bool = False,
) -> str:
    """One chart as an SVG group; ``rules`` are horizontal lines, ``logarithmic`` is about x."""
    scale = math.log10 if logarithmic else float
    xs = [scale(x) for curve in curves for x, _ in curve.points]
    ys = [y for curve in curves for _, y in curve.points] + list(rules)
    x_low, x_high = min(xs), max(xs)
    pad = 0.06 * (max(ys) - min(ys) or 1)
    y_low, y_high = min(ys) - pad, max(ys) + pad

    def place(x: float, y: float) -> tuple[float, float]:
        across = (scale(x) - x_low) / (x_high - x_low or 1)
        up = (y - y_low) / (y_high - y_low)
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<text x="{_LEFT}" y="24" font-weight="600">{escape(title)}</text>']
    for y in (tick for tick in nice_ticks(y_low, y_high) if y_low <= tick <= y_high):
        _, up = place(10**x_low if logarithmic else x_low, y)
        parts += [
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up:.1f}" y2="{up:.1f}" stroke="#d8dee4"/>',
            f'<text x="{_LEFT - 8}" y="{up + 4:.1f}" text-anchor="end">{y:g}</text>',
        ]
    powers = [10.0**power for power in range(math.ceil(x_low), math.floor(x_high) + 1)] if logarithmic else []
    for x in powers or [tick for tick in nice_ticks(x_low, x_high) if x_low <= tick <= x_high]:
        across, _ = place(x, y_low)
        parts.append(
            f'<text x="{across:.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{x:,g}</text>'
        )
    for rule in rules:
        _, up = place(10**x_low if logarithmic else x_low, rule)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up:.1f}" y2="{up:.1f}" stroke="#57606a" '
            f'stroke-dasharray="5 4"/>'
        )
    for number, curve in enumerate(curves):
        color = _COLORS[number % len(_COLORS)]
        placed = [place(*point) for point in curve.points]
        if curve.joined:
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in placed]
        parts.append(
            f'<text x="{_LEFT + 165 * number}" y="42" fill="{color}">\N{BLACK CIRCLE} {escape(curve.name)}</text>'
        )
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts += [
        f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 14}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">{escape(y_label)}</text>',
    ]
    return "\n".join(parts)


def page(charts: Sequence[str]) -> str:
    """Charts one below the other as one SVG file."""
    height = _HEIGHT * len(charts)
    groups = "\n".join(
        f'<g transform="translate(0 {_HEIGHT * number})">{drawn}</g>' for number, drawn in enumerate(charts)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" style="{_STYLE}">\n<rect width="100%" height="100%" fill="#fff"/>\n{groups}\n</svg>\n'
    )
