"""``lint``: mistakes in calibration data, found before they cost accuracy."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.artifact import Artifact
from edgekit.contract import under_contract
from edgekit.data import Dataset, open_dataset
from edgekit.evidence import gather
from edgekit.findings import Finding
from edgekit.formats import open_artifact
from edgekit.linting import Line, checks, judged


@dataclass(frozen=True)
class Linting:
    """What every check said of the samples.

    ``samples`` is their number, and ``samples_run`` how many of them went through the model; ``notes`` are what was
    noticed on the way.
    """

    artifact: Artifact
    data: str
    against: str | None
    reference: str | None
    samples: int
    samples_run: int
    lines: tuple[Line, ...]
    notes: tuple[Finding, ...] = ()

    @property
    def mistakes(self) -> tuple[Line, ...]:
        """The checks that found what they look for."""
        return tuple(line for line in self.lines if line.is_mistake)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The mistakes and the notes."""
        return (*(line.finding() for line in self.mistakes), *self.notes)

    def describe(self) -> dict[str, Any]:
        """The result as it stands in JSON documents."""
        return {
            "artifact": self.artifact.describe(),
            "data": self.data,
            "against": self.against,
            "reference": self.reference,
            "samples": self.samples,
            "samples_run": self.samples_run,
            "mistakes": len(self.mistakes),
            "checks": [line.describe() for line in self.lines],
        }


def lint(
    data: str | Path | Dataset,
    model: str | Path | Artifact,
    *,
    against: str | Path | Dataset | None = None,
    reference: str | Path | Dataset | None = None,
    samples: int = 256,
    seed: int = 0,
    preprocess: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Linting:
    """Look for mistakes in calibration data: range, order of colors and axes, copies, leaks, outliers, too few.

    Every sample is read once, and some go through the model. Keras models, SavedModels and exported programs are
    converted to float ``.tflite`` for that, in a temporary folder.

    Args:
        data: A data spec (see ``open_dataset``), or a dataset; labels are used where there are any.
        model: The model that the samples are for.
        against: Evaluation data, which must have no sample in common.
        reference: Samples that are known to be prepared rightly, such as some of the training.
        samples: At most so many go through the model.
        seed: Chooses them.
        preprocess: A preprocessing contract of all three; "none" ignores the one of the model's lineage.
        progress: Called with the numbers of samples done and of all.

    Raises:
        ModelError: The model is unreadable, or fails.
        DataError: Data cannot be read, or have another shape than the model takes.
        UsageError: There is no such contract.
    """
    artifact = model if isinstance(model, Artifact) else open_artifact(Path(model))
    given = {"data": data, "against": against, "reference": reference}
    opened = {name: _open(one, artifact, preprocess) for name, one in given.items() if one is not None}
    datasets = {name: dataset for name, (dataset, _) in opened.items()}
    evidence = gather(
        artifact,
        datasets["data"],
        against=datasets.get("against"),
        reference=datasets.get("reference"),
        samples=samples,
        seed=seed,
        progress=progress,
    )
    if preprocess == "none":
        evidence = replace(evidence, contract=None)
    specs = {name: datasets[name].spec if name in datasets else None for name in ("against", "reference")}
    return Linting(
        artifact,
        datasets["data"].spec,
        specs["against"],
        specs["reference"],
        evidence.samples.count,
        evidence.count_run,
        judged(evidence),
        opened["data"][1],
    )


def planned(
    data: str | Path | Dataset,
    model: str | Path | Artifact,
    *,
    against: str | Path | Dataset | None = None,
    reference: str | Path | Dataset | None = None,
    samples: int = 256,
    seed: int = 0,
    preprocess: str | None = None,
) -> tuple[dict[str, Any], tuple[Finding, ...]]:
    """What ``lint`` would do with these options, without reading samples or running the model.

    Raises:
        EdgekitError: What ``lint`` would raise before that.
    """
    artifact = model if isinstance(model, Artifact) else open_artifact(Path(model))
    dataset, notes = _open(data, artifact, preprocess)
    others = {"against": against, "reference": reference}
    opened = {name: _open(one, artifact, preprocess)[0] for name, one in others.items() if one is not None}
    plan = {
        "model": str(artifact.path),
        "data": dataset.spec,
        **{name: opened[name].spec if name in opened else None for name in others},
        "samples": dataset.count,
        "samples_run": min(samples, dataset.count),
        "seed": seed,
        "checks": [
            {"check": name, "code": check.CODE, "looks_for": check.LOOKS_FOR} for name, check in checks()
        ],
    }
    return plan, notes


def _open(
    data: str | Path | Dataset, artifact: Artifact, preprocess: str | None
) -> tuple[Dataset, tuple[Finding, ...]]:
    return under_contract(open_dataset(data, preprocess=preprocess), artifact, preprocess)
