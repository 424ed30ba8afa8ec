"""Top-5 accuracy: the label is among the five highest scores. Rows: label, its rank, tied at the fifth."""

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit.metrics import (
    Answers,
    Context,
    Drop,
    Rows,
    Summary,
    class_labels,
    class_scores,
    proportion,
    proportion_drop,
    tie_findings,
)

NEEDS = "labels"
UNIT = "fraction"
HIGHER_IS_BETTER = True
COLUMNS = ("label", "rank", "tied")
_PLACES = 5


def measure(answers: Answers) -> Rows:
    """Rows of shape (n, 3).

    Raises:
        DataError: The model has five classes or fewer.
    """
    scores = class_scores(answers.outputs)
    count, classes = scores.shape
    if classes <= _PLACES:
        raise DataError(
            "EK420", f"top5 is always right for a model with {classes} classes.", "Choose --metric top1."
        )
    labels = class_labels(answers, classes)
    own = scores[np.arange(count), labels][:, None]
    # Equal scores rank in the order of their classes, as a stable sort would put them.
    earlier = np.arange(classes)[None] < labels[:, None]
    rank = (scores > own).sum(axis=1) + ((scores == own) & earlier).sum(axis=1)
    ordered = np.sort(scores, axis=1)
    tied = ordered[:, -_PLACES] == ordered[:, -_PLACES - 1]
    lost = np.isnan(scores).any(axis=1)
    return np.column_stack([labels, np.where(lost, -1, rank), tied]).astype(np.float64)


def summarize(rows: Rows, context: Context) -> Summary:  # noqa: ARG001 - every metric's signature
    """Accuracy with Wilson's interval."""
    value, interval = proportion(correct(rows))
    return Summary(value, interval, findings=tie_findings(rows[:, 2], rows[:, 1] < 0))


def drop(before: Rows, after: Rows) -> Drop:
    """The drop of accuracy."""
    return proportion_drop(correct(before), correct(after))


def correct(rows: Rows) -> NDArray[np.bool_]:
    """Whether each sample's label is among the five, shape (n,)."""
    within: NDArray[np.bool_] = (rows[:, 1] >= 0) & (rows[:, 1] < _PLACES)
    return within
