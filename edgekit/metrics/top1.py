"""Top-1 accuracy: the highest score is the label's. Rows: label, predicted class, tied."""

import numpy as np
from numpy.typing import NDArray

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
    top_class,
)

NEEDS = "labels"
UNIT = "fraction"
HIGHER_IS_BETTER = True
COLUMNS = ("label", "predicted", "tied")


def measure(answers: Answers) -> Rows:
    """Rows of shape (n, 3)."""
    scores = class_scores(answers.outputs)
    predicted, tied = top_class(scores)
    return np.column_stack([class_labels(answers, scores.shape[1]), predicted, tied]).astype(np.float64)


def summarize(rows: Rows, context: Context) -> Summary:
    """Accuracy with Wilson's interval, the same for each class, and the confusion matrix."""
    right = correct(rows)
    value, interval = proportion(right)
    labels, predicted = rows[:, 0].astype(int), rows[:, 1].astype(int)
    count = max(int(rows[:, :2].max()) + 1, len(context.class_names))
    confusion = np.zeros((count, count), np.int64)
    known = predicted >= 0
    np.add.at(confusion, (labels[known], predicted[known]), 1)
    per_class = []
    for number in np.unique(labels):
        share, ends = proportion(right[labels == number])
        name = context.class_names[number] if number < len(context.class_names) else str(number)
        per_class.append(
            {
                "class": int(number),
                "name": name,
                "n": int((labels == number).sum()),
                "value": share,
                "ci95": ends,
            }
        )
    return Summary(value, interval, tuple(per_class), confusion, tie_findings(rows[:, 2], predicted < 0))


def drop(before: Rows, after: Rows) -> Drop:
    """The drop of accuracy."""
    return proportion_drop(correct(before), correct(after))


def correct(rows: Rows) -> NDArray[np.bool_]:
    """Whether each sample's predicted class is its label, shape (n,)."""
    return np.equal(rows[:, 0], rows[:, 1])
