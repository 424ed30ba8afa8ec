"""Area under the ROC curve for labels 0 and 1. Rows: label, score.

The score is the only column; of two columns, how far the second is above the first; of an autoencoder,
whose output has its input's shape, the mean absolute reconstruction error.
"""

import math

import numpy as np

from edgekit.errors import DataError
from edgekit.findings import Finding
from edgekit.metrics import Answers, Context, Drop, Rows, Summary, class_labels, resampled_drop
from edgekit.statistics import RocArea, Vector, roc_area, roc_area_interval

NEEDS = "labels"
UNIT = "fraction"
HIGHER_IS_BETTER = True


def measure(answers: Answers) -> Rows:
    """Rows of shape (n, 2)."""
    return np.column_stack([class_labels(answers, 2), _scores(answers)]).astype(np.float64)


def summarize(rows: Rows, context: Context) -> Summary:  # noqa: ARG001 - every metric's signature
    """The area with DeLong's interval on the logit scale.

    Raises:
        DataError: The samples are all of one class.
    """
    roc = _roc(rows)
    findings: tuple[Finding, ...] = ()
    if np.isnan(rows[:, 1]).any():
        lost = int(np.isnan(rows[:, 1]).sum())
        findings = (Finding("EK402", f"{lost} of {len(rows)} scores are NaN; they rank lowest."),)
    return Summary(roc.area, roc_area_interval(roc), findings=findings)


def drop(before: Rows, after: Rows) -> Drop:
    """The drop of the area, samples being drawn in pairs.

    Raises:
        DataError: The samples are all of one class.
    """
    _roc(before)
    return resampled_drop(np.hstack([before, after[:, 1:]]), _lost)


def _lost(rows: Rows) -> float:
    """Over rows of label, score before, score after; NaN where a resample has one class alone."""
    positive = rows[:, 0] == 1
    if positive.all() or not positive.any():
        return math.nan
    first, second = (roc_area(_finite(rows[:, column]), positive).area for column in (1, 2))
    return first - second


def _roc(rows: Rows) -> RocArea:
    positive = rows[:, 0] == 1
    if positive.all() or not positive.any():
        raise DataError(
            "EK422", "All samples have the same label, so there is no ROC curve.", "Add the other class."
        )
    return roc_area(_finite(rows[:, 1]), positive)


def _finite(scores: Vector) -> Vector:
    """Scores that can be ranked: NaN below all others."""
    return np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf)


def _scores(answers: Answers) -> Vector:
    name, output = next(iter(answers.outputs.items()))
    flat = output.reshape(len(output), -1).astype(np.float64)
    given = next(iter(answers.inputs.values()))
    if len(answers.inputs) == 1 and given.shape == output.shape and flat.shape[1] > 1:
        error: Vector = np.abs(flat - given.reshape(flat.shape)).mean(axis=1)
        return error
    if flat.shape[1] > 2:
        raise DataError(
            "EK420",
            f"Output {name!r} has shape {list(output.shape[1:])} per sample, and AUC needs one score.",
            "AUC is for models with one or two columns, and for autoencoders.",
        )
    return flat[:, 1] - flat[:, 0] if flat.shape[1] == 2 else flat[:, 0]
