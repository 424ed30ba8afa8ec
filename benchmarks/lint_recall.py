"""How many injected mistakes `edgekit lint` catches, by kind and model, and how often it finds some in clean sets.

    python benchmarks/lint_recall.py [--models ic kws ...] [--draws 3] [--clean 40] [--json FILE]

Calibration sets of 100 to 500 samples are drawn anew for every trial, with a reference of 64 samples and evaluation
data of up to 500 that share no sample with them (crops of photographs: no photograph). A mistake counts as caught where
the finding has the code of its kind. Each set is judged three times: with labels, --reference and --against; without
the reference; and with neither labels nor reference. The exit status is 1 where fewer than 90% are caught or more than
2% of the clean sets raise an alarm, with everything given.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _calibration_pools import HELD_BACK, POOLS, Arrays, Pool
from _cases import ASSETS

from edgekit import tensorflow_process
from edgekit.artifact import Artifact, Format
from edgekit.data import open_dataset
from edgekit.evidence import Evidence, gather
from edgekit.formats import open_artifact
from edgekit.linting import judged
from edgekit.statistics import wilson_interval
from edgekit.tensorflow_process import TFLiteExport

_SIZES = (100, 200, 350, 500)
_REFERENCE, _AGAINST = 64, 500
_CONDITIONS = ("all given", "no reference", "no labels, no reference")
_LEAST_CAUGHT, _MOST_ALARMS = 0.9, 0.02


@dataclass(frozen=True)
class Draw:
    """Disjoint samples of a pool: to calibrate, known to be right, to evaluate; and chance for what is done to them."""

    pool: Pool
    data: Arrays
    reference: Arrays
    against: Arrays
    generator: Any

    @property
    def count(self) -> int:
        """How many calibrate."""
        return len(self.data["x"])

    def rows(self, rows: Any) -> Arrays:
        """These of the samples."""
        return {key: values[rows] for key, values in self.data.items()}

    def changed(self, x: Any) -> Arrays:
        """The samples with other values."""
        return self.data | {"x": np.ascontiguousarray(x, np.float32)}


@dataclass(frozen=True)
class Kind:
    """A mistake: the code that has to name it, and what it does to a draw; None where it makes no sense for a pool."""

    name: str
    code: str
    make: Callable[[Draw], Arrays | None]


def _other_scale(draw: Draw) -> Arrays | None:
    if not draw.pool.range:
        return None
    return draw.changed(draw.data["x"] * 255 if draw.pool.range == "0..1" else draw.data["x"] / 255)


def _signed(draw: Draw) -> Arrays | None:
    if not draw.pool.range:
        return None
    return draw.changed(draw.data["x"] * (2 if draw.pool.range == "0..1" else 1 / 127.5) - 1)


def _channel_axis(draw: Draw) -> int | None:
    shape = draw.data["x"].shape
    return next((axis for axis in (1, 3) if len(shape) == 4 and shape[axis] == 3), None)


def _bgr(draw: Draw) -> Arrays | None:
    axis = _channel_axis(draw)
    return None if axis is None else draw.changed(np.flip(draw.data["x"], axis))


def _axes(draw: Draw) -> Arrays | None:
    """Every second time the axes as another framework has them; else these reshaped until they fit."""
    x, axis = draw.data["x"], _channel_axis(draw)
    if axis is None:
        is_long = draw.pool.name == "kws"
        return draw.changed(x[..., 0].swapaxes(1, 2).reshape(x.shape)) if is_long else None
    moved = np.ascontiguousarray(np.moveaxis(x, 1, -1) if axis == 1 else np.moveaxis(x, -1, 1))
    return draw.changed(moved if draw.generator.random() < 0.5 else moved.reshape(x.shape))


def _one(draw: Draw) -> Arrays:
    return draw.rows(np.zeros(draw.count, int))


def _copies(draw: Draw) -> Arrays:
    return draw.rows(draw.generator.integers(0, draw.count // 4, draw.count))


def _blank(draw: Draw) -> Arrays:
    x = draw.data["x"].copy()
    x[draw.generator.permutation(draw.count)[: draw.count // 20]] = 0
    return draw.changed(x)


def _sorted(draw: Draw) -> Arrays | None:
    return draw.rows(np.argsort(draw.data["y"], kind="stable")) if "y" in draw.data else None


def _missing(draw: Draw) -> Arrays | None:
    if "y" not in draw.data:
        return None
    classes = np.unique(draw.data["y"])
    left_out = draw.generator.permutation(classes)[: max(1, len(classes) // 5)]
    return draw.rows(np.flatnonzero(~np.isin(draw.data["y"], left_out)))


def _leak(draw: Draw) -> Arrays:
    leaked = min(draw.count // 4, len(draw.against["x"]))
    places = draw.generator.permutation(draw.count)[:leaked]
    changed = {key: values.copy() for key, values in draw.data.items()}
    for key, values in changed.items():
        values[places] = draw.against[key][:leaked]
    return changed


def _spot(draw: Draw, value: float) -> Arrays:
    x = draw.data["x"].copy()
    row = x[draw.generator.integers(draw.count)].reshape(-1)
    row[draw.generator.integers(row.size)] = value
    return draw.changed(x)


def _nan(draw: Draw) -> Arrays:
    return _spot(draw, draw.generator.choice([np.nan, np.inf]))


def _outlier(draw: Draw) -> Arrays:
    return _spot(draw, 10 * float(np.abs(draw.data["x"]).max()))


def _few(draw: Draw) -> Arrays:
    return draw.rows(np.arange(draw.generator.choice([5, 10, 25])))


KINDS = (
    Kind("0..255 and 0..1 exchanged", "EK240", _other_scale),
    Kind("-1..1", "EK240", _signed),
    Kind("BGR and RGB exchanged", "EK241", _bgr),
    Kind("NCHW and NHWC exchanged", "EK242", _axes),
    Kind("one sample repeated", "EK243", _one),
    Kind("5% blank", "EK244", _blank),
    Kind("sorted by class", "EK245", _sorted),
    Kind("a fifth of the classes missing", "EK246", _missing),
    Kind("drawn with copies", "EK247", _copies),
    Kind("a quarter leaked", "EK248", _leak),
    Kind("one NaN or infinity", "EK249", _nan),
    Kind("one value ten times too large", "EK250", _outlier),
    Kind("5, 10 or 25 samples", "EK251", _few),
)


class Bench:
    """A model with its pool, from which sets are drawn and linted."""

    def __init__(self, pool: Pool, folder: Path) -> None:
        self.pool, self._folder = pool, folder
        self._arrays = pool.load()
        self._artifact = _prepared(pool, folder)

    def draws(self, count: int, seed: int) -> Iterator[Draw]:
        """Sets of the usual sizes in turn, as far as the pool goes."""
        for number in range(count):
            generator = np.random.default_rng([seed, number, *self.pool.name.encode()])
            yield self._draw(_SIZES[number % len(_SIZES)], generator)

    def _draw(self, size: int, generator: Any) -> Draw:
        groups = self._arrays.get("photograph", np.arange(len(self._arrays["x"])))
        names = generator.permutation(np.unique(groups))
        parts, start = [], 0
        for share in (0.5, 0.1, 0.4):
            stop = start + round(share * len(names))
            parts.append(generator.permutation(np.flatnonzero(np.isin(groups, names[start:stop]))))
            start = stop
        arrays = {key: values for key, values in self._arrays.items() if key in {"x", "y"}}
        sizes = (size, _REFERENCE, _AGAINST)
        data, reference, against = (
            {key: values[part[:most]] for key, values in arrays.items()}
            for part, most in zip(parts, sizes, strict=True)
        )
        return Draw(self.pool, data, reference, against, generator)

    def found(self, arrays: Arrays, draw: Draw) -> dict[str, dict[str, str]]:
        """The findings by condition: codes with their sentences."""
        files = {}
        for name, given in (("data", arrays), ("reference", draw.reference), ("against", draw.against)):
            files[name] = self._folder / f"{name}.npz"
            np.savez(files[name], **given)
        evidence = gather(
            self._artifact,
            open_dataset(files["data"]),
            against=open_dataset(files["against"]),
            reference=open_dataset(files["reference"]),
        )
        return {
            condition: {line.code: line.judgement.evidence for line in judged(one) if line.is_mistake}
            for condition, one in zip(_CONDITIONS, _less_and_less(evidence), strict=True)
        }


def _less_and_less(evidence: Evidence) -> Iterator[Evidence]:
    yield evidence
    without = replace(evidence, reference=None)
    yield without
    yield replace(without, samples=replace(evidence.samples, labels=None))


def _prepared(pool: Pool, folder: Path) -> Artifact:
    """The model; Keras models are converted once, as lint does each time."""
    artifact = open_artifact(ASSETS / pool.model)
    if artifact.format not in {Format.KERAS, Format.SAVED_MODEL}:
        return artifact
    made = folder / f"{pool.name}.tflite"
    tensorflow_process.export_tflite(artifact.path, made, TFLiteExport())
    return open_artifact(made)


def measure(
    bench: Bench, *, draws: int, clean: int, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Trials with a mistake, and clean ones: each with what was found."""
    injected = []
    for kind in KINDS:
        for draw in bench.draws(draws, seed):
            arrays = kind.make(draw)
            if arrays is not None:
                trial = {"model": bench.pool.name, "kind": kind.name, "code": kind.code}
                injected.append(trial | {"found": bench.found(arrays, draw)})
    alarms = [
        {"model": bench.pool.name, "n": draw.count, "found": bench.found(draw.data, draw)}
        for draw in bench.draws(clean, seed + 1)
    ]
    print(
        f"{bench.pool.name}: {len(injected)} sets with a mistake, {len(alarms)} clean",
        file=sys.stderr,
        flush=True,
    )
    return injected, alarms


