"""The noun ``Comparison``: models side by side on the same samples, and the file that keeps it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import edgekit
from edgekit import files
from edgekit.artifact import Artifact
from edgekit.findings import Finding
from edgekit.inspection import Inspection
from edgekit.metrics import Drop
from edgekit.verbs.benchmark import Benchmark, ModelBenchmark, Ratio
from edgekit.verbs.evaluate import Evaluation, PairedDrop

# 1 (2026): models with evaluation, paired drop, benchmark, operators and lineage; samples that broke.
SCHEMA_VERSION = 1
KIND = "comparison"

# A matrix of a thousand classes has a million numbers; what changed most is listed for any number of them.
_MOST_CONFUSION = 100
_MOST_CHANGES = 20


@dataclass(frozen=True)
class ClassDrop:
    """How much worse a model is than the first on the samples of one class; ``label`` is the class's number."""

    label: int
    name: str
    before: float
    after: float
    drop: Drop

    def describe(self) -> dict[str, Any]:
        """The drop as it stands in JSON documents."""
        return {
            "class": self.label,
            "name": self.name,
            "n": self.drop.n,
            "before": self.before,
            "after": self.after,
            "drop": self.drop.value,
            "drop_ci95": list(self.drop.ci95),
            "broken": self.drop.broken,
            "fixed": self.drop.fixed,
        }


@dataclass(frozen=True)
class ConfusionChange:
    """How often ``label`` was taken for ``predicted`` by the first model and by another."""

    label: str
    predicted: str
    before: int
    after: int

    def describe(self) -> dict[str, Any]:
        """The change as it stands in JSON documents."""
        return {
            "label": self.label,
            "predicted": self.predicted,
            "before": self.before,
            "after": self.after,
        }


@dataclass(frozen=True, eq=False)
class Compared:
    """One model of a comparison. ``drop`` and what follows it are against the first, None for the first itself.

    ``benchmark`` is None for what no runtime of a device opens, and ``inspection`` holds no operators where they
    cannot be listed.
    """

    name: str
    artifact: Artifact
    evaluation: Evaluation
    inspection: Inspection
    lineage: Mapping[str, Any] | None
    drop: PairedDrop | None = None
    class_drops: tuple[ClassDrop, ...] = ()
    benchmark: ModelBenchmark | None = None
    ratio: Ratio | None = None
    on_pareto_front: bool = False

    def describe(self, first: "Compared", class_names: Sequence[str]) -> dict[str, Any]:
        """The model as it stands in JSON documents."""
        found, drop = self.evaluation, None
        if self.drop is not None:
            drop = {
                "drop": self.drop.drop,
                "drop_ci95": list(self.drop.drop_ci95),
                "broken": self.drop.broken,
                "fixed": self.drop.fixed,
                "per_class": [item.describe() for item in self.class_drops],
                "confusion_changes": [
                    change.describe() for change in _changes(first.evaluation, found, class_names)
                ],
            }
        confusion = found.confusion
        kept = None if confusion is None or len(confusion) > _MOST_CONFUSION else confusion.tolist()
        return {
            "name": self.name,
            "artifact": self.artifact.describe(),
            "evaluation": {**found.describe(), "confusion": kept},
            "drop": drop,
            "benchmark": None if self.benchmark is None else self.benchmark.describe(),
            "ratio": None if self.ratio is None else self.ratio.describe(),
            "operators": _describe_operators(self.inspection),
            "lineage": self.lineage,
            "pareto": self.on_pareto_front,
        }


