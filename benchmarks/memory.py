"""Does memory grow with the number of samples? Wanted: at most 150 MB more for 60,000 than for 600.

    python benchmarks/memory.py

Runs ``edgekit evaluate`` and ``edgekit quantize`` on MNIST's training set and on a hundredth of it, and adds up
the proportional set size (Pss) of the process and its children every 20 ms; the largest sum counts.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LIMIT_BYTES = 150_000_000
_EVERY_S = 0.02


def peak_bytes(command: list[str]) -> int:
    """The largest sum of Pss over a command's process tree."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_pss_bytes(pid) for pid in _tree(process.pid)))
        time.sleep(_EVERY_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{process.stderr.read() if process.stderr else ''}")
    return peak


def _tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            found += _tree(int(child))
    return found


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def main() -> int:
    """Compare both commands at both sizes; exit 1 where one grows beyond the limit."""
    assets = Path(os.environ.get("EDGEKIT_ASSETS", Path(__file__).parents[2] / "shared" / "assets"))
    model = assets / "mnist-models" / "conv_fc_mnist.tflite"
    status = 0
    with tempfile.TemporaryDirectory() as name, np.load(assets / "data" / "mnist_train60k.npz") as arrays:
        folder = Path(name)
        x, y = arrays["x"][..., None].astype(np.float32) / 255, arrays["y"]
        sizes = (600, len(x))
        for count in sizes:
            np.savez_compressed(folder / f"{count}.npz", x=x[:count], y=y[:count])
        del x
        output = ["-o", str(folder / "int8.tflite"), "--overwrite"]
        commands = {
            "evaluate": lambda data: ["edgekit", "evaluate", str(model), "--data", data],
            "quantize": lambda data: ["edgekit", "quantize", str(model), *output, "--calibration", data],
        }
        for verb, command in commands.items():
            small, large = (peak_bytes(command(str(folder / f"{count}.npz"))) for count in sizes)
            grown = large - small
            verdict = "within" if grown <= LIMIT_BYTES else "ABOVE"
            status |= grown > LIMIT_BYTES
            print(
                f"{verb}: {small / 1e6:.0f} MB on {sizes[0]} samples, {large / 1e6:.0f} MB on {sizes[1]}: "
                f"{grown / 1e6:+.0f} MB, {verdict} the limit of {LIMIT_BYTES / 1e6:.0f} MB",
                flush=True,
            )
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
