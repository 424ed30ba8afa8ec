"""How often two models choose the same class, without labels. Rows: both classes, tied."""

import numpy as np
from numpy.typing import NDArray

from edgekit.metrics import (
    Answers,
    Context,
    Drop,
    Rows,
    Summary,
    class_scores,
    proportion,
    proportion_drop,
    reference_outputs,
    tie_findings,
    top_class,
)

NEEDS = "reference"
UNIT = "fraction"
HIGHER_IS_BETTER = True
COLUMNS = ("label", "predicted", "tied")


def measure(answers: Answers) -> Rows:
    """Rows of shape (n, 3)."""
    expected, _ = top_class(class_scores(reference_outputs(answers)))
    predicted, tied = top_class(class_scores(answers.outputs))
    return np.column_stack([expected, predicted, tied]).astype(np.float64)


def summarize(rows: Rows, context: Context) -> Summary:  # noqa: ARG001 - every metric's signature
    """The share of equal answers with Wilson's interval."""
    value, interval = proportion(correct(rows))
    return Summary(value, interval, findings=tie_findings(rows[:, 2], rows[:, 1] < 0))


def drop(before: Rows, after: Rows) -> Drop:
    """The drop of agreement with the same reference."""
    return proportion_drop(correct(before), correct(after))


def correct(rows: Rows) -> NDArray[np.bool_]:
    """Whether both models chose the same class, shape (n,)."""
    equal: NDArray[np.bool_] = (rows[:, 0] == rows[:, 1]) & (rows[:, 1] >= 0)
    return equal