def share(hits: list[bool]) -> str:
    """``"97.1% [91.0, 99.2] of 68"``."""
    if not hits:
        return "none tried"
    low, high = wilson_interval(sum(hits), len(hits))
    return f"{100 * np.mean(hits):.1f}% [{100 * low:.1f}, {100 * high:.1f}] of {len(hits)}"


def show(injected: list[dict[str, Any]], alarms: list[dict[str, Any]], models: list[str]) -> bool:
    """Print the tables; whether the limits are kept with everything given."""
    print(f"{'kind':34}" + "".join(f"{model:>10}" for model in models))
    for kind in KINDS:
        cells = []
        for model in models:
            own = [t for t in injected if (t["model"], t["kind"]) == (model, kind.name)]
            caught = sum(t["code"] in t["found"][_CONDITIONS[0]] for t in own)
            cells.append(f"{caught} of {len(own)}" if own else "-")
        print(f"{kind.name:34}" + "".join(f"{cell:>10}" for cell in cells))
    print("-: makes no sense for this model\n")
    kept = True
    for condition in _CONDITIONS:
        hits = [t["code"] in t["found"][condition] for t in injected]
        false = [bool(t["found"][condition]) for t in alarms]
        print(f"{condition}: caught {share(hits)}, clean sets with an alarm {share(false)}")
        for kind in KINDS:
            own = [t["code"] in t["found"][condition] for t in injected if t["kind"] == kind.name]
            if own and not all(own):
                print(f"    {kind.name}: {share(own)}")
        for code in sorted({kind.code for kind in KINDS}):
            raised = [t for t in alarms if code in t["found"][condition]]
            for trial in raised[:3]:
                print(
                    f"    false alarm {code}, {trial['model']}, n = {trial['n']}: {trial['found'][condition][code]}"
                )
            if raised:
                print(f"    {code}: {share([code in t['found'][condition] for t in alarms])}")
        if condition == _CONDITIONS[0]:
            kept = bool(np.mean(hits) >= _LEAST_CAUGHT and np.mean(false) <= _MOST_ALARMS)
    return kept


def main() -> int:
    """Draw, spoil, lint, count, print; the exit status is 1 where the limits are not kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [pool.name for pool in POOLS]
    parser.add_argument(
        "--models", nargs="+", choices=names, default=[n for n in names if n not in HELD_BACK]
    )
    parser.add_argument("--draws", type=int, default=3, help="sets for each kind of mistake and model")
    parser.add_argument("--clean", type=int, default=40, help="clean sets for each model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    injected, alarms = [], []
    for pool in POOLS:
        if pool.name in options.models:
            with tempfile.TemporaryDirectory() as folder:
                bench = Bench(pool, Path(folder))
                mistakes, quiet = measure(bench, draws=options.draws, clean=options.clean, seed=options.seed)
            injected += mistakes
            alarms += quiet
    if options.json:
        options.json.write_text(json.dumps({"injected": injected, "clean": alarms}, indent=1))
    return 0 if show(injected, alarms, options.models) else 1


if __name__ == "__main__":
    sys.exit(main())
