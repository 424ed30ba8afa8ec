"""``auto_quantize``: the smallest or fastest file that loses no more than allowed, judged on data not searched on."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from edgekit import files
from edgekit.artifact import Artifact, lineage_path
from edgekit.catalog import load
from edgekit.data import Dataset
from edgekit.errors import ModelError, UsageError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.metrics import Drop
from edgekit.noninferiority import Verdict
from edgekit.passes.set_io import IOType
from edgekit.routes import output_format
from edgekit.verbs.evaluate import Evaluation, evaluate, paired
from edgekit.workflows.before_after import BeforeAfter
from edgekit.workflows.searching.climb import Climb, bases, knobs_searched
from edgekit.workflows.searching.evaluator import Evaluator
from edgekit.workflows.searching.material import Asked, halves, labels_of
from edgekit.workflows.searching.outputs import write_lineage
from edgekit.workflows.searching.setting import Report, Setting, check_metric, data_of, opened, overlaps
from edgekit.workflows.searching.tried import Objective, Tried, deaths, fronts

Progress = Callable[[int, int], None]

_ALPHA = 0.05
_POWER = 0.8
_EXIT = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 6}


@dataclass(frozen=True, eq=False)
class Judged:
    """The drop of the winner on samples that the search never looked at, and whether it is within the limit.

    ``limit`` is in the metric's unit: 0.005 is half a point. ``needed`` is about how many samples would tell, where
    these do not.
    """

    data: str
    before: Evaluation
    after: Evaluation
    drop: Drop
    limit: float
    verdict: Verdict
    needed: int | None

    def sentence(self) -> str:
        """The judgement for people, as ``quantize --evaluate`` says it."""
        return BeforeAfter(self.before, self.after, paired(self.before, self.after)).sentence()

    def limit_text(self) -> str:
        """The limit in its unit: ``0.5 points``."""
        return (
            f"{100 * self.limit:g} points"
            if self.after.unit == "fraction"
            else f"{self.limit:g} {self.after.unit}"
        )

    def describe(self) -> dict[str, Any]:
        """The judgement as it stands in JSON documents."""
        return {
            "data": self.data,
            "metric": self.after.metric,
            "n": self.drop.n,
            "before": self.before.value,
            "before_ci95": list(self.before.ci95),
            "after": self.after.value,
            "after_ci95": list(self.after.ci95),
            "drop": self.drop.value,
            "drop_ci95": list(self.drop.ci95),
            "broken": self.drop.broken,
            "fixed": self.drop.fixed,
            "limit": self.limit,
            "alpha": _ALPHA,
            "verdict": self.verdict.value,
            "needed": self.needed,
        }


@dataclass(frozen=True, eq=False)
class AutoQuantized:
    """The winner of a search, all that was tried, and the verdict.

    ``artifact`` is the file that was written; where the verdict is a fail nothing was, and it is the winner's file
    among the trials. ``searched`` says on which samples trials were compared.
    """

    artifact: Artifact
    source: Artifact
    winner: Tried
    tried: tuple[Tried, ...]
    judged: Judged
    objective: Objective
    searched: str
    trials: Path
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 where the drop is within the limit, 1 where it is not, 6 where the samples do not tell."""
        return _EXIT[self.judged.verdict]

    @property
    def on_front(self) -> list[bool]:
        """Which of the trials no other beats in both the objective and the drop."""
        return fronts(self.tried, (self.objective, "drop"))

    def describe(self) -> dict[str, Any]:
        """The result as it stands in the JSON document: that of ``quantize`` for the winner, and the search."""
        quantized = {**self.winner.document["quantized"], "seconds": self.seconds}
        return {
            **quantized,
            "artifact": self.artifact.describe(),
            "source": self.source.describe(),
            "lineage": str(lineage_path(self.artifact.path)),
            "objective": self.objective,
            "searched": self.searched,
            "trials": str(self.trials),
            "tried": [
                one.describe(on_front=front) for one, front in zip(self.tried, self.on_front, strict=True)
            ],
            "winner": self.winner.number,
            "judged": self.judged.describe(),
        }


