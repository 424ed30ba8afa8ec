"""What all reports share: numbers as people read them, and text that no format chokes on."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]
Facts = Mapping[str, Any]

# XML 1.0 cannot hold these, UTF-8 not the surrogates, and the last ones turn the direction of what follows.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
_TITLES = {
    "accuracy": "accuracy",
    "per_class": "accuracy per class",
    "size_bytes": "size",
    "gzip_bytes": "size after gzip",
    "latency_ratio": "latency, ratio",
    "latency_ms": "latency",
    "peak_memory_bytes": "peak memory",
    "placement_pct": "placement",
    "min_sparsity": "zero weights",
    "max_clusters": "values of a kernel",
}
_DROPS = {"accuracy", "per_class"}


def clean(text: object) -> str:
    """Text whose control characters became replacement characters; tabs and line ends stay."""
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", str(text).replace("\r\n", "\n"))


def one_line(text: object, limit: int = 500) -> str:
    """Text on one line, cut where it is longer than ``limit`` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"


def title(gate: Facts) -> str:
    """The name of a gate for people."""
    return _TITLES.get(gate["name"], str(gate["name"]))


def gates(document: Document) -> Sequence[Facts]:
    """The gates of a document; documents of other commands have none."""
    found: Sequence[Facts] = document.get("result", {}).get("gates") or ()
    return found


def exit_code(document: Document) -> int:
    """The exit code that CI sees of a document without an error."""
    return int(document.get("result", {}).get("exit_code", document["status"] != "ok"))


def severity(gate: Facts, document: Document) -> str | None:
    """``"error"`` for what stops CI, ``"warning"`` for what is inconclusive and lets it go on, None for a pass."""
    if gate["verdict"] == "pass":
        return None
    return "error" if gate["verdict"] == "fail" or exit_code(document) else "warning"


def value(number: float | None, unit: str) -> str:
    """A measured value: ``98.67%``, ``23.2 kB``, ``0.0186 ms``; a dash where there is none."""
    if number is None:
        return "-"
    if unit in {"fraction", "percent"}:
        return f"{100 * number:.2f}%" if unit == "fraction" else f"{number:.1f}%"
    if unit == "bytes":
        return f"{number / 1000:,.1f} kB"
    if unit == "ratio":
        return f"{number:.3f}"
    return f"{number:.4g} {unit}".rstrip()


def difference(number: float | None, unit: str) -> str:
    """A difference with its sign; of shares in points: ``+0.17 points``."""
    if number is None:
        return "-"
    if unit in {"fraction", "percent"}:
        return f"{(100 if unit == 'fraction' else 1) * number:+.2f} points"
    sign = "" if number < 0 else "+"
    return f"{sign}{value(number, unit)}"


def limit(gate: Facts) -> str:
    """What a gate allows: a drop in points or dB, or a value."""
    unit = gate["unit"]
    return difference(gate["limit"], unit) if gate["name"] in _DROPS else value(gate["limit"], unit)


def interval(gate: Facts) -> str:
    """The 95% interval of what a gate judges: a drop, or a ratio."""
    if gate["ci95"] is None:
        return "-"
    show = difference if gate["name"] in _DROPS else value
    low, high = (
        "unbounded" if end is None else show(end, gate["unit"]).removesuffix(" points")
        for end in gate["ci95"]
    )
    return f"{low} to {high}"


def samples(gate: Facts) -> str:
    """How many samples a verdict rests on, and how many would settle it: ``600, needs 2,100``."""
    text = "-" if gate["n"] is None else f"{gate['n']:,}"
    return text if gate["needed_n"] is None else f"{text}, needs {gate['needed_n']:,}"
