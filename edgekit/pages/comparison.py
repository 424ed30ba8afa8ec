"""A comparison as its section of the page shows it: sentences, tables and plots."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.pages import drop_in, figures, series, value_in
from edgekit.pages.document import text

Model = Mapping[str, Any]

_SHOWN_ROWS = 100
_SHOWN_FLOAT = 50


def view(result: Mapping[str, Any], latencies_ns: Mapping[int, Sequence[float]]) -> dict[str, Any]:
    """What the template needs besides the document.

    Args:
        result: What ``Comparison.describe`` gives.
        latencies_ns: All latencies by the number of the model, empty where they were not kept.
    """
    models, unit = result["models"], result["unit"]
    first = models[0]
    curves = [(number, models[number]["name"], values) for number, values in latencies_ns.items()]
    names = result["class_names"]
    return {
        "sentences": [_sentence(result, first, other) for other in models[1:]],
        "scatters": [
            panel
            for panel in (
                figures.by_size(models, result["metric"], unit),
                figures.by_latency(models, result["metric"], unit),
            )
            if panel is not None
        ],
        "distribution": figures.distribution(curves),
        "classes": [
            {
                "model": model,
                "bars": figures.class_bars(model, number, unit),
                "rows": sorted(model["drop"]["per_class"], key=lambda item: -item["drop"])[:_SHOWN_ROWS],
                "left_out": max(0, len(model["drop"]["per_class"]) - _SHOWN_ROWS),
            }
            for number, model in enumerate(models)
            if number and model["drop"]["per_class"]
        ],
        "confusions": [
            {
                "model": model,
                "heat": figures.heat_map(first, model, names),
                "changes": model["drop"]["confusion_changes"],
            }
            for model in models[1:]
            if model["drop"]["confusion_changes"]
        ],
        "floats": [
            {
                "model": model,
                "ops": model["operators"]["float_ops"][:_SHOWN_FLOAT],
                "left_out": max(0, len(model["operators"]["float_ops"]) - _SHOWN_FLOAT),
            }
            for model in models
            if model["operators"]
        ],
        "layers": [
            {"model": model, "bars": bars}
            for number, model in enumerate(models)
            if (bars := figures.layer_bars(model, number)) is not None
        ],
        "measured": [model for model in models if model["benchmark"]],
        "series": {model["name"]: series(number) for number, model in enumerate(models)},
        "lineages": [_lineage(model["lineage"]) for model in models],
        "difference": "points" if unit == "fraction" else unit or "difference",
    }


def _lineage(lineage: Mapping[str, Any] | None) -> str:
    """What made a model, as far as the file beside it tells, which may be of anybody's making."""
    if not lineage:
        return "No lineage lies beside it."
    source, digest = text(lineage.get("source_path")), text(lineage.get("source_sha256"))[:16]
    said = (
        f"Made from {source} ({digest}) by {text(lineage.get('recipe'))} with {text(lineage.get('engine'))}, "
    )
    said += f"seed {text(lineage.get('seed'))}"
    calibration, contract = lineage.get("calibration"), lineage.get("preprocessing")
    if isinstance(calibration, Mapping):
        data, used = text(calibration.get("data")), text(calibration.get("sha256"))[:16]
        said += f", calibrated on {text(calibration.get('count'))} samples of {data} ({used})"
    if isinstance(contract, Mapping):
        said += f", samples under the contract {text(contract.get('name'))}"
    versions = lineage.get("versions")
    if isinstance(versions, Mapping):
        said += ". " + ", ".join(f"{text(name)} {text(version)}" for name, version in versions.items())
    return f"{said}."


def _sentence(result: Mapping[str, Any], first: Model, other: Model) -> str:
    """One model against the first, with the numbers that matter and whether they mean anything."""
    parts = [f"is {_times_smaller(first, other)} {first['name']}"]
    ratio = other["ratio"]
    if ratio is not None:
        ends = "" if ratio["ci95"] is None else " (95% interval {:.2f} to {:.2f})".format(*ratio["ci95"])
        baseline = result["latency_baseline"]
        parts.append(f"takes {ratio['median_ratio']:.2f} times as long as {baseline}{ends}")
    return f"{' and '.join(parts)}. {_accuracy(result, first, other)}"


def _times_smaller(first: Model, other: Model) -> str:
    factor = max(1, first["artifact"]["size_bytes"]) / max(1, other["artifact"]["size_bytes"])
    if 0.995 < factor < 1.005:
        return "as large as"
    return f"{factor:.1f} times smaller than" if factor > 1 else f"{1 / factor:.1f} times larger than"


def _accuracy(result: Mapping[str, Any], first: Model, other: Model) -> str:
    unit, drop = result["unit"], other["drop"]
    values = [value_in(model["evaluation"]["value"], unit) for model in (first, other)]
    said = f"Its {result['metric']} is {values[1]} against {values[0]}"
    if drop["drop"] is None or None in drop["drop_ci95"]:
        return f"{said}."
    low, high = drop["drop_ci95"]
    words = " points" if unit == "fraction" else f" {unit}" if unit else ""
    said += (
        f": a drop of {drop_in(drop['drop'], unit)}{words} ({drop_in(low, unit)} to {drop_in(high, unit)})"
    )
    if low <= 0 <= high:
        said += f", which {result['n']:,} samples cannot tell from none"
    if drop["broken"] is not None:
        said += f"; {drop['broken']:,} samples broke and {drop['fixed']:,} were fixed"
    return f"{said}."
