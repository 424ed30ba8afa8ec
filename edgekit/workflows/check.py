"""``check``: the gate of CI. A candidate beside its baseline passes, fails, or cannot be told yet."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import files
from edgekit.artifact import Artifact
from edgekit.baseline import Baseline, digest_of
from edgekit.budget import DEFAULT_MAX_DROP, Budget
from edgekit.catalog import load, names
from edgekit.errors import DataError, ModelError, UsageError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.gates import Gate, GateModule, Trial
from edgekit.interleaved import BenchmarkOptions
from edgekit.latency_evidence import gather
from edgekit.looks import count_look
from edgekit.noninferiority import Verdict, alpha_of_look
from edgekit.sample_plan import SamplePlan, plan_samples
from edgekit.tensor import element_count
from edgekit.verbs.evaluate import Evaluation, evaluate
from edgekit.workflows.baseline import from_evaluation

if TYPE_CHECKING:
    from edgekit.metrics import Metric

Progress = Callable[[int, int], None]

_EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 6}
_METHOD = "two one-sided tests: exact score test of paired shares, BCa bootstrap of other metrics"
_SPENDING = "; alpha spent over looks as 6 / (pi * look)^2 (Bonferroni)"


@dataclass(frozen=True, eq=False)
class Check:
    """The verdict on a candidate, gate by gate.

    ``look`` counts the uses of the baseline where they are counted, and ``alpha_spent`` is what this one was
    allowed; ``plan`` is there where only numbers of samples were asked for, and ``gates`` then is empty.
    """

    model: Artifact
    baseline: Baseline
    baseline_path: Path
    data: str
    budget: Budget
    evaluation: Evaluation
    gates: tuple[Gate, ...]
    alpha_spent: float
    look: int | None
    plan: SamplePlan | None
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def verdict(self) -> Verdict:
        """Fail if any gate fails, else inconclusive if any is, else pass."""
        found = {gate.verdict for gate in self.gates}
        for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
            if verdict in found:
                return verdict
        return Verdict.PASS

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 6 inconclusive."""
        return _EXIT_CODES[self.verdict]

    def sentence(self) -> str:
        """The verdict with its reasons."""
        reasons = [f"{gate.name}: {gate.reason}" for gate in self.gates if gate.verdict is self.verdict]
        return f"{self.verdict.value}. {' '.join(reasons)}"

    def describe(self) -> dict[str, Any]:
        """The check as it stands in JSON documents."""
        return {
            "verdict": self.verdict.value if self.gates else None,
            "exit_code": self.exit_code,
            "model": self.model.describe(),
            "baseline": {"path": str(self.baseline_path), **self.baseline.summary()},
            "data": self.data,
            "metric": self.evaluation.metric,
            "unit": self.evaluation.unit,
            "n": self.evaluation.n,
            "alpha": self.budget.alpha,
            "alpha_spent": self.alpha_spent,
            "look": self.look,
            "power": self.budget.power,
            "method": _METHOD + (_SPENDING if self.look else ""),
            "gates": [gate.describe() for gate in self.gates],
            "plan": None if self.plan is None else self.plan.describe(),
            "seconds": self.seconds,
        }


