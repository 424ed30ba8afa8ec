"""How well the fast measure of each layer's noise agrees with the slow and exact one: a file of the engine per layer.

    python benchmarks/sensitivity_agreement.py [--case kws ...] [--recipe int8] [--reach DB] [--json FILE]

One row per model: the layers, Spearman's rank correlation between the SNR that edgekit predicts of a file in which one
layer alone is quantized and the SNR of that file as the engine writes it, the largest difference of the two in dB, the
seconds of both ways; then the recipe that spares layers until the SNR is --reach dB above that of all layers quantized:
how many it spares, the SNR that was promised, and that of the file quantized by it, without and with corrected biases.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _cases import CASES, Case
from scipy.stats import spearmanr

import edgekit
from edgekit.artifact import Format
from edgekit.layerwise.sensitivity import LayerSensitivity, Sensitivity, decibels
from edgekit.recipe import PRECISIONS, Recipe

_CASES = ("ic", "kws", "vww", "vww-onnx", "ecg", "lenet")


def measure(case: Case, recipe: str, more_db: float, folder: Path) -> dict[str, Any]:
    """Both measures of every layer of one model."""
    calibration, _ = case.data(folder)
    case = _converted(case, folder)
    plain = edgekit.sensitivity(case.path, calibration=calibration, recipe=recipe, effort="none")
    started = time.perf_counter()
    pairs = [
        (predicted(plain, layer), exact(case, plain, layer, calibration, folder))
        for layer in plain.layers
        if not layer.is_input
    ]
    seconds = time.perf_counter() - started
    fast, slow = (np.array(column) for column in zip(*pairs, strict=True))
    known = np.isfinite(fast) & np.isfinite(slow)
    reach = plain.measured_db + more_db
    spared = edgekit.sensitivity(case.path, calibration=calibration, recipe=recipe, reach_db=reach).spared
    if spared is None:
        raise RuntimeError("nothing was to be spared")
    real = {
        effort: edgekit.quantize(
            case.path, folder / f"spared{case.suffix}", recipe=spared.recipe, calibration=calibration,
            engine=_engine(case), effort=effort, overwrite=True,
        ).read_back.snr_db
        for effort in ("none", "low")
    }  # fmt: skip
    return {
        "case": case.name,
        "layers": int(known.sum()),
        "spearman": float(spearmanr(fast[known], slow[known]).statistic),
        "largest_difference_db": float(np.max(np.abs(fast - slow)[known])),
        "median_difference_db": float(np.median(np.abs(fast - slow)[known])),
        "seconds": plain.seconds,
        "exact_seconds": seconds,
        "whole_db": plain.measured_db,
        "spared": len(spared.layers),
        "promised_db": spared.snr_db,
        "real_db": real,
    }


def predicted(found: Sensitivity, layer: LayerSensitivity) -> float:
    """The SNR of a file in which this layer alone is quantized: what it reads is rounded there too."""
    read = [one.activations_noise for one in found.layers if one.place in layer.reads]
    own = [] if layer.keeps_grid and read else [layer.activations_noise]
    return decibels(np.sum([layer.weights_noise, *own, *read], axis=0))


def exact(case: Case, found: Sensitivity, layer: LayerSensitivity, calibration: Path, folder: Path) -> float:
    """The SNR of that file as the engine writes it; NaN where it quantizes nothing then."""
    precision = found.recipe.default
    if case.suffix == ".onnx":
        others = [one for one in found.layers if not one.is_input and one.place != layer.place]
        recipe = found.sparing(others)
    else:
        rules = found.sparing([layer], precision.name).rules
        recipe = Recipe("alone", PRECISIONS["float32"], tuple(rule for rule in rules if not rule.operators))
    try:
        made = edgekit.quantize(
            case.path, folder / f"alone{case.suffix}", recipe=recipe, calibration=calibration,
            engine=_engine(case), effort="none", overwrite=True,
        )  # fmt: skip
    except edgekit.EdgekitError:
        return float("nan")
    return made.read_back.snr_db


def _converted(case: Case, folder: Path) -> Case:
    """The model as a float file of the format that is quantized, so that no framework starts for every layer."""
    source = edgekit.open_artifact(case.path)
    if source.format in {Format.TFLITE, Format.ONNX}:
        return case
    output = folder / f"{case.name}-float.tflite"
    edgekit.convert(case.path, output)
    # An absolute path replaces the folder of the public models.
    return replace(case, model=str(output))


def _engine(case: Case) -> str:
    return "onnxruntime" if case.suffix == ".onnx" else "ai-edge-quantizer"


def main() -> None:
    """Measure the chosen models, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", nargs="+", default=list(_CASES))
    parser.add_argument("--recipe", default="int8")
    parser.add_argument(
        "--reach", type=float, default=6.0, help="dB above the file with all layers quantized"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"{'case':10}{'layers':>7}{'spearman':>9}{'median':>7}{'largest':>8}{'s':>7}{'exact s':>8}"
          f"{'whole':>7}{'spared':>7}{'promised':>9}{'real':>6}{'low':>6}")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        for case in CASES:
            if case.name in options.case:
                row = measure(case, options.recipe, options.reach, Path(folder))
                rows.append(row)
                print(f"{row['case']:10}{row['layers']:7}{row['spearman']:9.3f}{row['median_difference_db']:7.2f}"
                      f"{row['largest_difference_db']:8.2f}{row['seconds']:7.1f}{row['exact_seconds']:8.1f}"
                      f"{row['whole_db']:7.1f}{row['spared']:7}{row['promised_db']:9.1f}"
                      f"{row['real_db']['none']:6.1f}{row['real_db']['low']:6.1f}", flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
