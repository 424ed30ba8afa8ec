"""Pruning of a Keras model: whole channels removed, or zeros among the weights, and both measured as files."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from edgekit import files, training_process
from edgekit.amounts import BYTES, COUNTS, amount
from edgekit.errors import UsageError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.interleaved import BenchmarkOptions
from edgekit.measurement import ratio
from edgekit.teacher_pass import Teacher, as_teacher
from edgekit.train.exports import PRECISIONS, exported, forget_exports
from edgekit.train.job import Epoch, Job
from edgekit.training import Report, Trained, check_outputs, job_for, train
from edgekit.verbs.benchmark import benchmark

_SHARES = (0.8, 0.6, 0.45, 0.3, 0.2, 0.1)
_REFINED = 3
# From here on it is no longer the noise of the machine.
_FASTER = 0.98


def prune(
    model: str | Path,
    output: str | Path,
    *,
    train_data: str | Path,
    epochs: int = 3,
    structured: bool = False,
    target_macs: str | float | None = None,
    target_size: str | float | None = None,
    target_latency: float | None = None,
    precision: Literal["float32", "int8", "int4", "int4-per-tensor"] = "float32",
    eight_bit: Sequence[str] = (),
    criterion: Literal["l1", "l2", "batch-norm", "taylor"] = "l2",
    scope: Literal["global", "layer"] = "global",
    min_channels: int = 4,
    min_share: float = 0.25,
    multiple: int = 4,
    steps: int = 1,
    exclude: Sequence[str] = (),
    sparsity: float = 0.5,
    schedule: Literal["constant", "polynomial"] = "polynomial",
    pattern: str = "unstructured",
    begin_step: int = 0,
    end_step: int | None = None,
    frequency: int = 100,
    layers: Mapping[str, float] | None = None,
    sparse_encoding: bool = False,
    benchmark: bool = True,
    teacher: str | Path | Teacher | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Report | None = None,
    **training: Any,
) -> Trained:
    """Make a model smaller by what it needs least, and train what is left.

    Args:
        model: A Keras model, ``.keras`` or ``.h5``.
        output: The ``.keras`` file to write; ``tflite=FILE`` exports it too.
        train_data: Labelled samples, as for every command.
        epochs: How often all of them are seen, over all steps.
        structured: Remove whole channels within one of the three budgets; else weights become zero.
        target_macs: Multiply-accumulates to reach: ``"50%"``, 0.5, or a number.
        target_size: Size of the ``.tflite`` to reach: ``"32KB"``, ``"40%"``, or bytes.
        target_latency: Latency to reach on this machine, relative to the model as it is.
        precision: Of the file that size and latency are about.
        eight_bit: Regular expressions; layers whose names match have weights of 8 bits in a file of 4 bits.
        criterion: What tells the importance of a channel.
        scope: Rank all channels together, or take the same share of each layer.
        min_channels: Channels that each layer keeps.
        min_share: Share of its channels that each layer keeps.
        multiple: Keep multiples of so many channels.
        steps: Remove channels in so many parts, with training after each.
        exclude: Regular expressions; layers whose names match stay as they are.
        sparsity: Share of the weights that become zero.
        schedule: How the sparsity grows.
        pattern: ``"unstructured"``, ``"2:4"``, ``"4:8"`` or ``"block:HxW"``.
        begin_step: The first step that prunes.
        end_step: The step of the full sparsity, None for two thirds of all.
        frequency: Steps between two prunings.
        layers: Another sparsity for layers by regular expression; the last that matches counts.
        sparse_encoding: Store only the weights that are not zero in the ``.tflite`` file, where that runs.
        benchmark: Measure the latency before and after.
        teacher: A model whose answers are learnt beside the labels, or a ``Teacher``.
        overwrite: Replace outputs that exist.
        resume: Go on after the last epoch of an interrupted run.
        progress: Told about epochs and steps.
        **training: Fields of ``edgekit.train.job.Job``.

    Returns:
        The training. Its report has channels by layer, parameters, MACs, bytes, and latencies.

    Raises:
        UsageError: A budget cannot be read or reached, or an option or an output does not fit.
        ModelError: The model cannot be trained, or training failed.
        DataError: The data does not fit it.
    """
    chosen: dict[str, Any] = (
        {
            "target_macs": amount("--target-macs", target_macs, COUNTS),
            "target_size": amount("--target-size", target_size, BYTES),
            "target_latency": target_latency,
            "precision": precision,
            "eight_bit": list(eight_bit),
            "criterion": criterion,
            "scope": scope,
            "min_channels": min_channels,
            "min_share": min_share,
            "multiple": multiple,
        }
        if structured
        else {
            "sparsity": sparsity,
            "schedule": schedule,
            "pattern": pattern,
            "begin_step": begin_step,
            "end_step": end_step,
            "frequency": frequency,
            "layers": dict(layers or {}),
            "sparse_encoding": sparse_encoding,
        }
    )
    budgets = [value for value in (target_macs, target_size, target_latency) if value is not None]
    if len(budgets) != structured:
        raise UsageError(
            "EK746",
            f"{'Structured pruning' if structured else 'Pruning of weights'} takes "
            f"{'one budget' if structured else 'no budget'}, and {len(budgets)} are given.",
            "Give --structured and one of --target-macs 50%, --target-size 32KB and --target-latency 0.6.",
        )
    steps = steps if structured else 1
    if epochs < steps:
        raise UsageError(
            "EK746", f"{epochs} epochs are too few for {steps} steps.", "Train at least one for each."
        )
    options = {"structured": structured, "exclude": list(exclude), **chosen}
    job = job_for("prune", model, output, train_data=train_data, epochs=epochs, options=options, **training)
    check_outputs(job, overwrite=overwrite, resume=resume)
    teller = progress or (lambda _event: None)
    search: dict[str, Any] = {}
    if target_latency is not None:
        search = _width_for_latency(job, target_latency, teller)
        job = replace(job, options={**options, "target_macs": search["macs"]})
    run = _Pruning(job, steps, as_teacher(teacher), overwrite=overwrite, resume=resume, report=teller)
    return run.run(search, benchmark)


class _Pruning:
    """The steps of one pruning, each a training of its own that starts from the model of the one before."""

    def __init__(
        self,
        job: Job,
        steps: int,
        teacher: Teacher | None,
        *,
        overwrite: bool,
        resume: bool,
        report: Report,
    ) -> None:
        self._job, self._steps, self._teacher = job, steps, teacher
        self._overwrite, self._resume, self._report = overwrite, resume, report
        self._folder = Path(job.output).with_name(f".{Path(job.output).name}.steps")
        self._jobs: list[Job] = []
        self._target = ("", 0.0)

    def run(self, search: Mapping[str, Any], measured: bool) -> Trained:
        """Prune and train, then look at what was made."""
        if not self._resume:
            shutil.rmtree(self._folder, ignore_errors=True)
        try:
            done = [self._step(number) for number in range(1, self._steps + 1)]
            trained = _joined(done) if len(done) > 1 else done[0]
            found = _files(self._jobs[0], self._jobs[-1])
            report = {**trained.report, "files": found, "latency": None, "search": dict(search) or None}
            findings = trained.findings
            if measured:
                report["latency"], noticed = _latency(self._jobs[0], self._jobs[-1], self._report)
                findings = (*findings, *noticed, *_no_faster(report))
        finally:
            # Those of finished steps lie among the steps, where --resume finds them.
            if len(self._jobs) == self._steps:
                forget_exports(self._jobs[-1])
        shutil.rmtree(self._folder, ignore_errors=True)
        return replace(trained, report=report, findings=findings)

    def _step(self, number: int) -> Trained:
        job, last = self._job, number == self._steps
        if self._steps > 1:
            self._report({"event": "say", "text": f"step {number} of {self._steps}"})
        before = job.epochs * (number - 1) // self._steps
        epochs = job.epochs * number // self._steps - before
        options = {**job.options, "remaining": self._steps - number + 1} if self._steps > 1 else job.options
        if number > 1:
            # The first step knows what the user's shares are shares of.
            kind, target = self._target
            options = {**options, f"target_{kind}": target}
        output = job.output if last else str(self._folder / f"step{number}.keras")
        source = str(self._folder / f"step{number - 1}.keras") if number > 1 else job.model
        step = replace(job, model=source, output=output, epochs=epochs, epochs_before=before, options=options)
        step = step if last else replace(step, tflite=None)
        self._jobs.append(step)
        if not last:
            self._folder.mkdir(parents=True, exist_ok=True)
        trained = _recorded(step) if self._resume and not last else None
        if trained is None:
            trained = train(
                step,
                teacher=self._teacher,
                overwrite=self._overwrite or not last,
                resume=self._resume,
                progress=lambda event: self._report(_later(event, before)),
            )
            if not last:
                _record(trained, step)
        budget = trained.report.get("budget")
        self._target = (budget["kind"], budget["target"]) if budget else ("", 0.0)
        return trained


def _later(event: Mapping[str, Any], epochs: int) -> Mapping[str, Any]:
    """An event of one step as one of the whole, before which so many epochs were trained."""
    return {**event, "epoch": event["epoch"] + epochs} if "epoch" in event else event


def _record(trained: Trained, job: Job) -> None:
    """Keep what a later --resume has to know of a finished step."""
    text = json.dumps({"trained": trained.describe(), "seconds": trained.seconds, "job": job.to_json()})
    files.write_bytes(Path(trained.job.output).with_suffix(".json"), text.encode())


def _recorded(job: Job) -> Trained | None:
    """A step that an interrupted run of the same job had finished, None where it had not."""
    path = Path(job.output).with_suffix(".json")
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    source = open_artifact(job.model)
    if record.get("job") != job.to_json() or record["trained"]["source"]["sha256"] != source.sha256:
        return None
    return Trained(
        job=job,
        artifact=open_artifact(job.output),
        source=source,
        tflite=None,
        epochs=tuple(Epoch(**epoch) for epoch in record["trained"]["epochs"]),
        watched=record["trained"]["watched"],
        report=record["trained"]["report"],
        findings=(),
        seconds=record["trained"]["seconds"],
    )


def _joined(done: Sequence[Trained]) -> Trained:
    """Several steps as one training: from the first's model to the last's."""
    first, last = done[0], done[-1]
    epochs = [epoch for step in done for epoch in step.epochs]
    report = {
        **last.report,
        "budget": {**last.report["budget"], "before": first.report["budget"]["before"]},
        "layers": [
            {**after, "before": before["before"]}
            for before, after in zip(first.report["layers"], last.report["layers"], strict=True)
        ],
        **{
            name: {"before": first.report[name]["before"], "after": last.report[name]["after"]}
            for name in ("parameters", "macs")
        },
    }
    return replace(
        last,
        job=replace(last.job, model=first.job.model, epochs=len(epochs)),
        source=first.source,
        epochs=tuple(replace(epoch, epoch=number) for number, epoch in enumerate(epochs, 1)),
        report=report,
        findings=tuple(dict.fromkeys(finding for step in done for finding in step.findings)),
        seconds=sum(step.seconds for step in done),
    )


def _files(first: Job, last: Job) -> dict[str, Any]:
    """Raw and compressed bytes of the exported files, by precision."""
    found: dict[str, Any] = {}
    for precision in PRECISIONS:
        pair = {"before": exported(first, "before", precision), "after": exported(last, "after", precision)}
        if all(path.is_file() for path in pair.values()):
            found[precision] = {
                name: {"size_bytes": path.stat().st_size, "gzip_bytes": files.gzip_bytes(path)}
                for name, path in pair.items()
            }
    return found


def _latency(first: Job, last: Job, report: Report) -> tuple[dict[str, Any], list[Finding]]:
    """Median latencies before and after in one run in turn, by precision, with the interval of their ratio."""
    pairs = {p: (exported(first, "before", p), exported(last, "after", p)) for p in PRECISIONS}
    pairs = {p: pair for p, pair in pairs.items() if all(path.is_file() for path in pair)}
    report({"event": "say", "text": f"measuring {' and '.join(pairs)} before and after"})
    done = benchmark([path for pair in pairs.values() for path in pair], BenchmarkOptions(seed=last.seed))
    found: dict[str, Any] = {}
    noticed = [finding for finding in done.findings if finding.level is not Level.NOTE]
    for index, precision in enumerate(pairs):
        before, after = (entry.latency for entry in done.models[2 * index : 2 * index + 2])
        estimate, interval = ratio(after, before, last.seed)
        found[precision] = {
            "before_ms": before.median / 1e6,
            "after_ms": after.median / 1e6,
            "ratio": estimate,
            "ratio_ci95": list(interval) if interval else None,
        }
    return found, noticed


def _no_faster(report: Mapping[str, Any]) -> Iterator[Finding]:
    """A finding for each precision whose interval does not show that the pruned model is faster."""
    what = "the pruned model"
    if "sparsity" in report:
        what = f"the model with {report['sparsity']:.0%} zeros"
    for precision, found in report["latency"].items():
        interval = found["ratio_ci95"]
        if (interval[1] if interval else found["ratio"]) <= _FASTER:
            continue
        within = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
        text = f"As {precision}, {what} takes {found['ratio']:.2f}{within} times as long as before"
        yield Finding("EK749", f"{text}: it is not clearly faster on this runtime.")


@dataclass(frozen=True)
class _Width:
    """A pruned model that was measured and not trained: its MACs, and its latency relative to the whole."""

    share: float
    macs: int
    ratio: float


def _width_for_latency(job: Job, target: float, report: Report) -> dict[str, Any]:
    """The most MACs whose latency is within the target: widths over the whole range first, then between two."""
    widths = _measured(job, _SHARES, report)
    fast = [width for width in widths if width.ratio <= target]
    if fast:
        best = max(fast, key=lambda width: width.macs)
        slower = min((width.share for width in widths if width.macs > best.macs), default=1.0)
        between = [best.share + (slower - best.share) * i / (_REFINED + 1) for i in range(1, _REFINED + 1)]
        widths += _measured(job, between, report)
    fast = [width for width in widths if width.ratio <= target]
    if not fast:
        nearest = min(widths, key=lambda width: width.ratio)
        raise UsageError(
            "EK745",
            f"A latency of {target:g} cannot be reached: {nearest.ratio:.2f} is the least, with "
            f"{nearest.macs:,} MACs.",
            "Allow more, or lower --min-channels, --min-share and --multiple.",
        )
    best = max(fast, key=lambda width: width.macs)
    table = [
        {"macs": width.macs, "ratio": width.ratio} for width in sorted(widths, key=lambda width: width.macs)
    ]
    return {"macs": best.macs, "widths": table}


def _measured(job: Job, shares: Sequence[float], report: Report) -> list[_Width]:
    """Models of these shares of the MACs, measured in turn with the whole one."""
    report({"event": "say", "text": f"measuring {len(shares)} widths"})
    precision = job.options["precision"]
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        options = {**job.options, "candidates": list(shares)}
        output = str(Path(folder) / "whole.keras")
        trial = replace(
            job, output=output, epochs=0, tflite=None, csv=None, tensorboard=None, options=options
        )
        found = training_process.train(trial)["report"]["candidates"]
        names = ["whole", *(entry["name"] for entry in found)]
        done = benchmark(
            [exported(trial, name, precision) for name in names], BenchmarkOptions(seed=job.seed)
        )
    return [
        _Width(share, entry["macs"], ratio.median_ratio)
        for share, entry, ratio in zip(shares, found, done.ratios, strict=True)
    ]
