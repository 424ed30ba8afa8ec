"""The whole story on a small real model, offline: quantize, evaluate, benchmark, one table and one page.

It stands above the verbs because it is the one thing that puts them together; it does nothing that the
commands it lists do not do.
"""

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.artifact import Artifact, lineage_path
from edgekit.catalog import data_folder
from edgekit.errors import DependencyError, OutputError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.interleaved import BenchmarkOptions
from edgekit.pages.demo import page
from edgekit.verbs.benchmark import Benchmark, benchmark
from edgekit.verbs.evaluate import Evaluation, PairedDrop, evaluate, paired
from edgekit.verbs.quantize import Quantized, quantize

Progress = Callable[[int, int], None]

_KERAS, _TFLITE, _CALIBRATION, _TEST = "model.keras", "model.tflite", "calibration.npz", "test.npz"
_RECIPES = {
    "float16": "float16.tflite",
    "dynamic_wi8_afp32": "dynamic.tflite",
    "static_wi8_ai8": "int8.tflite",
}
_PAGE = "demo.html"
_LATENCY_FIELDS = ("latency_ms", "noise", "runtime", "runtime_version", "delegate", "threads")
_NEXT = (
    "edgekit quantize MODEL -o model.int8.tflite -r int8 --calibration DATA --evaluate LABELLED_DATA",
    "edgekit benchmark model.int8.tflite",
)


@dataclass(frozen=True)
class Row:
    """One file of the table. ``drop`` is against the first row; shipped files have none."""

    artifact: Artifact
    recipe: str
    evaluation: Evaluation
    quantized: Quantized | None = None
    drop: PairedDrop | None = None

    @property
    def name(self) -> str:
        """The file's name, which is unique in the folder."""
        return self.artifact.path.name

    def describe(self) -> dict[str, Any]:
        """The row as it stands in the JSON document, without latencies."""
        found, drop, made = self.evaluation, self.drop, self.quantized
        lineage = json.loads(lineage_path(self.artifact.path).read_text()) if made else None
        return {
            "artifact": self.artifact.describe(),
            "recipe": self.recipe,
            "engine": made.engine if made else None,
            "ops": made.read_back.describe_operators() if made else None,
            "evaluation": {
                "metric": found.metric,
                "value": found.value,
                "ci95": list(found.ci95),
                "n": found.n,
                "runtime": found.runtime,
                **({**asdict(drop), "drop_ci95": list(drop.drop_ci95)} if drop else {}),
            },
            "lineage": lineage,
        }


@dataclass(frozen=True)
class Demo:
    """What the demo made and measured."""

    folder: Path
    rows: tuple[Row, ...]
    benchmark: Benchmark
    commands: tuple[str, ...]
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def page(self) -> Path:
        """The page for a browser."""
        return self.folder / _PAGE

    def describe(self) -> dict[str, Any]:
        """The demo as it stands in the JSON document, and all that its page shows."""
        return self._document

    @cached_property
    def _document(self) -> dict[str, Any]:
        measured = self.benchmark.describe()
        latencies = {Path(model["model"]).name: model for model in measured["models"]}
        ratios = {Path(entry["candidate"]).name: entry for entry in measured["ratios"]}
        models = []
        for row in self.rows:
            # A file that no benchmarked runtime opens, such as the Keras model, has no latency.
            latency = latencies.get(row.name, {})
            taken = {field: latency.get(field) for field in _LATENCY_FIELDS}
            models.append({**row.describe(), **taken, "ratio": ratios.get(row.name)})
        return {
            "folder": str(self.folder),
            "page": str(self.page),
            "models": models,
            "conditions": measured["conditions"],
            "system": platform.platform(),
            "commands": list(self.commands),
            "next": list(_NEXT),
            "seconds": self.seconds,
        }


