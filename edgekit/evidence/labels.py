"""Which reading of the samples their labels speak for."""

from dataclasses import dataclass

import numpy as np

from edgekit.evidence.behaviour import Behaviour
from edgekit.evidence.comparing import CERTAIN, standard_score, surprise
from edgekit.evidence.readings import AS_GIVEN
from edgekit.tensor import Array

# Nats a sample: what is certain and smaller than this changes no calibration.
_LEAST = 0.05
# Of the entropy of the labels: a model that does no better than this in any reading was not trained for them.
_UNINFORMED = 0.8


@dataclass(frozen=True)
class Better:
    """The reading that the labels speak for most, ``kind`` and ``name`` empty where it is that of the samples as given.

    ``ratio`` is how many times likelier it makes the label of a sample, the geometric mean over samples. ``worse`` are
    the readings that the labels speak against.
    """

    kind: str = ""
    name: str = ""
    ratio: float = 1.0
    worse: frozenset[str] = frozenset()


def best_by_labels(labels: Array | None, behaviour: Behaviour | None) -> Better | None:
    """The other reading in which the model's scores explain the labels best; None without labels or scores.

    Args:
        labels: Class numbers of all samples, (n,).
        behaviour: What the model made of some of them.
    """
    if behaviour is None or labels is None or not behaviour.scores:
        return None
    chosen, classes = labels[behaviour.rows], behaviour.scores[AS_GIVEN].shape[1]
    if chosen.min() < 0 or chosen.max() >= classes:
        return None
    surprises = {name: surprise(scores, chosen) for name, scores in behaviour.scores.items()}
    shares = np.unique(chosen, return_counts=True)[1] / len(chosen)
    if min(float(one.mean()) for one in surprises.values()) >= -_UNINFORMED * float(
        (shares * np.log(shares)).sum()
    ):
        return None
    gains = {name: surprises[AS_GIVEN] - surprises[name] for name in behaviour.readings}
    better = {
        name: gain for name, gain in gains.items() if gain.mean() > _LEAST and standard_score(gain) > CERTAIN
    }
    worse = frozenset(name for name, gain in gains.items() if standard_score(gain) < -CERTAIN)
    if not better:
        return Better(worse=worse)
    name = max(better, key=lambda other: float(better[other].mean()))
    return Better(behaviour.readings[name].kind, name, float(np.exp(better[name].mean())), worse)
