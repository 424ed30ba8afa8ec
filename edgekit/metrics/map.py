"""Mean average precision over classes, for labels of which several may hold at once. Rows: labels, scores.

The average precision of a class is the area under its steps of precision over recall, without interpolation,
equal scores being one step. Boxes of detectors are no class scores: this is the metric of tagging models.
"""

import math

import numpy as np

from edgekit.errors import DataError
from edgekit.findings import Finding
from edgekit.metrics import (
    Answers,
    Context,
    Drop,
    Rows,
    Summary,
    class_labels,
    class_scores,
    needed_labels,
    resampled_drop,
)
from edgekit.statistics import Vector, bootstrap_interval

NEEDS = "labels"
UNIT = "fraction"
HIGHER_IS_BETTER = True


def measure(answers: Answers) -> Rows:
    """Rows of shape (n, 2 * classes).

    Raises:
        DataError: The labels are neither class numbers nor rows of 0 and 1, one for each class.
    """
    scores = class_scores(answers.outputs)
    classes = scores.shape[1]
    labels = needed_labels(answers).reshape(len(scores), -1)
    if labels.shape[1] != classes:
        labels = np.eye(classes)[class_labels(answers, classes)]
    elif not np.isin(labels, (0, 1)).all():
        raise DataError(
            "EK208",
            "The labels of mean average precision are neither 0 nor 1.",
            "Save 1 for each class that holds, or the number of the only one.",
        )
    return np.hstack([labels, scores]).astype(np.float64)


def summarize(rows: Rows, context: Context) -> Summary:
    """The mean with its bootstrap interval, and each class's own.

    Raises:
        DataError: No sample is of any class.
    """
    labels, scores = np.split(rows, 2, axis=1)
    per_class = []
    for number in np.flatnonzero(labels.any(axis=0)):
        pair = np.column_stack([labels[:, number], scores[:, number]])
        name = context.class_names[number] if number < len(context.class_names) else str(number)
        per_class.append(
            {
                "class": int(number),
                "name": name,
                "n": int(labels[:, number].sum()),
                "value": _precision(*pair.T),
                "ci95": bootstrap_interval(pair, lambda drawn: _precision(*drawn.T)),
            }
        )
    if not per_class:
        raise DataError(
            "EK422", "No sample is of any class, so nothing can be found.", "Add samples that are."
        )
    lost = int(np.isnan(scores).any(axis=1).sum())
    findings: tuple[Finding, ...] = ()
    if lost:
        findings = (
            Finding("EK402", f"{lost} of {len(rows)} samples have NaN among their scores; they rank lowest."),
        )
    return Summary(_mean(rows), bootstrap_interval(rows, _mean), tuple(per_class), findings=findings)


def drop(before: Rows, after: Rows) -> Drop:
    """The drop of the mean, samples being drawn in pairs."""
    classes = before.shape[1] // 2

    def lost(rows: Rows) -> float:
        return _mean(rows[:, : 2 * classes]) - _mean(np.delete(rows, np.s_[classes : 2 * classes], axis=1))

    return resampled_drop(np.hstack([before, after[:, classes:]]), lost)


def _mean(rows: Rows) -> float:
    """Over the classes that any of these samples is of; NaN where there is none."""
    labels, scores = np.split(rows, 2, axis=1)
    values = [
        _precision(labels[:, number], scores[:, number]) for number in np.flatnonzero(labels.any(axis=0))
    ]
    return float(np.mean(values)) if values else math.nan


def _precision(labels: Vector, scores: Vector) -> float:
    """Of one class: labels of 0 and 1, and scores, both of shape (n,); NaN without any 1."""
    ranked = np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    order = np.argsort(-ranked, kind="stable")
    found = np.cumsum(labels[order])
    if not found[-1]:
        return math.nan
    sorted_scores = ranked[order]
    steps = np.flatnonzero(np.append(sorted_scores[1:] != sorted_scores[:-1], True))
    recall = found[steps] / found[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * found[steps] / (steps + 1)))
