"""Samples sorted by class: whoever takes the first hundred of them calibrates on the first class."""

import math

import numpy as np

from edgekit.evidence import Evidence
from edgekit.evidence.readings import AS_GIVEN
from edgekit.linting import Judgement, clean, mistake, not_run
from edgekit.tensor import Array

CODE = "EK245"
LOOKS_FOR = "samples in the order of their classes"

_CERTAIN = 5.0
# Of the runs that a random order has.
_FEWEST_RUNS = 0.6
_FIRST = 100


def judge(evidence: Evidence) -> Judgement:
    """By the number of runs of equal labels; of the classes that the model gives where there are no labels."""
    samples = evidence.samples
    if samples.is_sorted_folder:
        return clean(
            "Folders of classes are read one after the other, and edgekit draws from all of them at random."
        )
    labels, whose = samples.labels, "labels"
    if labels is None and evidence.behaviour is not None and evidence.behaviour.has_classes:
        labels, whose = evidence.behaviour.scores[AS_GIVEN].argmax(axis=1), "the model's classes"
    if labels is None:
        return not_run(evidence.unseen or "there are no labels, and the model has no classes.")
    runs, expected, deviation = runs_of(labels)
    if deviation == 0:
        return not_run(f"all {whose} are the same.")
    score = (runs - expected) / deviation
    text = f"{runs} runs of equal {whose}, {expected:.0f} in a random order"
    if score < -_CERTAIN and runs < _FEWEST_RUNS * expected:
        first = len(np.unique(labels[:_FIRST]))
        more = (
            f"{text}; the first {min(_FIRST, len(labels))} have {first} of {len(np.unique(labels))} classes."
        )
        return mistake(
            more,
            "Shuffle them before you save them: tools that take the first N see the first classes alone.",
        )
    return clean(f"{text}.")


def runs_of(labels: Array) -> tuple[int, float, float]:
    """Runs of equal labels, and their mean and standard deviation in random order.

    For classes of n_1, n_2, ... samples: Barton and David, Biometrika 44 (1957) 168, which for two classes is the test
    of Wald and Wolfowitz.

    >>> runs_of(np.array([0, 0, 1, 1]))
    (2, 3.0, 0.816496580927726)
    """
    n = len(labels)
    sizes = np.unique(labels, return_counts=True)[1].astype(float)
    runs = 1 + int((labels[1:] != labels[:-1]).sum())
    squares, cubes = float((sizes**2).sum()), float((sizes**3).sum())
    mean = (n * (n + 1) - squares) / n
    if n < 2:
        return runs, mean, 0.0
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n * n * (n - 1))
    return runs, mean, math.sqrt(max(0.0, variance))