def demo(
    folder: str | Path = "edgekit-demo",
    *,
    overwrite: bool = False,
    seed: int = 0,
    tell: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Demo:
    """Copy the digits model into a folder, quantize it three ways, evaluate, benchmark, and write a page.

    Args:
        folder: Where to work; made where it does not exist.
        overwrite: Replace files of an earlier demo.
        seed: For the choice of samples and the intervals.
        tell: Told each command as it begins.
        progress: Called with the number of steps done and of all.

    Raises:
        OutputError: The folder holds something, or cannot be written.
    """
    started, path = time.perf_counter(), Path(folder)
    _prepare(path, overwrite=overwrite)
    findings: list[Finding] = []
    source = _source(path, findings)
    steps = planned(source.path.name, seed=seed)
    story = _Story(path, seed, steps, tell or _ignore, progress or _ignore)
    rows = [story.evaluated(source)]
    if source.path.name != _TFLITE:
        rows.append(story.evaluated(open_artifact(path / _TFLITE)))
    rows += [story.quantized(rows[0], recipe, name) for recipe, name in _RECIPES.items()]
    measured = story.benchmarked()
    result = Demo(
        folder=path,
        rows=tuple(rows),
        benchmark=measured,
        commands=steps,
        findings=tuple(dict.fromkeys([*findings, *story.findings, *measured.findings])),
        seconds=time.perf_counter() - started,
    )
    described = [finding.describe() for finding in result.findings]
    files.write_bytes(result.page, page(result.describe(), described).encode())
    return result


def planned(source: str = _KERAS, *, seed: int = 0) -> tuple[str, ...]:
    """The commands that the demo stands for, to be run in its folder; does nothing.

    Args:
        source: The model that the others are made from.
        seed: For the choice of samples and the order of measuring.
    """
    seed_option = f" --seed {seed}" if seed else ""
    judged = f"--evaluate {_TEST} --metric top1 --overwrite{seed_option}"
    return (
        *(
            f"edgekit evaluate {name} --data {_TEST} --metric top1"
            for name in dict.fromkeys([source, _TFLITE])
        ),
        *(
            f"edgekit quantize {source} -o {name} -r {recipe} --calibration {_CALIBRATION} {judged}"
            for recipe, name in _RECIPES.items()
        ),
        f"edgekit benchmark {' '.join([_TFLITE, *_RECIPES.values()])} --data {_TEST}{seed_option}",
    )


def _source(folder: Path, findings: list[Finding]) -> Artifact:
    """The Keras model, or the ``.tflite`` where TensorFlow is not installed."""
    try:
        return open_artifact(folder / _KERAS)
    except DependencyError as error:
        text = f"TensorFlow is not installed: the demo began from {_TFLITE}, not from {_KERAS}."
        findings.append(Finding("EK370", text, error.hint, Level.NOTE))
        return open_artifact(folder / _TFLITE)


class _Story:
    """The steps of the demo, and what they noticed."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        steps: Sequence[str],
        tell: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self._folder = folder
        self._seed = seed
        self._steps = steps
        self._tell = tell
        self._progress = progress
        self._done = 0
        self.findings: list[Finding] = []

    def evaluated(self, artifact: Artifact) -> Row:
        """A model as it is shipped, and how good it is on the test samples."""
        self._begin()
        return Row(artifact, "float32", self._evaluate(artifact))

    def quantized(self, before: Row, recipe: str, name: str) -> Row:
        """A file made by a recipe, and how much worse it is on the same samples."""
        self._begin()
        made = quantize(
            before.artifact.path,
            self._folder / name,
            recipe=recipe,
            calibration=self._folder / _CALIBRATION,
            overwrite=True,
            seed=self._seed,
        )
        self._keep(name, made.findings)
        after = self._evaluate(made.artifact)
        return Row(made.artifact, recipe, after, made, paired(before.evaluation, after))

    def benchmarked(self) -> Benchmark:
        """The latencies of all .tflite files, measured in turn."""
        self._begin()
        options = BenchmarkOptions(data=str(self._folder / _TEST), seed=self._seed)
        return benchmark([self._folder / name for name in (_TFLITE, *_RECIPES.values())], options)

    def _evaluate(self, artifact: Artifact) -> Evaluation:
        found = evaluate(artifact, self._folder / _TEST, metric="top1")
        self._keep(artifact.path.name, found.findings)
        return found

    def _keep(self, name: str, findings: Sequence[Finding]) -> None:
        """Remember findings, each with the file that it is about."""
        self.findings += [
            replace(found, message=f"{name}: {found.message.removeprefix(f'{name}: ')}") for found in findings
        ]

    def _begin(self) -> None:
        self._progress(self._done, len(self._steps))
        self._tell(self._steps[self._done])
        self._done += 1


def _prepare(folder: Path, *, overwrite: bool) -> None:
    """Make the folder and copy the model and data into it.

    Raises:
        OutputError: The folder holds something, its parent does not exist, or it cannot be written.
    """
    if folder.is_file():
        raise OutputError("EK602", f"{folder} is a file.", "Give the name of a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise OutputError("EK602", f"{folder} exists already.", "Choose another folder, or add --overwrite.")
    if not folder.is_dir():
        files.check_output(folder, overwrite=False)
        folder.mkdir()
    for name in (_KERAS, _TFLITE, _CALIBRATION, _TEST):
        files.check_output(folder / name, overwrite=True)
        files.copy_file(data_folder("examples") / "digits" / name, folder / name)


def _ignore(*_: Any) -> None:
    """Nobody is watching."""
