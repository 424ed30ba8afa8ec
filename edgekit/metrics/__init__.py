"""What is measured against labels or a reference: one file per metric.

A metric is a module. ``measure`` turns the answers to a batch into one row of numbers per sample, in the
worker that computed them; ``summarize`` turns all rows into a value with its interval; ``drop`` compares
the rows of two models on the same samples. Rows are small and all of them are kept, so nothing is lost
that a paired comparison needs.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit.findings import Finding
from edgekit.noninferiority import PValues, paired_p_values, samples_needed
from edgekit.statistics import (
    Bootstrap,
    Interval,
    Vector,
    bootstrap,
    bootstrap_interval,
    paired_difference_interval,
    wilson_interval,
)
from edgekit.tensor import Array

Rows = NDArray[np.float64]

# Fewer say too little of how a statistic varies to resample them.
_FEWEST_RESAMPLED = 20


@dataclass(frozen=True)
class Answers:
    """A batch of samples with what a model, and perhaps a reference, made of them.

    ``first`` is the number of the first sample; all arrays have a leading batch axis. The reference's
    outputs go by the model's names.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    labels: Array | None
    first: int
    reference: Mapping[str, Array] | None = None


@dataclass(frozen=True)
class Context:
    """What rows do not say: the names of the classes and of the model's outputs."""

    class_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """A metric over all samples. ``confusion[label, predicted]`` counts samples, shape (classes, classes)."""

    value: float
    ci95: Interval
    per_class: tuple[Mapping[str, Any], ...] = ()
    confusion: Array | None = None
    findings: tuple[Finding, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class Drop:
    """How much worse the second model is: positive where it is worse, whichever way the metric points.

    ``broken`` and ``fixed`` count samples that only the first, or only the second, gets right; None for
    metrics that know no right and wrong, whose ``resamples`` say how certain the value is.
    """

    value: float
    ci95: Interval
    n: int
    broken: int | None = None
    fixed: int | None = None
    resamples: Bootstrap | None = None

    def p_values(self, limit: float) -> PValues:
        """Test the true drop against a limit: exactly where samples are right or wrong, else by BCa."""
        if self.broken is not None and self.fixed is not None:
            return paired_p_values(self.broken, self.fixed, self.n, limit)
        if self.resamples is None or not len(self.resamples.resamples):
            # Infinitely worse, as a finite SNR is after an infinite one; or no better and no worse.
            within = 0.0 if self.value > limit else 1.0
            return PValues(1.0 - within, within)
        if self.n < _FEWEST_RESAMPLED:
            return PValues(1.0, 1.0)
        below = self.resamples.confidence_below(limit)
        return PValues(1 - below, below)

    def samples_needed(self, limit: float, *, alpha: float, power: float) -> int | None:
        """How many samples tell a drop of nothing from the limit; None where no number would.

        The discordance, or the spread, is that of these samples.
        """
        if limit == 0:
            return None
        if self.broken is not None and self.fixed is not None:
            # One pair more than was seen: no discordant pair among few does not mean that there are none.
            seen = (self.broken + self.fixed + 1) / (self.n + 1)
            return samples_needed(seen, 0.0, limit, alpha=alpha, power_wanted=power)
        if self.resamples is None or not self.resamples.standard_error > 0:
            return None
        quantiles = NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)
        return math.ceil(self.n * (quantiles * self.resamples.standard_error / limit) ** 2)


class Metric(Protocol):
    """What every file of this folder offers."""

    NEEDS: str  # "labels", "reference", or "target": labels, a reference or, for autoencoders, the input
    UNIT: str  # "fraction", "dB", or "" for that of the outputs
    HIGHER_IS_BETTER: bool

    def measure(self, answers: Answers) -> Rows:
        """One row per sample, shape (n, k)."""

    def summarize(self, rows: Rows, context: Context) -> Summary:
        """The value of all samples."""

    def drop(self, before: Rows, after: Rows) -> Drop:
        """Compare two models on the same samples."""


@runtime_checkable
class RightOrWrong(Metric, Protocol):
    """What those files offer besides whose metric is right or wrong for each sample.

    ``COLUMNS`` names what stands in a row: "label" first, then "predicted" or "rank".
    """

    COLUMNS: tuple[str, ...]

    def correct(self, rows: Rows) -> NDArray[np.bool_]:
        """Whether each sample was answered rightly, shape (n,)."""


def class_scores(outputs: Mapping[str, Array]) -> Array:
    """The scores of the first output as (n, classes): (n, 1, 1, 10) becomes (n, 10).

    Raises:
        DataError: The output is no vector of at least two scores.
    """
    name, scores = next(iter(outputs.items()))
    shape = scores.shape[1:]
    classes = max(shape, default=1)
    if classes < 2 or scores.size != len(scores) * classes:
        raise DataError(
            "EK420",
            f"Output {name!r} has shape {list(shape)} per sample, which are no class scores.",
            "Choose a metric that fits: --metric auc, mse or mae, or snr with --reference MODEL.",
        )
    return scores.reshape(len(scores), classes)


