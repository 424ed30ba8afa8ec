"""Weights of 4 bits by training and by quantization afterwards, on the same test images in pairs.

    python benchmarks/compression.py a_seventh --seeds 1 --work FOLDER
    python benchmarks/four_bits.py FOLDER/a_seventh/seed0/qat/qat.tflite

The model is the ResNet8 of MLPerf Tiny, calibrated on 500 training images. The exit status is 1 where training is not
at least a point better than the best of the others.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from _cases import ASSETS

import edgekit
from edgekit.workflows.before_after import before_and_after

_MODEL = ASSETS / "mlperf-tiny-ic" / "pretrainedResnet.h5"
_RECIPES = ("int4", "dynamic_wi4_afp32", "weight_only_wi4_afp32")
_CALIBRATION = 500


def main() -> None:
    """Quantize in each way and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("trained", type=Path, help="the .tflite file after training")
    trained = parser.parse_args().trained
    gains = []
    with TemporaryDirectory() as folder:
        calibration, test = Path(folder) / "calibration.npz", Path(folder) / "test.npz"
        for path, name, count in (
            (calibration, "cifar10_train20k", _CALIBRATION),
            (test, "cifar10_test5k", None),
        ):
            with np.load(ASSETS / "data" / f"{name}.npz", allow_pickle=False) as arrays:
                np.savez(path, x=arrays["x"][:count], y=arrays["y"][:count])
        for recipe in _RECIPES:
            output = Path(folder) / f"{recipe}.tflite"
            edgekit.quantize(
                _MODEL, output, recipe=recipe, calibration=calibration, calibration_samples=_CALIBRATION
            )
            found = before_and_after(output, trained, test)
            if found.drop is None:
                raise RuntimeError("top-1 has a drop")
            gains.append(-100 * found.drop.drop)
            print(f"{recipe} ({output.stat().st_size:,} B), then trained: {found.sentence()}", flush=True)
    print(f"training is {min(gains):+.2f} points better than the best of them, {trained.stat().st_size:,} B")
    sys.exit(min(gains) < 1)


if __name__ == "__main__":
    main()
