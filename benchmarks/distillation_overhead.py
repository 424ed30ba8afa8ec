"""What a teacher costs in each step of a training, its pass over the samples done: at most 1.15 times a plain step.

    python benchmarks/distillation_overhead.py [--steps 40] [--rounds 7]

ResNet8 of MLPerf Tiny, batches of 128 random images; rows of the teacher from disk. Both loops run in turn, and the
ratio is that of the medians. The exit status is 1 where it is above 1.15.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
from _cases import ASSETS

from edgekit.artifact import TensorSpec
from edgekit.data import open_dataset
from edgekit.train import TeacherOutput, apply_distillation
from edgekit.train.feeding import Feed
from edgekit.train.loading import load_trainable

_BATCH = 128
_MOST = 1.15


def main() -> None:
    """Time both and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        plain, taught = _loops(Path(folder), options.steps * _BATCH)
        times: dict[str, list[float]] = {"plain": [], "with a teacher": []}
        for model, feed in (plain, taught):
            model.fit(feed.epoch(_BATCH, 0), verbose=0)  # traced, and not timed
        for seed in range(options.rounds):
            for name, (model, feed) in zip(times, (plain, taught), strict=True):
                began = time.perf_counter()
                model.fit(feed.epoch(_BATCH, seed), verbose=0)
                times[name].append(1000 * (time.perf_counter() - began) / options.steps)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["with a teacher"] / medians["plain"]
    shown = ", ".join(f"{name} {value:.1f} ms" for name, value in medians.items())
    print(f"step of {_BATCH} images: {shown}; ratio {ratio:.3f}, at most {_MOST}")
    sys.exit(ratio > _MOST)


def _loops(folder: Path, count: int) -> tuple[tuple[Any, Feed], tuple[Any, Feed]]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    np.savez(folder / "data.npz", x=images, y=generator.integers(0, 10, count))
    np.save(folder / "teacher.npy", generator.dirichlet(np.ones(10), count).astype(np.float32))
    rows = np.load(folder / "teacher.npy", mmap_mode="r")
    made = [load_trainable(ASSETS / "mlperf-tiny-ic" / "pretrainedResnet.h5").model for _ in range(2)]
    student = apply_distillation(made[1], [TeacherOutput("said", "softmax")])
    spec = TensorSpec(made[0].inputs[0].name, (None, 32, 32, 3), "float32")
    dataset = open_dataset(folder / "data.npz").bind((spec,))
    for model in (made[0], student):
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    return (made[0], Feed(dataset, (spec.name,))), (student, Feed(dataset, (spec.name,), {"said": rows}))


if __name__ == "__main__":
    main()