def auto_quantize(
    model: str | Path,
    output: str | Path,
    data: str | Path | Dataset,
    *,
    max_drop: float,
    objective: Literal["size", "latency"] = "size",
    calibration: str | Path | Dataset | None = None,
    judge: str | Path | Dataset | None = None,
    metric: str | None = None,
    preprocess: str | None = None,
    format: str | None = None,  # noqa: A002 - the option's name
    io: IOType | None = None,
    batch: int | None = 1,
    time_budget_s: float | None = None,
    workers: int = 1,
    overwrite: bool = False,
    seed: int = 0,
    report: Report | None = None,
    progress: Progress | None = None,
) -> AutoQuantized:
    """Search for the best quantization that loses no more than ``max_drop``, and judge it on data not searched on.

    Trials are kept in a folder beside the output, ``OUTPUT.trials``: a search that was interrupted goes on there.

    Args:
        model: A Keras, SavedModel, TFLite or ONNX model.
        output: The file to write. None is written where the drop is found to be beyond the limit.
        data: Labelled samples; the search sees one half of every class, the other half judges.
        max_drop: The largest drop in points where the metric is a share, ``0.5``; else in the metric's unit.
        objective: What is to be small: the file, or its latency on this machine.
        calibration: Data for static ranges; None leaves recipes out that need them.
        judge: Other labelled samples to judge on; the search then sees all of ``data``.
        metric: The name of a metric that needs labels; chosen from labels and outputs when None.
        preprocess: The preprocessing contract of all data.
        format: ``"tflite"`` or ``"onnx"``; by the suffix of ``output`` when None.
        io: Type of quantized inputs and outputs; None for float32.
        batch: Size of the batch axis in the file, None for a free one.
        time_budget_s: After so many seconds no new trial begins.
        workers: How many trials run side by side.
        overwrite: Replace ``output`` where it exists.
        seed: Chooses calibration samples and halves.
        report: Told of each trial as it is done.
        progress: Called with the numbers of samples judged and of all.

    Raises:
        UsageError: An option does not fit, or the output exists.
        ModelError: The model cannot be read, or no way to quantize it works.
        DataError: The data do not fit the model.
    """
    began, path = time.perf_counter(), Path(output)
    for written in (path, lineage_path(path)):
        files.check_output(written, overwrite=overwrite)
    asked, judging, findings = _asked(
        model, path, data, judge=judge, calibration=calibration, metric=metric, preprocess=preprocess,
        format=format, io=io, batch=batch, seed=seed,
    )  # fmt: skip
    whole = bases(asked.source.format, asked.output_format, has_calibration=asked.calibration is not None)
    setting = Setting(
        _trials(path), workers=workers, time_budget_s=time_budget_s, report=report or (lambda _tried: None)
    )
    timed = objective == "latency"
    with setting.evaluator(asked, measures_latency=timed, uses_tensorflow=True) as (evaluator, material):
        limit = max_drop / 100 if material.unit == "fraction" else max_drop
        climb = Climb(evaluator, material, asked.output_format, objective, limit)
        climb.run(whole)
        _measure(evaluator, climb)
        winner, tried = climb.best, tuple(evaluator.tried)
        if winner is None or winner.model is None:
            raise _nothing(tried)
        findings += [*_notes(climb, winner, tried), *_over(time_budget_s, is_over=evaluator.is_over)]
        judged = _judge(asked, winner.model, judging, metric=material.metric, limit=limit, progress=progress)
    findings += _verdict_findings(judged, winner)
    artifact = open_artifact(winner.model)
    if judged.verdict is not Verdict.FAIL:
        artifact = _write(asked, winner, path)
    return AutoQuantized(
        artifact,
        asked.source,
        winner,
        tried,
        judged,
        objective,
        f"{asked.search.count:,} samples of {asked.search.spec}",
        setting.folder,
        tuple(dict.fromkeys(findings)),
        time.perf_counter() - began,
    )


def planned(
    model: str | Path, output: str | Path, data: str | Path | Dataset, **options: Any
) -> dict[str, Any]:
    """What ``auto_quantize`` would do with these options, without running a model.

    Raises:
        EdgekitError: What ``auto_quantize`` would raise before it converts the model.
    """
    names = ("calibration", "judge", "metric", "preprocess", "format", "io", "batch", "seed")
    given = {name: options[name] for name in names if name in options}
    asked, judging, _ = _asked(model, Path(output), data, **given)
    whole = bases(asked.source.format, asked.output_format, has_calibration=asked.calibration is not None)
    return {
        "source_format": asked.source.format.value,
        "output_format": asked.output_format.value,
        "first": [configuration.name for configuration in whole],
        "knobs": {name: [str(value) for value in values] for name, values in knobs_searched().items()},
        "searched": asked.search.count,
        "judged": judging.count,
        "trials": str(_trials(Path(output))),
    }


def _trials(output: Path) -> Path:
    return output.with_name(f"{output.name}.trials")


