"""Which metric fits a model and its data, where the user names none."""

from edgekit.artifact import Artifact
from edgekit.catalog import load
from edgekit.data import Batch, Dataset
from edgekit.errors import DataError
from edgekit.findings import Finding, Level


def choose_metric(
    name: str | None, artifact: Artifact, dataset: Dataset, *, has_reference: bool
) -> tuple[str, tuple[Finding, ...]]:
    """The metric, and a finding that says which one was chosen and why.

    Raises:
        UsageError: There is no metric of this name.
        DataError: It needs labels or a reference, and there are none.
    """
    chosen: tuple[Finding, ...] = ()
    if name is None:
        name, reason = _fitting(artifact, dataset, has_reference=has_reference)
        said = f"The metric is {name}: {reason}."
        chosen = (Finding("EK403", said, "--metric NAME chooses another.", Level.NOTE),)
    needs = load("metrics", name).NEEDS
    if needs == "labels" and not dataset.has_labels:
        raise _no_labels(f"The metric {name} needs labels, and {dataset.spec} has none.")
    if needs == "reference" and not has_reference:
        raise DataError(
            "EK421", f"The metric {name} compares with a reference model.", "Add --reference MODEL."
        )
    return name, chosen


def _fitting(artifact: Artifact, dataset: Dataset, *, has_reference: bool) -> tuple[str, str]:
    if has_reference:
        return "snr", "a reference was given"
    if not dataset.has_labels:
        raise _no_labels(f"{dataset.spec} has no labels.")
    output = artifact.outputs[0].shape[1:]
    sizes = [side or 1 for side in output]
    classes = max(sizes, default=1)
    if len(artifact.inputs) == 1 and artifact.inputs[0].shape[1:] == output:
        return "auc", "the model rebuilds its input, as an autoencoder does"
    batch = next(iter(dataset.raw_batches(1)))
    if _are_tags(batch, classes):
        return "map", "several classes may hold at once"
    if _are_targets(batch, sizes):
        return "mse", "the labels are real numbers of the output's shape"
    if classes == 1:
        return "auc", "the model has one score"
    return "top1", f"the model has {classes} scores, and labels are classes"


def _are_tags(batch: Batch, classes: int) -> bool:
    """Whether a label says of every class whether it holds; one that holds for all may also be the only one."""
    labels = batch.labels
    if labels is None or classes < 2 or labels[0].size != classes:
        return False
    values = labels[0].reshape(-1).tolist()
    return set(values) <= {0, 1} and sum(values) != 1


def _are_targets(batch: Batch, output: list[int]) -> bool:
    """Whether a label is a target to be met rather than a class: its shape is the output's, its type real."""
    labels = batch.labels
    if labels is None or labels.dtype.kind != "f":
        return False
    values = labels[0].reshape(-1).tolist()
    size = 1
    for side in output:
        size *= side
    one_hot = sorted(values)[:-1] == [0.0] * (len(values) - 1) and max(values) == 1.0
    return len(values) == size and not (size > 1 and one_hot) and not (size == 1 and values[0] in {0.0, 1.0})


def _no_labels(message: str) -> DataError:
    return DataError(
        "EK211",
        message,
        "Save them as y, or compare with another model: --reference MODEL --metric agreement.",
    )
