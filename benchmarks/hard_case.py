"""The hard case of int8: a depthwise-separable network whose channels were unbalanced on purpose.

    python benchmarks/hard_case.py [--work FOLDER] [--epochs N] [--largest 1000] [--seed 0] [--effort low ...]

The network of _hard_model.py is trained on CIFAR-10 (once for a folder), its channels are scaled by powers of two
between 1 and --largest, and both float models are quantized to int8: by the engines underneath as a user would call
them (benchmarks/bare/), and by edgekit. One row for each: accuracy on 5,000 test images, the paired drop with its 95%
interval, SNR of the logits, bytes and seconds. The data are those of the folder that EDGEKIT_ASSETS names.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _cases import CALIBRATION_COUNT, CASES
from _hard_model import EPOCHS, LARGEST_SCALE, trained, unbalanced

import edgekit
from edgekit import tensorflow_process
from edgekit.artifact import lineage_path

_BARE = Path(__file__).parent / "bare"


def bare(script: str, model: Path, calibration: Path) -> Callable[[Path], object]:
    """An engine underneath, called by a script that a user would write."""
    command = [sys.executable, str(_BARE / script), str(model), str(calibration), str(CALIBRATION_COUNT)]

    return lambda output: subprocess.run([*command, str(output)], capture_output=True, check=True)


def ours(model: Path, calibration: Path, **options: str) -> Callable[[Path], object]:
    """``edgekit quantize --recipe int8``."""
    return lambda output: edgekit.quantize(model, output, recipe="int8", calibration=calibration, **options)  # type: ignore[arg-type]


def row(name: str, reference: Path, test: Path, make: Callable[[Path], object], output: Path) -> str:
    """Quantize by one method, and judge the file against the float model."""
    began = time.monotonic()
    try:
        make(output)
    except (edgekit.EdgekitError, subprocess.CalledProcessError) as error:
        return f"| {name} | failed: {error} |"
    seconds = time.monotonic() - began
    judged = edgekit.before_and_after(reference, output, test, metric="top1").describe()
    snr = edgekit.before_and_after(reference, output, test, metric="snr").describe()["after"]
    low, high = (100 * limit for limit in judged["drop_ci95"])
    return (
        f"| {name} | {judged['n']} | {100 * judged['before']:.2f} → {100 * judged['after']:.2f} | "
        f"{100 * judged['drop']:+.2f} [{low:+.2f}, {high:+.2f}] | {snr:.1f} | {output.stat().st_size:,} | "
        f"{seconds:.1f} |"
    )


def main() -> None:
    """Train or find the network, and print the table row by row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="keep the trained network and all files in this folder")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--largest", type=float, default=LARGEST_SCALE, help="largest factor of a channel")
    parser.add_argument("--seed", type=int, default=0, help="of the training and of the factors")
    parser.add_argument("--effort", nargs="+", default=["low"], choices=["none", "low", "medium"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        balanced = trained(work, epochs=given.epochs, seed=given.seed)
        hard = unbalanced(balanced, work, largest=given.largest, seed=given.seed)
        calibration, test = CASES[0].data(work)
        print(
            "| float model and method | n | top-1 | drop in points [95%] | SNR of logits in dB | bytes | seconds |"
        )
        print("|---|---|---|---|---|---|---|", flush=True)
        print(
            row(
                "unbalanced, still float",
                balanced,
                test,
                lambda output: _export(hard, output),
                work / "float.tflite",
            )
        )
        for title, model in (("as trained", balanced), ("unbalanced", hard)):
            plain = work / f"{title}.tflite"
            _export(model, plain)
            methods = {
                "TFLiteConverter": bare("tflite_converter.py", model, calibration),
                "ai-edge-quantizer": bare("aeq_static.py", plain, calibration),
                "edgekit, --equalize never": ours(model, calibration, equalize="never"),
            }
            methods |= {
                f"edgekit, --effort {effort}": ours(model, calibration, effort=effort)
                for effort in given.effort
            }
            for name, make in methods.items():
                output = work / "quantized.tflite"
                for left in (output, lineage_path(output)):
                    left.unlink(missing_ok=True)
                print(row(f"{title}: {name}", model, test, make, output), flush=True)


def _export(model: Path, output: Path) -> None:
    output.unlink(missing_ok=True)
    tensorflow_process.export_tflite(model, output, tensorflow_process.TFLiteExport())


if __name__ == "__main__":
    main()
