"""``search``: a wide space of quantizations, by Optuna's samplers, in parallel processes or on a Ray cluster."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgekit import files
from edgekit.artifact import Artifact
from edgekit.data import Dataset
from edgekit.documents import plain
from edgekit.errors import DataError, OutputError, UsageError
from edgekit.findings import Finding, Level
from edgekit.pages.search import page
from edgekit.routes import output_format
from edgekit.workflows.searching.configuration import Configuration
from edgekit.workflows.searching.evaluator import Evaluator
from edgekit.workflows.searching.material import Asked, Material, labels_of
from edgekit.workflows.searching.outputs import MARK, write_front
from edgekit.workflows.searching.ranking import by_noise, harmed_layers
from edgekit.workflows.searching.setting import (
    Report,
    Setting,
    check_metric,
    cores,
    data_of,
    opened,
    overlaps,
)
from edgekit.workflows.searching.space import Space, sparing
from edgekit.workflows.searching.study import Sampler, Study, require
from edgekit.workflows.searching.tried import Objective, Tried, deaths, fronts

DEFAULT_TRIALS = 50
DEFAULT_GENERATION = 10


@dataclass(frozen=True, eq=False)
class Search:
    """All trials of a search, and which of them no other beats in all objectives.

    ``asked`` says how many trials were wanted; ``storage`` is where the search goes on, None where nothing was kept.
    """

    source: Artifact
    asked: int
    objectives: tuple[Objective, ...]
    sampler: Sampler
    generation: int
    seed: int
    space: Space
    data: str
    metric: str
    unit: str
    tried: tuple[Tried, ...]
    storage: Path | None
    output: Path | None
    workers: int | None
    ray: str | None
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def on_front(self) -> list[bool]:
        """Which of the trials stand on the front, in their order."""
        return fronts(self.tried, self.objectives)

    @property
    def front(self) -> tuple[Tried, ...]:
        """The trials of the front, the best in the first objective first."""
        chosen = [one for one, stands in zip(self.tried, self.on_front, strict=True) if stands]
        return tuple(sorted(chosen, key=lambda one: (one.cost(self.objectives[0]), one.number)))

    def describe(self) -> dict[str, Any]:
        """The search as it stands in JSON documents."""
        return {
            "source": self.source.describe(),
            "objectives": list(self.objectives),
            "sampler": self.sampler,
            "generation": self.generation,
            "seed": self.seed,
            "space": {name: list(values) for name, values in self.space.dimensions().items()},
            "data": self.data,
            "metric": self.metric,
            "unit": self.unit,
            "asked": self.asked,
            "tried": [
                one.describe(on_front=front) for one, front in zip(self.tried, self.on_front, strict=True)
            ],
            "front": [one.number for one in self.front],
            "storage": None if self.storage is None else str(self.storage),
            "output": None if self.output is None else str(self.output),
            "workers": self.workers,
            "ray": self.ray,
            "seconds": self.seconds,
        }

    def write_page(self, path: Path) -> None:
        """Write the front as one page that needs no network and no other file.

        Raises:
            OutputError: It cannot be written.
        """
        findings = [finding.describe() for finding in self.findings]
        files.write_bytes(path, page(plain(self.describe()), findings).encode())


@dataclass(frozen=True)
class _Wanted:
    """What decides a search's trials: the same of these is the same search."""

    objectives: tuple[Objective, ...]
    space: Space
    sampler: Sampler
    generation: int
    seed: int

    def study(self, asked: Asked, storage: Path | None) -> Study:
        """The search as Optuna keeps it."""
        return Study(
            storage,
            self.identity(asked),
            self.space,
            objectives=len(self.objectives),
            sampler=self.sampler,
            generation=self.generation,
            seed=self.seed,
        )

    def identity(self, asked: Asked) -> dict[str, Any]:
        """What tells it from other searches."""
        found: dict[str, Any] = plain(
            {
                "asked": asked.identity,
                "objectives": self.objectives,
                "space": self.space.dimensions(),
                "knobs": self.space.knobs,
                "layers": self.space.layers,
                "sampler": self.sampler,
                "generation": self.generation,
                "seed": self.seed,
            }
        )
        return found