def class_labels(answers: Answers, classes: int) -> NDArray[np.intp]:
    """Labels as class numbers, shape (n,), from numbers or one-hot rows.

    Raises:
        DataError: There are none, or one is no class.
    """
    labels = needed_labels(answers)
    if labels.ndim == 2 and labels.shape[1] == classes and classes > 1:
        hot: NDArray[np.intp] = labels.argmax(axis=1)
        if not np.array_equal(labels, np.eye(classes)[hot]):
            raise DataError(
                "EK208", "The labels are rows of numbers, but not one-hot.", "Save the number of the class."
            )
        return hot
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] != 1:
        raise DataError(
            "EK208",
            f"The labels have shape {list(labels.shape[1:])} per sample; the model has {classes} classes.",
            "Save one class number per sample, or one-hot rows.",
        )
    with np.errstate(invalid="ignore"):  # NaN becomes some number, which is then found to be wrong
        numbers = flat[:, 0].astype(np.intp)
    wrong = (numbers != flat[:, 0]) | (numbers < 0) | (numbers >= classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            "EK208",
            f"Sample {answers.first + row} has the label {flat[row, 0]}; the model has {classes} classes.",
            f"Labels count from 0 to {classes - 1} in the order of the model's outputs.",
        )
    return numbers


def needed_labels(answers: Answers) -> Array:
    """The labels.

    Raises:
        DataError: There are none.
    """
    if answers.labels is None:
        raise DataError(
            "EK211",
            "This metric needs labels, and the data have none.",
            "Save them as y, or compare with another model: --reference MODEL --metric agreement.",
        )
    return answers.labels


def reference_outputs(answers: Answers) -> Mapping[str, Array]:
    """The reference's outputs.

    Raises:
        DataError: No reference was given.
    """
    if answers.reference is None:
        raise DataError(
            "EK421",
            "This metric compares with a reference model, and none was given.",
            "Add --reference MODEL.",
        )
    return answers.reference


def top_class(scores: Array) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The highest score's class, the first of equal ones, and whether there were equal ones: both (n,).

    The class is -1 where a score is NaN.
    """
    best = scores.max(axis=1, keepdims=True)
    tied = (scores == best).sum(axis=1) > 1
    return np.where(np.isnan(best[:, 0]), -1, scores.argmax(axis=1)), tied


def tie_findings(tied: Array, lost: Array) -> tuple[Finding, ...]:
    """What to say about equal highest scores and about scores that are no numbers."""
    found = []
    if tied.any():
        found.append(
            Finding(
                "EK401",
                f"{int(tied.sum())} of {len(tied)} samples have equal top scores; the first class counts.",
                "Coarsely quantized scores are often equal. Other runtimes may choose the other class.",
            )
        )
    if lost.any():
        found.append(
            Finding(
                "EK402",
                f"{int(lost.sum())} of {len(lost)} samples have NaN among their scores; they count as wrong.",
                "The model is numerically broken: compare it with its source layer by layer.",
            )
        )
    return tuple(found)


def proportion(correct: NDArray[np.bool_]) -> tuple[float, Interval]:
    """A share with Wilson's interval."""
    return float(correct.mean()), wilson_interval(int(correct.sum()), len(correct))


def proportion_drop(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Drop:
    """The drop of a share on the same samples, with Tango's interval."""
    broken, fixed = int((before & ~after).sum()), int((~before & after).sum())
    n = len(before)
    return Drop((broken - fixed) / n, paired_difference_interval(broken, fixed, n), n, broken, fixed)


def errors(answers: Answers) -> Vector:
    """Output minus target, shape (n, values): the target is the labels, else the reference, else the input.

    Raises:
        DataError: There is no target, or it does not have the output's shape.
    """
    name, output = next(iter(answers.outputs.items()))
    given = next(iter(answers.inputs.values()))
    if answers.labels is not None:
        target = answers.labels
    elif answers.reference is not None:
        target = answers.reference[name]
    elif given.shape == output.shape:
        target = given
    else:
        target = needed_labels(answers)
    flat = output.reshape(len(output), -1).astype(np.float64)
    if target.size != flat.size:
        raise DataError(
            "EK420",
            f"Output {name!r} has shape {list(output.shape[1:])}, but its target {list(target.shape[1:])}.",
            "Save targets of the output's shape as y.",
        )
    difference: Vector = flat - target.reshape(flat.shape)
    return difference


def mean_summary(rows: Rows) -> Summary:
    """The mean of the only column with its bootstrap interval."""
    return Summary(float(rows.mean()), bootstrap_interval(rows[:, 0], np.mean))


def mean_rise(before: Rows, after: Rows) -> Drop:
    """How much a mean error rose on the same samples."""
    return resampled_drop(after[:, 0] - before[:, 0], np.mean)


def resampled_drop(rows: Rows, lost: Callable[[Rows], Any]) -> Drop:
    """A drop with its BCa interval, whole samples being drawn.

    Args:
        rows: What both models made of each sample, shape (n, ...).
        lost: The drop over rows of this kind.
    """
    resamples = bootstrap(rows, lost)
    return Drop(resamples.estimate, resamples.interval(), len(rows), resamples=resamples)
