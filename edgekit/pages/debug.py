"""The page of ``edgekit debug``: the verdict, the SNR along the graph, and every tensor."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from edgekit.pages import decibels, is_finite, render, unique_names
from edgekit.pages.svg import Datum, Panel, along

Tensor = Mapping[str, Any]

_LABELLED = 3
# Everything nearer is drawn at this height: what matters lies far below.
_TOP_DB = 100.0
_SERIES = {"identical": "series-0", "rounding": "series-1", "degrades": "series-2", "defect": "series-6"}
_decibels = partial(decibels, infinite="equal")


def page(result: Mapping[str, Any], findings: Sequence[Mapping[str, Any]], sentence: str) -> str:
    """The page as HTML.

    Args:
        result: What ``Debugging.describe`` gives; infinite SNRs may be None.
        findings: What was noticed, described.
        sentence: The verdict in words.
    """
    return render(
        "debug.html",
        is_scripted=True,
        filters={"decibels": _decibels},
        result=result,
        findings=findings,
        sentence=sentence,
        names=unique_names([result["a"]["path"], result["b"]["path"]]),
        series=_SERIES,
        panel=_panel(result["tensors"]),
    )


def _panel(tensors: Sequence[Tensor]) -> Panel | None:
    """Both SNRs of every tensor along the graph; None where nothing differs."""
    whole = [
        (float(n), min(t["snr_db"], _TOP_DB)) for n, t in enumerate(tensors, 1) if is_finite(t["snr_db"])
    ]
    data = list(_marks(tensors))
    if not whole and not data:
        return None
    expected = [(datum.x, tensors[round(datum.x) - 1]["expected_snr_db"]) for datum in data]
    curves = [
        ("B against A as they run", "series-0", whole),
        ("what rounding explains", "series-3", [place for place in expected if is_finite(place[1])]),
    ]
    return along(curves, data, "tensor, in the order of the graph", "SNR, dB")


def _marks(tensors: Sequence[Tensor]) -> Iterator[Datum]:
    """The SNR of each operator alone; the first defects, or what loses most, have their names beside them."""
    shown = [(n, tensor) for n, tensor in enumerate(tensors, 1) if is_finite(tensor["own_snr_db"])]
    defects = [n for n, tensor in shown if tensor["verdict"] == "defect"]
    worst = sorted(shown, key=lambda item: item[1]["own_snr_db"])
    labelled = set((defects or [n for n, _ in worst])[:_LABELLED])
    for number, tensor in shown:
        own, expected = _decibels(tensor["own_snr_db"]), _decibels(tensor["expected_snr_db"])
        note = (
            f"{number}: {tensor['op']} {tensor['name']}: {tensor['verdict']}; alone {own} dB, "
            f"expected {expected} dB"
        )
        label = f"{number} {tensor['op']}" if number in labelled else ""
        height = min(tensor["own_snr_db"], _TOP_DB)
        yield Datum(label, _SERIES[tensor["verdict"]], float(number), height, note=note)
