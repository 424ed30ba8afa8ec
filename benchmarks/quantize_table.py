"""Float and quantized accuracy of the public models, recipe by recipe, and against the bare engines.

    python benchmarks/quantize_table.py [--recipe int8 int4:high ...] [--case ic ...] [--bare] [--samples N]

One row per model and recipe (with another effort than the default behind a colon): the metric before and after on the
same samples, the paired drop with its 95% interval, the SNR of the outputs on them (of what goes into a final softmax
or sigmoid), bytes, median latency, seconds, the engine that was kept, and the operators that stayed float. With --bare
the engines underneath quantize the same model to int8 on the same calibration data, by scripts that a user would write
(benchmarks/bare/; ai-edge-quantizer by each of its algorithms that quantizes convolutions in this way), are measured
on the same samples, and paired with edgekit's own int8 file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _cases import CALIBRATION_COUNT, CASES, Case

import edgekit
from edgekit import tensorflow_process
from edgekit.artifact import Format
from edgekit.interleaved import BenchmarkOptions
from edgekit.logits import logits_snr_db
from edgekit.operators import operators
from edgekit.passes.add_signature import add_signature

RECIPES = ("int8", "dynamic", "float16", "int16x8")
_BARE = Path(__file__).parent / "bare"
_LATENCY_S = 0.5
# Of its algorithms the others leave everything float when activations are quantized too.
_AEQ_ALGORITHMS = ("min_max_uniform_quantize", "OCTAV", "MSE")
_SNR_SAMPLES = 1000


def measure(case: Case, recipe: str, folder: Path, samples: int | None) -> dict[str, Any]:
    """Quantize one model by one recipe and judge the result."""
    calibration, test = case.data(folder)
    output = folder / f"{case.name}-{recipe.replace(':', '-')}{case.suffix}"
    row: dict[str, Any] = {"case": case.name, "recipe": recipe}
    name, _, effort = recipe.partition(":")
    try:
        found = edgekit.quantize(
            case.path,
            output,
            recipe=name,
            effort=effort or "low",  # type: ignore[arg-type]
            calibration=calibration,
            overwrite=True,
        )
    except edgekit.EdgekitError as error:
        return row | {"error": f"{error.code} {error.message}"}
    described = found.describe()
    return row | {
        **_judged(case, output, test, samples),
        "logits_db": _logits_db(case, output, test, folder),
        "seconds": found.seconds,
        "size_bytes": output.stat().st_size,
        "source_bytes": found.source.size_bytes,
        "engine": found.engine,
        "float_ops": described["ops"]["float"],
        "ops": described["ops"]["total"],
        "snr_db": found.read_back.snr_db,
        "findings": sorted({finding.code for finding in found.findings}),
    }


def bare(case: Case, folder: Path, samples: int | None) -> Iterator[dict[str, Any]]:
    """The engines underneath, used as a user would, on the same calibration data."""
    calibration, test = case.data(folder)
    for name, script, model, more in _bare_ways(case, folder):
        output = folder / f"{case.name}-{name}{case.suffix}"
        command = [sys.executable, str(_BARE / script), str(model), str(calibration), str(CALIBRATION_COUNT)]
        started = time.perf_counter()
        done = subprocess.run([*command, str(output), *more], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        row: dict[str, Any] = {"case": case.name, "recipe": f"bare {name}"}
        if done.returncode or not output.is_file():
            yield row | {
                "error": (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1][:100]
            }
            continue
        try:
            yield row | {
                **_judged(case, output, test, samples),
                **_ours_against(output, folder / f"{case.name}-int8{case.suffix}", case, test, samples),
                "logits_db": _logits_db(case, output, test, folder),
                "seconds": seconds,
                "size_bytes": output.stat().st_size,
                **_float_operators(output),
            }
        except edgekit.EdgekitError as error:
            yield row | {"error": f"{error.code} {error.message[:100]}"}


def _bare_ways(case: Case, folder: Path) -> Iterator[tuple[str, str, Path, list[str]]]:
    """The name of a way, its script, what it reads, and further arguments."""
    source = edgekit.open_artifact(case.path)
    if source.format is Format.ONNX:
        yield "onnxruntime", "ort_static.py", case.path, []
        yield "onnxruntime per channel", "ort_static.py", case.path, ["per-channel"]
        return
    if source.format is not Format.TFLITE:
        yield "tflite-converter", "tflite_converter.py", case.path, []
    for algorithm in _AEQ_ALGORITHMS:
        yield f"ai-edge-quantizer {algorithm}", "aeq_static.py", _float_file(case, folder), [algorithm]


def _float_file(case: Case, folder: Path) -> Path:
    """The float model in the format that it is quantized to; a .tflite has a signature, which bare engines want."""
    source = edgekit.open_artifact(case.path)
    model = folder / f"{case.name}-float{case.suffix}"
    if source.format is Format.ONNX:
        return case.path
    if not model.exists() and source.format is Format.TFLITE:
        model.write_bytes(add_signature(case.path.read_bytes()))
    elif not model.exists():
        tensorflow_process.export_tflite(case.path, model, tensorflow_process.TFLiteExport())
    return model


def _logits_db(case: Case, output: Path, test: Path, folder: Path) -> float:
    """The SNR in dB of what goes into a final softmax or sigmoid, on 1,000 test samples, evenly spread."""
    original, dataset = edgekit.open_artifact(_float_file(case, folder)), _dataset(test, _SNR_SAMPLES)
    prepared = dataset.bind(original.inputs).preparation
    parts = [prepared(raw).inputs for raw in dataset.raw_batches(1)]
    inputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return logits_snr_db(original, edgekit.open_artifact(output), inputs)


def _ours_against(bare: Path, ours: Path, case: Case, test: Path, samples: int | None) -> dict[str, Any]:
    """What is lost on the way from a bare engine's int8 file to edgekit's, paired by sample."""
    if not ours.is_file():
        return {}
    judged = edgekit.before_and_after(bare, ours, _dataset(test, samples), metric=case.metric).describe()
    return {f"ours_{name}": judged[name] for name in ("drop", "drop_ci95")} if judged["before"] else {}


def _float_operators(output: Path) -> dict[str, int]:
    """How many operators kept float weights, and of how many."""
    found = operators(output, edgekit.open_artifact(output).format)
    return {"float_ops": sum(one.has_float_weights for one in found), "ops": len(found)}


def _dataset(test: Path, samples: int | None) -> edgekit.Dataset:
    dataset = edgekit.open_dataset(test)
    return dataset.spread(samples) if samples is not None and samples < dataset.count else dataset


def _judged(case: Case, output: Path, test: Path, samples: int | None) -> dict[str, Any]:
    judged = edgekit.before_and_after(
        case.path, output, _dataset(test, samples), metric=case.metric
    ).describe()
    report = edgekit.benchmark([output], BenchmarkOptions(max_seconds=_LATENCY_S))
    return {**judged, "latency_ms": report.models[0].describe()["latency_ms"]["median"]}


def sentence(row: dict[str, Any]) -> str:
    """A row of the Markdown table."""
    if "error" in row:
        return f"| {row['case']} | {row['recipe']} | {row['error']} |"
    if row["before"] is None:
        accuracy = (
            f"{row['metric']} {row['after']:.1f} dB [{', '.join(f'{x:.1f}' for x in row['after_ci95'])}] |"
        )
    else:
        low, high = (100 * limit for limit in row["drop_ci95"])
        accuracy = (
            f"{row['metric']} {100 * row['before']:.2f} → {100 * row['after']:.2f} | "
            f"{100 * row['drop']:+.2f} [{low:+.2f}, {high:+.2f}]"
        )
    ours = ""
    if "ours_drop" in row:
        low, high = (100 * limit for limit in row["ours_drop_ci95"])
        ours = f"edgekit's int8 {-100 * row['ours_drop']:+.2f} [{-high:+.2f}, {-low:+.2f}] "
    floats = f"{row['float_ops']}/{row['ops']}" if "ops" in row else ""
    return (
        f"| {row['case']} | {row['recipe']} | {row['n']} | {accuracy} | {row['size_bytes']:,} | "
        f"{row['latency_ms']:.3f} | {row['logits_db']:.1f} dB | {row['seconds']:.1f} s | "
        f"{row.get('engine', '')} | {floats} | {ours}{' '.join(row.get('findings', []))} |"
    )


def main() -> int:
    """Measure what was asked for, print the table row by row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", nargs="+", default=list(RECIPES))
    parser.add_argument("--case", nargs="+", default=[case.name for case in CASES])
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--samples", type=int, help="test on so many samples, evenly spread")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    print(
        "| model | recipe | n | metric | drop in points [95%] | bytes | median ms | logits | time "
        "| engine | float ops | findings |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in CASES:
            if case.name not in arguments.case:
                continue
            found = [measure(case, recipe, folder, arguments.samples) for recipe in arguments.recipe]
            found += bare(case, folder, arguments.samples) if arguments.bare else []
            for row in found:
                print(sentence(row), flush=True)
            rows += found
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
