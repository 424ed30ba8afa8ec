"""Classes of which the set has no sample: their activations have no part in the ranges."""

import numpy as np

from edgekit.evidence import Evidence
from edgekit.evidence.readings import AS_GIVEN
from edgekit.linting import Judgement, clean, mistake, not_run
from edgekit.tensor import Array

CODE = "EK246"
LOOKS_FOR = "classes without a sample"

_CHANCE = 1e-3
_NAMED = 5


def judge(evidence: Evidence) -> Judgement:
    """Whether a random draw of so many samples would miss so many classes."""
    labels = evidence.samples.labels
    if labels is None:
        return not_run("the samples have no labels.")
    shares, whose = _shares(evidence)
    if shares is None:
        nothing = "the model has no scores of classes, and --against was not given or has no labels."
        return not_run(evidence.unseen or nothing)
    if labels.min() < 0 or labels.max() >= len(shares):
        return not_run(
            f"the labels go from {labels.min()} to {labels.max()}, and {whose} has {len(shares)} classes."
        )
    missing = [int(label) for label in np.flatnonzero(shares > 0) if label not in labels]
    text = f"{len(missing)} of {int((shares > 0).sum())} classes of {whose} have no sample"
    if missing and chance_of_missing(shares, len(labels), len(missing)) < _CHANCE:
        names = evidence.samples.class_names
        listed = ", ".join(names[label] if label < len(names) else str(label) for label in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        return mistake(f"{text}: {listed}{more}.", "Draw from all classes, as the device will meet them.")
    return clean(f"{text}.")


def _shares(evidence: Evidence) -> tuple[Array | None, str]:
    """How frequent each class is: in the evaluation data, or all alike."""
    if evidence.against is not None and evidence.against.labels is not None:
        labels = evidence.against.labels
        if labels.min() >= 0:
            return np.bincount(labels) / len(labels), evidence.against.spec
    if evidence.behaviour is not None and evidence.behaviour.scores:
        classes = evidence.behaviour.scores[AS_GIVEN].shape[1]
        return np.full(classes, 1 / classes), "the model"
    return None, ""


def chance_of_missing(shares: Array, count: int, missing: int) -> float:
    """How likely a random draw of ``count`` samples misses at least so many classes, by Poisson's approximation."""
    from scipy.stats import poisson

    mean = float(((1 - shares[shares > 0]) ** count).sum())
    return float(poisson.sf(missing - 1, mean))
