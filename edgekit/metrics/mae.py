"""Mean absolute error of the first output. Rows: the mean of a sample's absolute errors."""

import numpy as np

from edgekit.metrics import Answers, Context, Drop, Rows, Summary, errors, mean_rise, mean_summary

NEEDS = "target"
UNIT = ""
HIGHER_IS_BETTER = False


def measure(answers: Answers) -> Rows:
    """Rows of shape (n, 1)."""
    rows: Rows = np.abs(errors(answers)).mean(axis=1, keepdims=True)
    return rows


def summarize(rows: Rows, context: Context) -> Summary:  # noqa: ARG001 - every metric's signature
    """The mean over all samples, with its bootstrap interval."""
    return mean_summary(rows)


def drop(before: Rows, after: Rows) -> Drop:
    """How much the error rose."""
    return mean_rise(before, after)
