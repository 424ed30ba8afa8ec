"""The page of ``edgekit search``: each pair of objectives as a plot, and every trial as a row."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from edgekit.pages import render, series
from edgekit.pages.svg import Datum, Panel, scatter

Trial = Mapping[str, Any]

_MOST_PLOTTED = 60


def page(result: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> str:
    """The page as HTML.

    Args:
        result: What ``Search.describe`` gives, as JSON holds it.
        findings: What was noticed, described.
    """
    done = [trial for trial in result["tried"] if trial["status"] == "done"]
    # Of equal configurations the first, which stands on the front where they do.
    done = list({trial["configuration"]["name"]: trial for trial in reversed(done)}.values())[::-1]
    return render(
        "search.html",
        result=result,
        findings=findings,
        rows=sorted(done, key=lambda trial: (not trial["pareto"], trial["size_bytes"])),
        panels=panels(done, result["objectives"], result["unit"]),
        scale=100 if result["unit"] == "fraction" else 1,
    )


def panels(trials: Sequence[Trial], objectives: Sequence[str], unit: str) -> list[Panel]:
    """Two objectives over one another; a single one over the size. What is not on the front is hollow."""
    pairs = list(combinations(objectives, 2)) or [
        ("size", objectives[0] if objectives[0] != "size" else "drop")
    ]
    axes = _axes(unit)
    found = []
    for first, second in pairs:
        (x_key, x_scale, x_title), (y_key, y_scale, y_title) = axes[first], axes[second]
        shown = [trial for trial in trials if trial[x_key] is not None and trial[y_key] is not None]
        # Many marks hide each other: those of the front stay.
        if len(shown) > _MOST_PLOTTED:
            shown = [trial for trial in shown if trial["pareto"]]
        data = [
            Datum(
                str(trial["number"]),
                series(0 if trial["pareto"] else 7),
                trial[x_key] * x_scale,
                trial[y_key] * y_scale,
                note=f"{trial['number']}: {trial['configuration']['name']}",
                hollow=not trial["pareto"],
            )
            for trial in shown
        ]
        if data:
            found.append(scatter(data, x_title, y_title))
    return found


def _axes(unit: str) -> dict[str, tuple[str, float, str]]:
    """The key of each objective, what it is multiplied by, and its title."""
    return {
        "size": ("size_bytes", 1e-3, "size, kB"),
        "latency": ("latency_ms", 1.0, "median latency, ms"),
        "drop": ("drop", 100.0, "drop, points") if unit == "fraction" else ("drop", 1.0, "drop"),
        "snr": ("snr_db", 1.0, "SNR, dB"),
    }
