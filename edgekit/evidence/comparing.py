"""Whether another reading of the samples fits better: by labels, by a reference, or by what scores look like."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgekit.evidence.readings import AS_GIVEN
from edgekit.evidence.seen import Seen
from edgekit.tensor import Array

Vector = NDArray[np.float64]

# Standard errors. A reading as good as another would be found worse once in 700 times; those of clean sets are better.
CERTAIN = 3.0
# Of scores with a deviation of one.
_LOG_TEMPERATURES = (-4.0, 4.0)
_SURE = 1e-6
_UNSURE = 0.2
_SHRINKAGE = 0.2
_FOLDS = 5


def surprise(scores: Array, labels: Array) -> Vector:
    """The negative log-likelihood of each sample's label, (n,), at the temperature that suits all of them best.

    Networks are too sure of themselves, and the more so the larger their inputs are; one factor for all scores takes
    that out (arXiv:1706.04599), so that what is left is which class they prefer.

    Args:
        scores: Before softmax, (n, classes).
        labels: Class numbers, (n,).
    """
    from scipy.optimize import minimize_scalar

    scores = _standard(scores)

    def at(log_temperature: float) -> Vector:
        logs = log_softmax(scores / np.exp(log_temperature))
        return -logs[np.arange(len(labels)), labels]

    best = minimize_scalar(lambda t: float(at(t).mean()), bounds=_LOG_TEMPERATURES, method="bounded")
    return at(float(best.x))


def log_softmax(scores: Array) -> Vector:
    """The logarithms of probabilities, (n, classes)."""
    from scipy.special import log_softmax as scipys

    logs: Vector = scipys(scores.astype(np.float64), axis=1)
    return logs


def standard_score(differences: Vector) -> float:
    """How many standard errors the mean is above zero; 0 for fewer than two, and where all are equal."""
    if len(differences) < 2:
        return 0.0
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return float(differences.mean() / error) if error > 1e-9 * np.abs(differences).max() else 0.0


class Information(NamedTuple):
    """What scores tell of samples.

    ``told`` is the mutual information of sample and class in nats, H(mean p) - mean H(p); ``variety`` is H(mean p) at
    the temperature that makes the mean H(p) a fifth of its most, so that it does not grow with the scores; ``sure`` is
    the share of samples whose class is certain to 1e-6.
    """

    told: float
    variety: float
    sure: float


def information(scores: Array) -> Information:
    """What the scores of classes, (n, classes), tell of samples."""
    logs = log_softmax(scores)
    spread, each = _entropies(logs)
    sure = float((1 - np.exp(logs).max(axis=1) < _SURE).mean())
    return Information(spread - each, _variety(scores), sure)


def _entropies(logs: Vector) -> tuple[float, float]:
    """H(mean p), and mean H(p)."""
    chances = np.exp(logs)
    mean = chances.mean(axis=0)
    return -float((mean * np.log(np.maximum(mean, 1e-30))).sum()), -float((chances * logs).sum(axis=1).mean())


def _variety(scores: Array) -> float:
    """The entropy of classes over samples, at a fixed entropy of each sample; 0 where scores do not differ."""
    from scipy.optimize import brentq

    scores = _standard(scores)
    wanted = _UNSURE * np.log(scores.shape[1])

    def beyond(log_temperature: float) -> float:
        return float(_entropies(log_softmax(scores / np.exp(log_temperature)))[1] - wanted)

    low, high = _LOG_TEMPERATURES
    if beyond(low) >= 0 or beyond(high) <= 0:
        return 0.0
    return _entropies(log_softmax(scores / np.exp(brentq(beyond, low, high))))[0]


def _standard(scores: Array) -> Vector:
    """Scores with a deviation of one within samples."""
    spread = float((scores - scores.mean(axis=1, keepdims=True)).std())
    return scores / spread if spread > 0 else scores


def reference_score(samples: Seen, reference: Seen | None, reading: str) -> float | None:
    """See ``fits_reference``; None too where there is no reference, or no such reading of the samples."""
    if reference is None or reading not in samples.fields or reading not in reference.fields:
        return None
    own, other = samples.fields, reference.fields
    return fits_reference(own[AS_GIVEN], own[reading], other[AS_GIVEN], other[reading])


def fits_reference(given: Array, other: Array, reference: Array, reference_other: Array) -> float | None:
    """How many standard errors samples as they are fit the reference better than read otherwise: by field means.

    Each side is judged under a normal distribution of the reference's fields, whose covariance is shrunk to its
    diagonal. None where the reference itself cannot tell the two readings apart on samples that it was not fitted to.

    Args:
        given: Field means of the samples as they are, (n, k).
        other: The same of the samples in the other reading.
        reference: Field means of the reference, (m, k).
        reference_other: The same of the reference in the other reading.
    """
    folds = np.arange(len(reference)) % _FOLDS
    own = [
        _advantage(reference[folds == fold], reference_other[folds == fold], reference[folds != fold])
        for fold in range(min(_FOLDS, len(reference)))
        if (folds != fold).sum() > 1
    ]
    if not own or standard_score(np.concatenate(own)) < CERTAIN:
        return None
    return standard_score(_advantage(given, other, reference))


def _advantage(given: Array, other: Array, reference: Array) -> Vector:
    """By how much each sample is likelier as it is than in the other reading, (n,)."""
    mean = reference.mean(axis=0)
    centred = reference - mean
    covariance = centred.T @ centred / max(1, len(reference) - 1)
    diagonal = np.diag(np.diag(covariance))
    shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * diagonal
    shrunk += np.eye(len(shrunk)) * max(float(np.trace(shrunk)) / len(shrunk) * 1e-6, 1e-30)
    inverse = np.linalg.inv(shrunk)

    def distance(fields: Array) -> Vector:
        far = fields - mean
        squared: Vector = np.einsum("ij,jk,ik->i", far, inverse, far)
        return squared

    return (distance(other) - distance(given)) / 2
