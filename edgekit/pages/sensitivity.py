"""The page of ``edgekit sensitivity``: the SNR of each layer alone along the graph, and a table of all."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.pages import environment, policy, template_text
from edgekit.pages.svg import Datum, Panel, along

Layer = Mapping[str, Any]

_LABELLED = 3
# What is nearer is drawn at this height: what matters lies far below.
_TOP_DB = 100.0


def page(result: Mapping[str, Any], findings: Sequence[Mapping[str, Any]], sentence: str) -> str:
    """The page as HTML.

    Args:
        result: What ``Sensitivity.describe`` gives; infinite SNRs may be None.
        findings: What was noticed, described.
        sentence: What it comes to, in words.
    """
    style, script = template_text("style.css"), template_text("page.js")
    made = environment()
    made.filters["decibels"] = _decibels
    rendered: str = made.get_template("sensitivity.html").render(
        result=result,
        findings=findings,
        sentence=sentence,
        panel=_panel(result["layers"]),
        style=style,
        script=script,
        policy=policy(style, script),
    )
    return rendered


def _panel(layers: Sequence[Layer]) -> Panel | None:
    """What each layer leaves alone, and its weights and its result, in the order of the graph."""
    order = sorted(layers, key=lambda layer: layer["place"])
    curves = [
        (
            name,
            series,
            [(float(one["place"] + 1), min(one[key], _TOP_DB)) for one in order if _known(one[key])],
        )
        for name, series, key in (
            ("weights alone", "series-2", "weights_snr_db"),
            ("result alone", "series-3", "activations_snr_db"),
        )
    ]
    labelled = {layer["place"] for layer in layers[:_LABELLED]}
    marks = [
        Datum(
            f"{one['place']} {one['op']}" if one["place"] in labelled else "",
            "series-1",
            float(one["place"] + 1),
            min(one["snr_db"], _TOP_DB),
            note=f"{one['place']}: {one['op']} {one['name']}: {_decibels(one['snr_db'])} dB, "
            f"{100 * one['share_of_noise']:.1f}% of the noise",
        )
        for one in order
        if _known(one["snr_db"])
    ]
    return (
        along(curves, marks, "layer, in the order of the graph, from 1", "SNR alone, dB") if marks else None
    )


def _known(value: float | None) -> bool:
    return value is not None and value not in (float("inf"), float("-inf"))


def _decibels(value: float | None) -> str:
    if value is None or value == float("inf"):
        return "exact"
    return f"{value:.1f}".replace("-", "\N{MINUS SIGN}")
