"""The demo's page: one HTML file that needs no network, no script and no other file.

It is made from the JSON document alone, so what it shows is what the document says.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.pages import render
from edgekit.pages.svg import Datum, Panel, scatter


def page(document: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> str:
    """The page as HTML.

    Args:
        document: What ``Demo.describe`` gives.
        findings: What the steps noticed, described.
    """
    models = document["models"]
    plotted = [model for model in models if model["latency_ms"]]
    return render(
        "demo.html",
        document=document,
        findings=findings,
        panels=[_by_size(plotted), _by_latency(plotted)],
        series={_name(model): f"series-{number}" for number, model in enumerate(plotted)},
        name=_name,
        baseline=plotted[0],
        best=_fastest(plotted),
        n=models[0]["evaluation"]["n"],
    )


def _by_size(models: Sequence[Mapping[str, Any]]) -> Panel:
    data = [
        _datum(number, model, model["artifact"]["size_bytes"] / 1000) for number, model in enumerate(models)
    ]
    return scatter(data, "size, kB", "top-1", _tick)


def _by_latency(models: Sequence[Mapping[str, Any]]) -> Panel:
    data = [
        _datum(number, model, model["latency_ms"]["median"], model["latency_ms"]["ci95_median"])
        for number, model in enumerate(models)
    ]
    return scatter(data, "median latency, ms", "top-1", _tick)


def _datum(
    number: int, model: Mapping[str, Any], x: float, x_interval: Sequence[float] | None = None
) -> Datum:
    judged = model["evaluation"]
    return Datum(_name(model), f"series-{number}", x, judged["value"], x_interval, judged["ci95"])


def _tick(share: float) -> str:
    return f"{100 * share:g}%"


def _name(model: Mapping[str, Any]) -> str:
    return Path(model["artifact"]["path"]).name


def _fastest(plotted: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The file that gains most against the first."""
    return min(plotted[1:], key=lambda model: float(model["ratio"]["median_ratio"]))
