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
    values = _precisions(labels, scores)
    per_class = []
    for number in np.flatnonzero(~np.isnan(values)):
        pair = np.column_stack([labels[:, number], scores[:, number]])
        name = context.class_names[number] if number < len(context.class_names) else str(number)
        per_class.append(
            {
                "class": int(number),
                "name": name,
                "n": int(labels[:, number].sum()),
                "value": float(values[number]),
                "ci95": bootstrap_interval(pair, _mean),
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
    values = _precisions(*np.split(rows, 2, axis=1))
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _precisions(labels: Rows, scores: Rows) -> Vector:
    """Of each class, from labels of 0 and 1 and scores, both of shape (n, classes); NaN for one without any 1."""
    ranked = np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    order = np.argsort(-ranked, axis=0, kind="stable")
    ranked, hits = np.take_along_axis(ranked, order, axis=0), np.take_along_axis(labels, order, axis=0)
    # A positive counts the precision at the end of its step: after all samples with the same score.
    count = len(ranked)
    place = np.arange(count)[:, None]
    ends = np.where(
        np.append(ranked[1:] != ranked[:-1], np.ones_like(ranked[:1], bool), axis=0), place, count
    )
    ends = np.minimum.accumulate(ends[::-1], axis=0)[::-1]
    precision = np.take_along_axis(np.cumsum(hits, axis=0), ends, axis=0) / (ends + 1)
    with np.errstate(invalid="ignore"):
        found: Vector = (hits * precision).sum(axis=0) / hits.sum(axis=0)
    return found