def _asked(
    model: str | Path,
    output: Path,
    data: str | Path | Dataset,
    *,
    judge: str | Path | Dataset | None = None,
    calibration: str | Path | Dataset | None = None,
    metric: str | None = None,
    preprocess: str | None = None,
    format: str | None = None,  # noqa: A002 - the option's name
    io: IOType | None = None,
    batch: int | None = 1,
    seed: int = 0,
) -> tuple[Asked, Dataset, list[Finding]]:
    """What is searched and on what, the samples that judge, and what is wrong with them."""
    check_metric(metric)
    wanted = output_format(output, format)
    source, calibrating = opened(model, calibration=calibration, preprocess=preprocess)
    labelled, findings = data_of(data, preprocess, source)
    if judge is None:
        first, second = halves(labels_of(labelled), seed)
        if not first or not second:
            raise UsageError("EK571", f"{labelled.spec} has {labelled.count} samples.", "Give at least two.")
        search, judging = labelled.subset(first), labelled.subset(second)
    else:
        search = labelled
        judging, _ = data_of(judge, preprocess, source)
        labels_of(judging)
        if search.digest() == judging.digest():
            raise UsageError(
                "EK571",
                "The search and the judge have the same samples.",
                "Leave --judge out: halves are made.",
            )
    asked = Asked(source, wanted, calibrating, search, metric, batch=batch, io=io, seed=seed)
    return asked, judging, [*findings, *overlaps(calibrating, search, judging)]


def _measure(evaluator: Evaluator, climb: Climb) -> None:
    """The latencies of what may be chosen, and of the front for the table."""
    front = {
        one.number
        for one, stands in zip(evaluator.tried, fronts(evaluator.tried, ("size", "drop")), strict=True)
        if stands
    }
    front |= {one.number for one in climb.candidates}
    evaluator.measure(lambda one: one.number in front)


def _nothing(tried: tuple[Tried, ...]) -> ModelError:
    first = next((one.document["error"]["message"] for one in tried if not one.is_done), "The time was over.")
    return ModelError(
        "EK573", f"None of {len(tried)} trials gave a file. {first}", "Try one: --recipe int8 -v."
    )


def _notes(climb: Climb, winner: Tried, tried: tuple[Tried, ...]) -> list[Finding]:
    found = deaths(tried)
    kept = sum(one.was_kept for one in tried)
    if kept:
        text = f"{kept} of {len(tried)} trials were answered from those kept."
        found.append(Finding("EK581", text, "Remove the folder of trials to do them again.", Level.NOTE))
    if not climb.fits(winner):
        text = (
            f"No trial loses so little on the samples of the search; {winner.configuration.name} loses least."
        )
        found.append(Finding("EK582", text, "Allow more, or train with quantization: `edgekit qat`."))
    return found


def _over(time_budget_s: float | None, *, is_over: bool) -> list[Finding]:
    if not is_over:
        return []
    text = f"The time was over after {time_budget_s:g} s; the best so far is the result."
    return [
        Finding("EK583", text, "The same command goes on where it ended; or give more with --time-budget.")
    ]


def _judge(
    asked: Asked, model: Path, data: Dataset, *, metric: str, limit: float, progress: Progress | None
) -> Judged:
    """One look, on samples that had no say in what was chosen."""

    def part(number: int) -> Progress | None:
        return None if progress is None else lambda done, total: progress(number * total + done, 2 * total)

    # The samples are under their contract already, whatever the lineage of a trial says.
    before = evaluate(asked.source, data, metric=metric, preprocess="none", progress=part(0))
    after = evaluate(model, data, metric=metric, preprocess="none", progress=part(1))
    module: Any = load("metrics", metric)
    drop: Drop = module.drop(before.rows, after.rows)
    verdict = drop.p_values(limit).verdict(_ALPHA)
    needed = None
    if verdict is Verdict.INCONCLUSIVE:
        needed = drop.samples_needed(limit, alpha=_ALPHA, power=_POWER)
    return Judged(data.spec, before, after, drop, limit, verdict, needed)


def _verdict_findings(judged: Judged, winner: Tried) -> list[Finding]:
    name = winner.configuration.name
    if judged.verdict is Verdict.FAIL:
        text = f"The best found, {name}, loses more than allowed on samples not searched on: nothing was written."
        hint = f"Its file is {winner.model}. Allow more, or train with quantization: `edgekit qat`."
        return [Finding("EK584", text, hint, Level.ERROR)]
    if judged.verdict is Verdict.INCONCLUSIVE:
        n = judged.drop.n
        hint = "The drop is near the limit: more samples alone may not settle it."
        if judged.needed is not None and judged.needed > n:
            hint = f"About {judged.needed:,} would tell: give more with --judge DATA."
        text = (
            f"{n:,} samples do not tell whether {name} loses more than allowed; it was written all the same."
        )
        return [Finding("EK585", text, hint)]
    return []


def _write(asked: Asked, winner: Tried, path: Path) -> Artifact:
    """The winner's very bytes, with the lineage that ``quantize`` would have given them."""
    if winner.model is None:
        raise ModelError("EK573", "The best trial has no file.")
    files.copy_file(winner.model, path)
    write_lineage(asked, winner.configuration, winner.model, path)
    return replace(open_artifact(winner.model), path=path)
