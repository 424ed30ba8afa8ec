"""What a teacher is worth: the same student trained with it and alone, on the same images, several seeds.

The student is the ResNet8 of MLPerf Tiny with two fifths of its MACs, pruned once without a teacher, and the teacher
that benchmark's larger float variant. Both students have the same options but for the weight of the teacher::

    python benchmarks/distillation_gain.py --images 4000 --epochs 30 --seeds 3
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
    macs: str
    standardize: bool


def main() -> None:
    """Train pairs of students and compare them on the test images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--alpha", type=float, default=0.9)
    parser.add_argument("--macs", default="40%", help="what the student keeps of the model's")
    parser.add_argument("--standardize", action=argparse.BooleanOptionalAction, default=True)
    options = vars(parser.parse_args())
    seeds = options.pop("seeds")
    setting = Setting(**options)
    print(setting, flush=True)
    gains = []
    with TemporaryDirectory() as folder:
        train, test = _data(Path(folder), setting.images)
        student = _pruned(Path(folder), train, setting.macs)
        for seed in range(seeds):
            began = time.monotonic()
            alone = _trained(student, train, setting, seed=seed, alpha=0.0)
            taught = _trained(student, train, setting, seed=seed, alpha=setting.alpha)
            found = before_and_after(alone, taught, test)
            gains.append(_gain(found))
            print(f"seed {seed}: {found.sentence()} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"gain {over_seeds(gains, 'points')}")


def _data(folder: Path, images: int) -> tuple[Path, Path]:
    with np.load(ASSETS / "data" / "cifar10_train20k.npz") as arrays:
        np.savez(
            folder / "train.npz", x=arrays["x"][:images], y=arrays["y"][:images].ravel().astype(np.int64)
        )
    with np.load(ASSETS / "data" / "cifar10_test5k.npz") as arrays:
        np.savez(folder / "test.npz", x=arrays["x"], y=arrays["y"].ravel().astype(np.int64))
    return folder / "train.npz", folder / "test.npz"


def _pruned(folder: Path, train: Path, macs: str) -> Path:
    edgekit.prune(
        _MODELS / "pretrainedResnet.h5",
        folder / "student.keras",
        train_data=train,
        structured=True,
        target_macs=macs,
        multiple=2,
        epochs=1,
        optimizer="adam",
        learning_rate=1e-3,
        scale_learning_rate=True,
        benchmark=False,
    )
    return folder / "student.keras"


def _trained(student: Path, train: Path, setting: Setting, *, seed: int, alpha: float) -> Path:
    output = student.with_name(f"student-{seed}-{alpha:g}.keras")
    edgekit.distill(
        student,
        output,
        teacher=Teacher(
            _TEACHER, temperature=setting.temperature, alpha=alpha, standardize=setting.standardize
        ),
        train_data=train,
        epochs=setting.epochs,
        optimizer="adam",
        learning_rate=setting.learning_rate,
        learning_rate_decay="cosine",
        scale_learning_rate=True,
        augment="flip,shift:4",
        seed=seed,
        tflite=str(output.with_suffix(".tflite")),
    )
    return output.with_suffix(".tflite")


def _gain(found: BeforeAfter) -> float:
    if found.drop is None:
        raise RuntimeError("top-1 has a drop")
    return -100 * found.drop.drop


if __name__ == "__main__":
    main()