def check(
    model: str | Path,
    baseline: str | Path,
    *,
    data: str | Path | None = None,
    budget: str | Path | Budget | None = None,
    limits: Mapping[str, float] | None = None,
    reference: str | Path | None = None,
    baseline_model: str | Path | None = None,
    sequential: bool = False,
    plan: bool = False,
    samples: int | None = None,
    workers: int | None = None,
    runtime: str | None = None,
    preprocess: str | None = None,
    max_seconds: float | None = None,
    save_candidate: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Check:
    """Judge a candidate against a baseline on the same samples.

    Args:
        model: The candidate.
        baseline: What ``create_baseline`` wrote.
        data: The samples; where the baseline found them when None.
        budget: A TOML file of limits, or a ``Budget``.
        limits: Limits that go before those of the budget: ``{"max_drop": 0.01}``, which is the default where the
            metric is a share.
        reference: The model that ``snr``, ``agreement``, ``mse`` and ``mae`` compare with; that of the baseline
            when None.
        baseline_model: The file of the baseline's model for the latency ratio, where it was moved.
        sequential: Count the looks at this baseline, and spend alpha once over all of them.
        plan: Only say how many samples a verdict takes.
        samples: So many of the samples, evenly spread; all when None.
        workers: Number of processes; one per core when None.
        runtime: The name of a file in ``runtimes/``; that of the model's format when None.
        preprocess: A preprocessing contract; that of the baseline when None.
        max_seconds: How long the benchmark of one model may take.
        save_candidate: Write what was measured as a baseline, ready to be promoted.
        overwrite: Whether a file at ``save_candidate`` may be replaced.
        progress: Called with the numbers of samples done and of all.

    Raises:
        DataError: The baseline is damaged, or the samples are not its samples.
        ModelError: The candidate is unreadable, fails, or has other classes.
        UsageError: A limit makes no sense for the metric, or an option does not fit.
    """
    started_s, path = time.perf_counter(), Path(baseline)
    stored = Baseline.read(path)
    asked = _budget(budget, limits or {}, stored)
    if save_candidate is not None:
        files.check_output(Path(save_candidate), overwrite=overwrite)
    artifact = open_artifact(Path(model))
    _check_outputs(artifact, stored)
    judged = _Judged(stored, artifact, str(data or _known_data(stored)), preprocess or stored.preprocess)
    other = _reference(stored, reference)
    evaluation = evaluate(
        artifact,
        judged.data,
        metric=stored.metric,
        reference=other,
        runtime=runtime,
        samples=samples,
        workers=workers,
        preprocess=judged.preprocess,
        keep_digests=True,
        progress=progress,
    )
    trial, findings = _trial(judged, evaluation, asked, path)
    look = None
    if sequential and not plan and evaluation.digests is not None:
        look = count_look(path, artifact.sha256, evaluation.digests.digest())
        trial = replace(trial, alpha=alpha_of_look(asked.alpha, look))
        findings += (_look_finding(look, trial.alpha),)
    if asked.needs_benchmark and not plan:
        evidence = gather(
            stored,
            artifact,
            baseline_model=None if baseline_model is None else Path(baseline_model),
            options=BenchmarkOptions(max_seconds=max_seconds),
        )
        trial, findings = replace(trial, latency=evidence), findings + evidence.findings
    found = Check(
        artifact,
        stored,
        path,
        judged.data,
        asked,
        evaluation,
        () if plan else _gates(trial),
        trial.alpha,
        look,
        _plan(trial) if plan else None,
        (*evaluation.findings, *findings),
        time.perf_counter() - started_s,
    )
    if save_candidate is not None:
        made = from_evaluation(
            artifact,
            evaluation,
            data=judged.data,
            reference=other,
            preprocess=judged.preprocess,
            benchmark=None if trial.latency is None else trial.latency.record,
        )
        replace(made, checked=_verdict_on(found)).save(Path(save_candidate))
    return found


@dataclass(frozen=True, eq=False)
class _Judged:
    """Who is judged, by what, on which samples."""

    baseline: Baseline
    candidate: Artifact
    data: str
    preprocess: str | None


def _budget(budget: str | Path | Budget | None, limits: Mapping[str, float], baseline: Baseline) -> Budget:
    own = budget if isinstance(budget, Budget) else Budget() if budget is None else Budget.read(Path(budget))
    asked = own.merged(**limits)
    if asked.max_drop is None and baseline.unit == "fraction":
        return asked.merged(max_drop=DEFAULT_MAX_DROP)
    if not asked.limits:
        raise UsageError(
            "EK481",
            f"No limit was given, and {baseline.metric} has no usual one.",
            f"Say how much worse it may be{' in dB' if baseline.unit == 'dB' else ''}: --max-drop X.",
        )
    return asked


def _known_data(baseline: Baseline) -> str:
    """Where the baseline found its samples. A file that others may have written never says which code is run."""
    if ".py:" in baseline.data:
        raise UsageError(
            "EK488",
            f"The baseline's samples come from the function {baseline.data}.",
            f"Say that it may be run: --data {baseline.data}",
        )
    return baseline.data


def _check_outputs(artifact: Artifact, baseline: Baseline) -> None:
    """Models of other classes have other answers, however the metric turns out."""
    sizes = [
        element_count(tuple(side for side in shape[1:] if side is not None))
        for shape in (baseline.model["outputs"][0]["shape"], artifact.outputs[0].shape)
        if None not in shape[1:]
    ]
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        raise ModelError(
            "EK482",
            f"{artifact.path.name} gives {sizes[1]} values per sample, the baseline's model {sizes[0]}.",
            "They answer different questions: make a new baseline for the new classes.",
        )


def _reference(baseline: Baseline, given: str | Path | None) -> Path | None:
    """The model that both are compared with, which must be the same one."""
    if baseline.reference is None:
        return None if given is None else Path(given)
    path = Path(given or baseline.reference["path"])
    if not files.is_model_path(path) or files.sha256(path) != baseline.reference["sha256"]:
        raise ModelError(
            "EK483",
            f"{path} is not the reference that the baseline was measured against.",
            "Name that file with --reference, or make a new baseline.",
        )
    return path


def _trial(
    judged: _Judged, evaluation: Evaluation, budget: Budget, path: Path
) -> tuple[Trial, tuple[Finding, ...]]:
    baseline = judged.baseline
    if evaluation.digests is None or evaluation.rows.shape[1] != baseline.rows.shape[1]:
        raise DataError(
            "EK482",
            f"The candidate gives other numbers per sample than the baseline for {baseline.metric}.",
            "Make a new baseline for models with these outputs.",
        )
    places = evaluation.digests.places_in(baseline.digests, path.name)
    module: Any = load("metrics", baseline.metric)
    metric: Metric = module
    trial = Trial(
        baseline,
        judged.candidate,
        metric,
        baseline.rows[places],
        evaluation.rows,
        budget,
        budget.alpha,
        _class_names(evaluation),
    )
    findings: tuple[Finding, ...] = ()
    if budget.max_drop is None:
        text = f"{baseline.metric} was not judged, as no drop of it was given that would be too much."
        findings += (Finding("EK487", text, "Give one: --max-drop X."),)
    if evaluation.n < baseline.n:
        text = f"{evaluation.n:,} of the baseline's {baseline.n:,} samples were used."
        findings += (Finding("EK484", text, "All of them give the surest verdict."),)
    return trial, findings


def _class_names(evaluation: Evaluation) -> tuple[str, ...]:
    """By class number; classes without samples go by their number."""
    found = {int(item["class"]): str(item["name"]) for item in evaluation.per_class if "class" in item}
    return tuple(found.get(number, str(number)) for number in range(max(found, default=-1) + 1))


def _gates(trial: Trial) -> tuple[Gate, ...]:
    limits = trial.budget.limits
    found: dict[str, Gate] = {}
    for name in names("gates"):
        module: Any = load("gates", name)
        gate: GateModule = module
        if gate.LIMIT in limits:
            found[gate.LIMIT] = gate.decide(trial, limits[gate.LIMIT])
    # In the order of the budget's fields, the most asked first.
    return tuple(found[limit] for limit in limits)


def _plan(trial: Trial) -> SamplePlan:
    limit = trial.budget.max_drop
    if not limit:
        raise UsageError(
            "EK481", "A plan needs a drop that would still pass, above 0.", "Give one: --plan --max-drop 0.01"
        )
    drop = trial.metric.drop(trial.before, trial.after)
    return plan_samples(drop, limit, trial.baseline.unit, alpha=trial.alpha, power=trial.budget.power)


def _look_finding(look: int, alpha: float) -> Finding:
    return Finding(
        "EK485",
        f"This is look {look} at the baseline; it may spend an error rate of {alpha:.4f}.",
        "A new baseline begins a new count.",
        Level.NOTE,
    )


def _verdict_on(found: Check) -> dict[str, Any]:
    """What ``promote`` asks of a candidate."""
    return {
        "baseline_sha256": digest_of(found.baseline_path),
        "verdict": found.verdict.value,
        "gates": [gate.describe() for gate in found.gates],
    }