@dataclass(frozen=True)
class BrokenSample:
    """A sample that the first model gets right and another wrong.

    ``answers`` holds for each model the predicted class, or for top-5 the label's rank from 0; ``wrong`` the
    numbers of the models that are wrong. ``picture`` is a data URL, None where the sample is no picture.
    """

    number: int
    digest: str
    label: int
    answers: tuple[int, ...]
    wrong: tuple[int, ...]
    picture: str | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models side by side; the first is the baseline of drops, ``latency_baseline`` that of ratios."""

    data: str
    metric: str
    unit: str
    higher_is_better: bool
    n: int
    reference: str | None
    class_names: tuple[str, ...]
    answer: str  # what a broken sample's answers are: "predicted" or "rank"
    models: tuple[Compared, ...]
    latency_baseline: str | None
    broken_samples: tuple[BrokenSample, ...]
    benchmark: Benchmark | None
    findings: tuple[Finding, ...]
    seconds: float

    def describe(self, *, with_pictures: bool = False) -> dict[str, Any]:
        """The comparison as it stands in JSON documents; infinite numbers are null."""
        conditions = None if self.benchmark is None else self.benchmark.describe()["conditions"]
        document = {
            "data": self.data,
            "metric": self.metric,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "n": self.n,
            "reference": self.reference,
            "class_names": list(self.class_names),
            "answer": self.answer,
            "latency_baseline": self.latency_baseline,
            "models": [model.describe(self.models[0], self.class_names) for model in self.models],
            "broken_samples": [
                self._describe_sample(sample, with_picture=with_pictures) for sample in self.broken_samples
            ],
            "conditions": conditions,
            "seconds": self.seconds,
        }
        plain: dict[str, Any] = _finite(document)
        return plain

    def saved(self) -> dict[str, Any]:
        """What ``save`` writes: the document with pictures, findings and every latency."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": KIND,
            "edgekit_version": edgekit.__version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "findings": [finding.describe() for finding in self.findings],
            "result": self.describe(with_pictures=True),
            "benchmark": None if self.benchmark is None else _finite(self.benchmark.record().describe()),
        }

    def save(self, path: Path) -> None:
        """Write the comparison as one JSON file, whole or not at all.

        Raises:
            OutputError: The disk is full or read-only.
        """
        files.write_bytes(path, json.dumps(self.saved(), allow_nan=False).encode() + b"\n")

    def _describe_sample(self, sample: BrokenSample, *, with_picture: bool) -> dict[str, Any]:
        names = self.class_names if self.answer == "predicted" else ()
        return {
            "sample": sample.number,
            "digest": sample.digest,
            "label": _class_name(sample.label, self.class_names),
            "answers": [_class_name(answer, names) for answer in sample.answers],
            "wrong": list(sample.wrong),
            "picture": sample.picture if with_picture else None,
        }


def _changes(first: Evaluation, other: Evaluation, class_names: Sequence[str]) -> list[ConfusionChange]:
    """Which classes are mistaken for which more or less often, the largest changes first."""
    before, after = first.confusion, other.confusion
    if before is None or after is None or before.shape != after.shape:
        return []
    changed = [
        ConfusionChange(
            _class_name(label, class_names),
            _class_name(predicted, class_names),
            int(before[label, predicted]),
            int(after[label, predicted]),
        )
        for label, predicted in zip(*(before != after).nonzero(), strict=True)
        if label != predicted
    ]
    return sorted(changed, key=lambda change: -abs(change.after - change.before))[:_MOST_CHANGES]


def _class_name(label: int, class_names: Sequence[str]) -> str:
    """-1 stands for scores that are no numbers, which choose no class."""
    return class_names[label] if 0 <= label < len(class_names) else "none" if label < 0 else str(label)


def _describe_operators(inspection: Inspection) -> dict[str, Any] | None:
    if not inspection.operators:
        return None
    described = inspection.describe()
    layers = [
        {
            "name": facts.operator.names[-1] if facts.operator.names else "",
            "op": facts.operator.kind,
            "float": facts.operator.is_float,
            "weight_bytes": facts.weight_bytes,
            "macs": facts.macs,
        }
        for facts in inspection.operators
        if facts.weight_bytes
    ]
    return {**described["ops"], "by_op": described["by_op"], "layers": layers}


def _finite(value: Any) -> Any:
    """JSON knows no infinity, which is the SNR of a model against itself: null stands for it."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def pareto_front(costs: Sequence[tuple[float, ...]]) -> list[bool]:
    """Which of several rows of costs nobody beats: no other is at most as high in all and lower in one.

    >>> pareto_front([(80, 2.0, 0.10), (20, 1.0, 0.12), (30, 1.5, 0.12), (40, 0.5, 0.50)])
    [True, True, False, True]
    """
    return [
        not any(all(a <= b for a, b in zip(other, own, strict=True)) and other != own for other in costs)
        for own in costs
    ]
