"""edgekit's QAT beside that of tensorflow-model-optimization: the same ResNet8, images, steps and learning rate.

tensorflow-model-optimization knows tf_keras models only, and is no dependency of edgekit: the first run makes an
environment for it in a folder of your choice, about 2 GB::

    python benchmarks/qat_beside_tfmot.py --environment ~/tfmot --images 4000 --epochs 2 --seeds 3

Each seed trains one model with either; the ``.tflite`` files are compared on the same test images, with an interval.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from _cases import ASSETS

import edgekit
from edgekit.workflows.before_after import before_and_after

_MODEL = ASSETS / "mlperf-tiny-ic" / "pretrainedResnet.h5"
_PACKAGES = ("tensorflow-cpu==2.21.0", "tf_keras==2.21.0", "tensorflow-model-optimization==0.8.1")


def main() -> None:
    """Train pairs, compare them, and print a line per seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=Path, required=True, help="folder of the other's environment")
    for option, default in (("--images", 4000), ("--epochs", 2), ("--batch-size", 64), ("--seeds", 3)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    options = parser.parse_args()
    python = _environment(options.environment)
    gains = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        train, test = _data(folder, options.images)
        for seed in range(options.seeds):
            began = time.monotonic()
            theirs, ours = folder / "tfmot.tflite", folder / "edgekit.tflite"
            common = {
                "epochs": options.epochs,
                "batch_size": options.batch_size,
                "learning_rate": options.learning_rate,
                "seed": seed,
            }
            job = {"model": str(_MODEL), "train": str(train), "output": str(theirs), **common}
            child = Path(__file__).with_name("_tfmot.py")
            subprocess.run([python, child, json.dumps(job)], check=True, stderr=subprocess.DEVNULL)
            edgekit.qat(
                _MODEL,
                folder / "edgekit.keras",
                train_data=train,
                optimizer="adam",
                tflite=str(ours),
                overwrite=True,
                **common,
            )
            found = before_and_after(theirs, ours, test)
            if found.drop is None:
                raise RuntimeError("top-1 has a drop")
            gains.append(-100 * found.drop.drop)
            sizes = " and ".join(f"{path.stat().st_size:,}" for path in (theirs, ours))
            text = f"seed {seed}, TFMOT before and edgekit after: {found.sentence()}; {sizes} bytes"
            print(f"{text} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"edgekit is {statistics.fmean(gains):+.2f} points from TFMOT, the mean of {len(gains)} seeds")


def _environment(folder: Path) -> Path:
    """The Python of the environment, which is made where it is missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *_PACKAGES], check=True)
    return python


def _data(folder: Path, images: int) -> tuple[Path, Path]:
    with np.load(ASSETS / "data" / "cifar10_train20k.npz") as arrays:
        np.savez(folder / "train.npz", x=arrays["x"][:images], y=arrays["y"][:images])
    return folder / "train.npz", ASSETS / "data" / "cifar10_test5k.npz"


if __name__ == "__main__":
    main()