def search(
    model: str | Path,
    data: str | Path | Dataset,
    *,
    calibration: str | Path | Dataset | None = None,
    space: str | Path | Space | None = None,
    objectives: Sequence[Objective] = ("size", "drop"),
    format: str | None = None,  # noqa: A002 - the option's name
    trials: int = DEFAULT_TRIALS,
    time_budget_s: float | None = None,
    workers: int | None = None,
    ray: str | None = None,
    sampler: Sampler = "nsga2",
    generation: int = DEFAULT_GENERATION,
    storage: str | Path | None = None,
    resume: bool = False,
    output: str | Path | None = None,
    overwrite: bool = False,
    metric: str | None = None,
    preprocess: str | None = None,
    batch: int | None = 1,
    seed: int = 0,
    report: Report | None = None,
) -> Search:
    """Search a space of quantizations for those that no other beats in all objectives.

    The same seed gives the same trials with the same results, however many workers there are and however often the
    search was interrupted; that does not hold for latency as an objective, which is measured.

    Args:
        model: A Keras, SavedModel, TFLite or ONNX model.
        data: Labelled samples on which drops are measured. Judge the file that you choose on others.
        calibration: Data for static ranges; None leaves recipes out that need them.
        space: A TOML file of what may vary, or a ``Space``; None for everything.
        objectives: Of ``"size"``, ``"latency"``, ``"drop"`` and ``"snr"``, one or more.
        format: ``"tflite"`` or ``"onnx"``; that of the model, or ``.tflite``, when None.
        trials: How many configurations are asked for; equal ones are tried once.
        time_budget_s: After so many seconds no new trial begins.
        workers: How many trials run side by side: one per core when None, or as many as the cluster takes.
        ray: The address of a Ray cluster to run trials on.
        sampler: ``"nsga2"``, ``"tpe"``, ``"gp"`` (needs PyTorch) or ``"random"``.
        generation: How many configurations are asked for before the first answer counts.
        storage: A journal file, in which the search can go on; trials are kept in ``STORAGE.trials``.
        resume: Go on with the search in ``storage``.
        output: A folder for the front: model files, recipes, and the commands that make them again.
        overwrite: Replace ``output`` where it is such a folder.
        metric: The name of a metric that needs labels; chosen from labels and outputs when None.
        preprocess: The preprocessing contract of all data.
        batch: Size of the batch axis in the files, None for a free one.
        seed: Chooses configurations and calibration samples.
        report: Told of each trial as it is done.

    Raises:
        UsageError: An option does not fit, or the storage holds another search.
        ModelError: The model cannot be read or converted.
        DataError: The data do not fit the model, or the storage cannot be read.
        DependencyError: Optuna or Ray is not installed.
        DeviceError: There is no cluster at the address.
    """
    began = time.perf_counter()
    journal = None if storage is None else Path(storage)
    folder = None if output is None else Path(output)
    if folder is not None:
        files.check_output_folder(folder, MARK, overwrite=overwrite)
    asked, wanted, noticed = _wanted(
        model, data, calibration=calibration, space=space, objectives=objectives, format=format, sampler=sampler,
        generation=generation, metric=metric, preprocess=preprocess, batch=batch, seed=seed,
    )  # fmt: skip
    _check_storage(journal, resume=resume)
    many = workers or (None if ray is not None else cores())
    with ExitStack() as stack:
        kept = Path(stack.enter_context(TemporaryDirectory(prefix="edgekit-")))
        if journal is not None:
            kept = journal.with_name(f"{journal.name}.trials")
        setting = Setting(kept, many, ray, time_budget_s, report or (lambda _tried: None))
        timed, whole = "latency" in wanted.objectives, "tensorflow" in wanted.space.engines
        evaluator, material = stack.enter_context(
            setting.evaluator(asked, measures_latency=timed, uses_tensorflow=whole)
        )
        study = wanted.study(asked, journal)
        ranking = _ranking(material, asked, wanted.space)
        _explore(evaluator, study, asked, wanted, ranking=ranking, trials=trials)
        tried = tuple(evaluator.tried)
        stands = dict(zip((one.number for one in tried), fronts(tried, wanted.objectives), strict=True))
        evaluator.measure(lambda one: stands[one.number])
        found = Search(
            source=asked.source,
            asked=trials,
            objectives=wanted.objectives,
            sampler=sampler,
            generation=generation,
            seed=seed,
            space=wanted.space,
            data=asked.search.spec,
            metric=material.metric,
            unit=material.unit,
            tried=tuple(evaluator.tried),
            storage=journal,
            output=folder,
            workers=many,
            ray=ray,
            findings=tuple(dict.fromkeys((*noticed, *_findings(asked, wanted, evaluator, trials)))),
            seconds=time.perf_counter() - began,
        )
        if folder is not None:
            write_front(found.front, asked, folder, preprocess=preprocess)
    return found


