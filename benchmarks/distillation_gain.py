"""What a teacher is worth: the same student trained with it and alone, on the same images, several seeds.

The student is the ResNet8 of MLPerf Tiny at half its width, the teacher that benchmark's larger float variant::

    python benchmarks/distillation_gain.py --images 8000 --epochs 40 --seeds 3
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from _cases import ASSETS
from _seeds import over_seeds

import edgekit
from edgekit.teacher_pass import Teacher
from edgekit.workflows.before_after import BeforeAfter, before_and_after

_MODELS = ASSETS / "mlperf-tiny-ic"
_TEACHER = _MODELS / "pretrainedResnet_large_float.tflite"


@dataclass(frozen=True)
class Setting:
    """How both students are trained."""

    images: int
    epochs: int
    learning_rate: float
    temperature: float
    alpha: float
    width: float
    standardize: bool


def main() -> None:
    """Train pairs of students and compare them on the test images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=0.002)
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--alpha", type=float, default=0.9)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--standardize", action=argparse.BooleanOptionalAction, default=True)
    options = vars(parser.parse_args())
    seeds = options.pop("seeds")
    setting = Setting(**options)
    print(setting, flush=True)
    gains = []
    with TemporaryDirectory() as folder:
        train, test = _data(Path(folder), setting.images)
        for seed in range(seeds):
            began = time.monotonic()
            alone = _trained(Path(folder), train, setting, seed=seed, alpha=0.0)
            taught = _trained(Path(folder), train, setting, seed=seed, alpha=setting.alpha)
            found = before_and_after(alone, taught, test)
            gains.append(_gain(found))
            print(f"seed {seed}: {found.sentence()} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"gain {over_seeds(gains, 'points')}")


def _data(folder: Path, images: int) -> tuple[Path, Path]:
    with np.load(ASSETS / "data" / "cifar10_train20k.npz") as arrays:
        np.savez(folder / "train.npz", x=arrays["x"][:images], y=arrays["y"][:images])
    with np.load(ASSETS / "data" / "cifar10_test5k.npz") as arrays:
        np.savez(folder / "test.npz", x=arrays["x"], y=arrays["y"])
    return folder / "train.npz", folder / "test.npz"


def _trained(folder: Path, train: Path, setting: Setting, *, seed: int, alpha: float) -> Path:
    name = f"student-{seed}-{alpha:g}"
    edgekit.distill(
        _MODELS / "pretrainedResnet.h5",
        folder / f"{name}.keras",
        teacher=Teacher(
            _TEACHER, temperature=setting.temperature, alpha=alpha, standardize=setting.standardize
        ),
        train_data=train,
        epochs=setting.epochs,
        student=f"width:{setting.width}",
        optimizer="adam",
        learning_rate=setting.learning_rate,
        learning_rate_decay="cosine",
        augment="flip,shift:4",
        seed=seed,
        tflite=str(folder / f"{name}.tflite"),
    )
    return folder / f"{name}.tflite"


def _gain(found: BeforeAfter) -> float:
    if found.drop is None:
        raise RuntimeError("top-1 has a drop")
    return -100 * found.drop.drop


if __name__ == "__main__":
    main()
