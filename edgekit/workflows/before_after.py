"""Accuracy before and after: two models on the same samples, and the paired drop between them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.artifact import Artifact
from edgekit.catalog import load
from edgekit.data import Dataset
from edgekit.findings import Finding
from edgekit.verbs.evaluate import Evaluation, PairedDrop, evaluate, paired

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BeforeAfter:
    """Two evaluations on the same samples.

    ``before`` and ``drop`` are None for metrics that compare with the first model, such as ``snr``: there
    ``after`` says it all.
    """

    before: Evaluation | None
    after: Evaluation
    drop: PairedDrop | None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What both evaluations noticed, each thing once."""
        first = self.before.findings if self.before else ()
        return tuple(dict.fromkeys((*first, *self.after.findings)))

    def describe(self) -> dict[str, Any]:
        """The comparison as it stands in JSON documents."""
        document: dict[str, Any] = {
            "metric": self.after.metric,
            "n": self.after.n,
            "before": self.before.value if self.before else None,
            "before_ci95": list(self.before.ci95) if self.before else None,
            "after": self.after.value,
            "after_ci95": list(self.after.ci95),
        }
        if self.drop is not None:
            document |= {
                "drop": self.drop.drop,
                "drop_ci95": list(self.drop.drop_ci95),
                "broken": self.drop.broken,
                "fixed": self.drop.fixed,
            }
        return document

    def sentence(self) -> str:
        """The comparison for people; fractions are printed as points of a hundred."""
        after = self.after
        if self.before is None or self.drop is None:
            low, high = after.ci95
            return f"{after.metric} {after.value:.2f} [{low:.2f}, {high:.2f}] {after.unit}, n = {after.n}"
        is_share = after.unit == "fraction"
        scale, unit = (100, " points") if is_share else (1, "")
        low, high = (scale * limit for limit in self.drop.drop_ci95)
        text = (
            f"{after.metric} {scale * self.before.value:.4g} before, {scale * after.value:.4g} after, "
            f"drop {scale * self.drop.drop:+.2f}{unit} [{low:+.2f}, {high:+.2f}], n = {after.n}"
        )
        if self.drop.broken is not None:
            text += f"; {self.drop.broken} samples broken, {self.drop.fixed} fixed"
        return text


def before_and_after(
    before: str | Path | Artifact,
    after: str | Path | Artifact,
    data: str | Path | Dataset,
    *,
    metric: str | None = None,
    preprocess: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> BeforeAfter:
    """Evaluate two models on the same samples and compare them sample by sample.

    Args:
        before: The model to compare with.
        after: The model made from it.
        data: Labelled samples; without labels for metrics such as ``snr``.
        metric: A metric's name; chosen from labels and outputs when None.
        preprocess: The preprocessing contract of the samples.
        workers: Number of processes for each evaluation.
        progress: Called with the numbers of samples done and of all, over both.

    Raises:
        ModelError: A model is unreadable or fails.
        DataError: The samples do not fit the models.
    """
    if metric is not None and load("metrics", metric).NEEDS != "labels":
        found = evaluate(
            after,
            data,
            metric=metric,
            reference=before,
            preprocess=preprocess,
            workers=workers,
            progress=progress,
        )
        return BeforeAfter(None, found, None)
    first = evaluate(
        before, data, metric=metric, preprocess=preprocess, workers=workers, progress=_part(progress, 0)
    )
    second = evaluate(
        after, data, metric=first.metric, preprocess=preprocess, workers=workers, progress=_part(progress, 1)
    )
    return BeforeAfter(first, second, paired(first, second))


def _part(progress: Progress | None, index: int) -> Progress | None:
    """The progress of one of the two evaluations as that of the whole."""
    if progress is None:
        return None
    return lambda done, total: progress(index * total + done, 2 * total)