def planned(model: str | Path, data: str | Path | Dataset, **options: Any) -> dict[str, Any]:
    """What ``search`` would do with these options, without running a model.

    Raises:
        EdgekitError: What ``search`` would raise before it converts the model.
    """
    names = (
        "calibration", "space", "objectives", "format", "sampler", "generation", "metric", "preprocess", "batch",
        "seed",
    )  # fmt: skip
    asked, wanted, _ = _wanted(model, data, **{name: options[name] for name in names if name in options})
    return {
        "source_format": asked.source.format.value,
        "output_format": asked.output_format.value,
        "space": {name: list(values) for name, values in wanted.space.dimensions().items()},
        "objectives": list(wanted.objectives),
        "sampler": wanted.sampler,
        "generation": wanted.generation,
        "trials": options.get("trials", DEFAULT_TRIALS),
        "samples": asked.search.count,
    }


def _wanted(
    model: str | Path,
    data: str | Path | Dataset,
    *,
    calibration: str | Path | Dataset | None = None,
    space: str | Path | Space | None = None,
    objectives: Sequence[Objective] = ("size", "drop"),
    format: str | None = None,  # noqa: A002 - the option's name
    sampler: Sampler = "nsga2",
    generation: int = DEFAULT_GENERATION,
    metric: str | None = None,
    preprocess: str | None = None,
    batch: int | None = 1,
    seed: int = 0,
) -> tuple[Asked, _Wanted, list[Finding]]:
    """All that can be refused before a model is run is refused here."""
    require(sampler)
    check_metric(metric)
    source, calibrating = opened(model, calibration=calibration, preprocess=preprocess)
    ending = format or ("onnx" if source.format.value == "onnx" else "tflite")
    wanted = output_format(Path(f"model.{ending}"), format)
    labelled, findings = data_of(data, preprocess, source)
    labels_of(labelled)
    chosen = space if isinstance(space, Space) else Space.usual(source.format, wanted)
    if isinstance(space, str | Path):
        chosen = Space.read(Path(space), source.format, wanted)
    if calibrating is None:
        chosen = chosen.without_calibration()
    if not objectives or len(set(objectives)) < len(objectives):
        raise UsageError("EK570", "The objectives are none, or one is given twice.", "--objective size")
    vary = "calibration_samples" in chosen.knobs
    asked = Asked(source, wanted, calibrating, labelled, metric, batch=batch, seed=seed, draws_vary=vary)
    return asked, _Wanted(tuple(objectives), chosen, sampler, generation, seed), findings


def _check_storage(storage: Path | None, *, resume: bool) -> None:
    if storage is None:
        if resume:
            raise UsageError(
                "EK579", "--resume needs --storage FILE.", "Name the file that the search is in."
            )
        return
    if resume and not storage.is_file():
        raise DataError("EK579", f"There is no search in {storage}.", "Leave --resume out to begin one.")
    if not resume:
        if storage.exists():
            raise OutputError(
                "EK579", f"{storage} exists already.", "Add --resume to go on with what is in it."
            )
        files.check_output(storage, overwrite=False)


def _explore(
    evaluator: Evaluator,
    study: Study,
    asked: Asked,
    wanted: _Wanted,
    *,
    ranking: dict[str, tuple[str, ...]],
    trials: int,
) -> None:
    """Ask, try and tell, generation after generation, until there are enough trials or the time is over."""

    def meant(point: dict[str, Any]) -> Configuration:
        return wanted.space.configuration(point, asked.source.format, asked.output_format, ranking)

    evaluator.run([meant(point) for point in study.finished], again=False)
    while not evaluator.is_over:
        batch = study.ask(trials)
        if not batch:
            return
        answered = evaluator.run([meant(point) for _, point in batch])
        if None in answered:
            return  # what is left of the generation is waiting in the storage
        for (trial, _), one in zip(batch, answered, strict=True):
            costs = [None if one is None else one.cost(objective) for objective in wanted.objectives]
            study.tell(trial, None if None in costs else [cost for cost in costs if cost is not None])


def _ranking(material: Material, asked: Asked, space: Space) -> dict[str, tuple[str, ...]]:
    if not space.spared:
        return {}
    return {
        recipe: by_noise(harmed_layers(material, recipe))[: space.spared]
        for recipe in space.recipes
        if set(sparing(recipe, asked.output_format)) & set(space.spared_as)
    }


def _findings(asked: Asked, wanted: _Wanted, evaluator: Evaluator, trials: int) -> list[Finding]:
    found = [*overlaps(asked.calibration, asked.search), *deaths(evaluator.tried)]
    if "latency" in wanted.objectives:
        text = (
            "Latency is an objective, and is measured: another search with this seed may find another front."
        )
        found.append(
            Finding("EK586", text, "Search for size, drop or snr, and benchmark the front.", Level.NOTE)
        )
    if len(evaluator.tried) < trials:
        text = f"The time was over after {len(evaluator.tried)} of {trials} trials."
        found.append(
            Finding("EK583", text, "Go on with --storage FILE --resume, or give more with --budget.")
        )
    return found
