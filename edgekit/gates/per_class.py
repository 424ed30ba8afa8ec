"""The drop within each class, tested against ``per_class_max_drop`` with Holm's correction."""

from typing import Any

import numpy as np

from edgekit.errors import UsageError
from edgekit.gates import Gate, Trial, points
from edgekit.metrics import Drop
from edgekit.noninferiority import PValues, Verdict, holm

LIMIT = "per_class_max_drop"


def decide(trial: Trial, limit: float) -> Gate:
    """Fail where any class lost more, pass where none can have.

    Of many classes some look bad by chance, so the p-values of failing are corrected (Holm 1979). To pass, every
    class must pass by itself, which needs no correction: Berger, Technometrics 24 (1982) 295.

    Raises:
        UsageError: The metric knows no classes.
    """
    labels = trial.before[:, 0]
    drops = {int(label): trial.metric.drop(trial.before[labels == label], trial.after[labels == label])
             for label in np.unique(labels)} if trial.metric.NEEDS == "labels" else {}  # fmt: skip
    if not drops or any(drop.broken is None for drop in drops.values()):
        raise UsageError(
            "EK477",
            f"The metric {trial.baseline.metric} has no right and wrong per class.",
            "Leave out per_class_max_drop, or use --metric top1 or top5.",
        )
    p_values = {label: drop.p_values(limit) for label, drop in drops.items()}
    corrected = dict(zip(drops, holm([p.within for p in p_values.values()]), strict=True))
    found = {label: PValues(p_values[label].beyond, corrected[label]).verdict(trial.alpha) for label in drops}
    if Verdict.FAIL in found.values():
        verdict, worst = Verdict.FAIL, min(corrected, key=corrected.__getitem__)
    else:
        worst = max(drops, key=lambda label: p_values[label].beyond)
        verdict = found[worst]
    needed = None
    if verdict is Verdict.INCONCLUSIVE:
        needed = drops[worst].samples_needed(limit, alpha=trial.alpha, power=trial.budget.power)
    return Gate(
        "per_class",
        verdict,
        limit,
        trial.baseline.unit,
        _reason(trial, drops, found, worst, limit),
        *_values(trial, worst),
        drops[worst].value,
        drops[worst].ci95,
        drops[worst].n,
        needed,
        p_value=corrected[worst] if verdict is Verdict.FAIL else p_values[worst].beyond,
        details={
            "class": _name(trial, worst),
            "correction": "Holm",
            "classes": [
                _described(trial, label, drops[label], corrected[label], found[label]) for label in drops
            ],
        },
    )


def _values(trial: Trial, label: int) -> tuple[float, float]:
    """The share that both models get right, from what the metric says of the class's samples."""
    from edgekit.metrics import Context

    own = trial.before[:, 0] == label
    values = [trial.metric.summarize(rows[own], Context()).value for rows in (trial.before, trial.after)]
    return values[0], values[1]


def _described(trial: Trial, label: int, drop: Drop, p_value: float, verdict: Verdict) -> dict[str, Any]:
    before, after = _values(trial, label)
    return {
        "class": label,
        "name": _name(trial, label),
        "n": drop.n,
        "baseline": before,
        "candidate": after,
        "drop": drop.value,
        "drop_ci95": list(drop.ci95),
        "broken": drop.broken,
        "fixed": drop.fixed,
        "p_value": p_value,
        "verdict": verdict.value,
    }


def _name(trial: Trial, label: int) -> str:
    return trial.class_names[label] if label < len(trial.class_names) else str(label)


def _reason(trial: Trial, drops: dict[int, Drop], found: dict[int, Verdict], worst: int, limit: float) -> str:
    unit, allowed = trial.baseline.unit, points(limit, trial.baseline.unit)
    failed = [label for label, verdict in found.items() if verdict is Verdict.FAIL]
    if failed:
        listed = ", ".join(
            f"{_name(trial, label)} ({points(drops[label].value, unit)})" for label in failed[:5]
        )
        return f"{len(failed)} of {len(drops)} classes lost more than {allowed}: {listed}."
    passed = sum(verdict is Verdict.PASS for verdict in found.values())
    if passed == len(drops):
        return f"None of {len(drops)} classes lost {allowed}."
    return (
        f"{passed} of {len(drops)} classes are within {allowed}; the others have too few samples to tell, "
        f"{_name(trial, worst)} for one has {drops[worst].n:,}."
    )
