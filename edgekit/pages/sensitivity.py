"""The page of ``edgekit sensitivity``: the SNR of each layer alone along the graph, and a table of all."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from edgekit.pages import decibels, is_finite, render
from edgekit.pages.svg import Datum, Panel, along

Layer = Mapping[str, Any]

_LABELLED = 3
# What is nearer is drawn at this height: what matters lies far below.
_TOP_DB = 100.0
_decibels = partial(decibels, infinite="exact")


def page(result: Mapping[str, Any], findings: Sequence[Mapping[str, Any]], sentence: str) -> str:
    """The page as HTML.

    Args:
        result: What ``Sensitivity.describe`` gives; infinite SNRs may be None.
        findings: What was noticed, described.
        sentence: What it comes to, in words.
    """
    return render(
        "sensitivity.html",
        is_scripted=True,
        filters={"decibels": _decibels},
        result=result,
        findings=findings,
        sentence=sentence,
        panel=_panel(result["layers"]),
    )


def _panel(layers: Sequence[Layer]) -> Panel | None:
    """What each layer leaves alone, and its weights and its result, in the order of the graph."""
    order = sorted(layers, key=lambda layer: layer["place"])
    curves = [
        (
            name,
            series,
            [(float(one["place"] + 1), min(one[key], _TOP_DB)) for one in order if is_finite(one[key])],
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
        if is_finite(one["snr_db"])
    ]
    return (
        along(curves, marks, "layer, in the order of the graph, from 1", "SNR alone, dB") if marks else None
    )
