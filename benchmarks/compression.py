"""What the recipes of examples/compress reach on public models, with several seeds, on test images never trained on.

    python benchmarks/compression.py a_seventh [--seeds 3] [--work FOLDER] [--set prune.epochs=30]

For each seed the recipe is done by ``edgekit run`` and its last model compared with the float one, in pairs. A run that
was ended goes on where it was. The data and models are those of the folder that EDGEKIT_ASSETS names; the
MobileNet-like model is trained by benchmarks/models.py first, in FOLDER.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _cases import ASSETS
from _seeds import over_seeds
from models import trained

from edgekit import files
from edgekit.workflows.before_after import before_and_after

_RECIPES = Path(__file__).parents[1] / "examples" / "compress"
_TINY = ASSETS / "mlperf-tiny-ic"
_LENET = ASSETS / "mnist-models" / "mobile-lenet-5.keras"


@dataclass(frozen=True)
class Case:
    """A recipe for a model: ``last`` is the step whose file counts, ``share`` the bytes that it may have."""

    recipe: str
    model: Path | None
    data: str
    last: str
    share: float | None
    teacher: Path | None = None
    changes: tuple[str, ...] = ()


_AUGMENTED = ('prune.augment="flip,shift:4"', 'qat.augment="flip,shift:4"')
_LARGE = _TINY / "pretrainedResnet_large_float.tflite"
CASES = {
    "a_seventh": Case("a_seventh", _TINY / "pretrainedResnet.h5", "cifar10", "qat", 1 / 7),
    "a_tenth": Case("a_tenth", _TINY / "pretrainedResnet.h5", "cifar10", "qat", 1 / 10, _LARGE),
    "lenet": Case("a_twentieth", _LENET, "mnist", "qat", 1 / 20, _LENET),
    "mobilenet": Case("a_twentieth", None, "cifar10", "qat", 1 / 20, _LARGE, _AUGMENTED),
    "half_the_macs": Case("half_the_macs", None, "cifar10", "pruned-int8", None, _LARGE, _AUGMENTED[:1]),
}


def main() -> None:
    """Do a case with each seed; a line for each, and their mean with its interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keep models and runs in this folder")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="STEP.OPTION=VALUE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        drops = [
            _once(CASES[options.case], work / options.case, seed, options.changes)
            for seed in range(options.seeds)
        ]
    print(f"{options.case}: drop {over_seeds([100 * drop for drop in drops], 'points')}")


def _once(case: Case, work: Path, seed: int, changes: list[str]) -> float:
    """Train with one seed and compare; gives the drop in 0..1."""
    began = time.monotonic()
    model = case.model or trained(work.parent)
    train, test = _data(work.parent, case.data)
    float_tflite = _float_twin(model, work.parent)
    path = _RECIPES / f"{case.recipe}.toml"
    recipe = path.read_text(encoding="utf-8")
    own = {f"{step}.seed": seed for step in ("prune", "qat") if f'do = "{step}"' in recipe}
    own |= {"data.train": str(train), "data.test": str(test), "recipe.model": str(model)}
    if "calibration" in recipe:
        own["data.calibration"] = str(train)
    if case.teacher:
        own |= {
            f"{step}.teacher.model": str(case.teacher) for step in ("prune", "qat") if f"{step}.seed" in own
        }
    if case.share and case.recipe == "a_twentieth":
        budget = int(case.share * float_tflite.stat().st_size)
        own |= {"prune.target_size": budget - 100, "check.size_bytes": budget}
    given = [f"--set={name}={json.dumps(value)}" for name, value in own.items()]
    given += [f"--set={change}" for change in (*case.changes, *changes)]
    run = work / f"seed{seed}"
    command = [sys.executable, "-m", "edgekit", "run", str(path)]
    done = subprocess.run([*command, f"--work={run}", *given], check=False)
    last = run / case.last / f"{case.last}.tflite"
    if not last.is_file():
        sys.exit(f"the run ended with {done.returncode}")
    found = before_and_after(float_tflite, last, test)
    if found.drop is None:
        raise RuntimeError("top-1 has a drop")
    size, whole = last.stat().st_size, float_tflite.stat().st_size
    print(
        f"seed {seed}: {size:,} of {whole:,} B (1/{whole / size:.1f}), gzip {files.gzip_bytes(last):,} B; "
        f"{found.sentence()}; checks: exit {done.returncode} ({time.monotonic() - began:.0f} s)",
        flush=True,
    )
    return found.drop.drop


def _float_twin(model: Path, folder: Path) -> Path:
    """The model as a float ``.tflite`` file: what the bytes and the accuracy are compared with."""
    from edgekit.train.export import export_float
    from edgekit.train.loading import load_trainable

    path = folder / f"{model.stem}.float.tflite"
    if not path.is_file():
        export_float(load_trainable(model).model, path)
    return path


def _data(folder: Path, name: str) -> tuple[Path, Path]:
    """Training and test samples, which the model takes as they are."""
    pairs = {"cifar10": ("cifar10_train20k", "cifar10_test5k"), "mnist": ("mnist_train60k", "mnist_test5k")}
    paths = tuple(folder / f"{part}.npz" for part in pairs[name])
    for path in paths:
        if not path.is_file():
            with np.load(ASSETS / "data" / path.name, allow_pickle=False) as arrays:
                x, y = arrays["x"], arrays["y"].ravel().astype(np.int64)
            if name == "mnist":
                x = (x / np.float32(255)).astype(np.float32)
            np.savez(path, x=x, y=y)
    return paths[0], paths[1]


if __name__ == "__main__":
    main()
