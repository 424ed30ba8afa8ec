"""Evaluations of a run: each model is run over the samples once, and kept to be compared with others."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.baseline import Baseline
from edgekit.catalog import load
from edgekit.data import open_dataset
from edgekit.documents import plain
from edgekit.errors import DataError
from edgekit.findings import Finding
from edgekit.formats import open_artifact
from edgekit.verbs.evaluate import evaluate
from edgekit.versions import installed_versions
from edgekit.workflows.baseline import from_evaluation
from edgekit.workflows.input_digests import data_digest, digested

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Judged:
    """What models did on every sample, as baselines in ``folder``; ``source`` is the model to compare with."""

    folder: Path
    source: Path

    def compared(
        self, name: str, model: Path, data: str, options: Mapping[str, Any], progress: Progress
    ) -> tuple[dict[str, Any], tuple[Finding, ...]]:
        """A model's metric with its interval, and its paired drop against the source where samples have labels."""
        found, findings = self._read_or_make(model, data, options, progress)
        measured: dict[str, Any] = {
            "input": name,
            "model": str(model),
            "metric": found.metric,
            "unit": found.unit,
            "value": found.value,
            "ci95": list(found.ci95),
            "n": found.n,
            "runtime": found.runtime,
            "drop": None,
            "drop_ci95": None,
            "broken": None,
            "fixed": None,
        }
        metric: Any = load("metrics", found.metric)
        if model != self.source and metric.NEEDS == "labels":
            before, noticed = self._read_or_make(
                self.source, data, {**options, "metric": found.metric}, progress
            )
            places = found.digests.places_in(before.digests, str(self.source))
            drop = metric.drop(before.rows[places], found.rows)
            measured |= {
                "drop": drop.value,
                "drop_ci95": list(drop.ci95),
                "broken": drop.broken,
                "fixed": drop.fixed,
            }
            findings = (*noticed, *findings)
        return plain(measured), findings

    def baseline(self, model: Path, data: str, options: Mapping[str, Any], progress: Progress) -> Path:
        """The file with what a model did on every sample; it is made where it is not there yet."""
        self._read_or_make(model, data, options, progress)
        return self._path(model, data, options)

    def _read_or_make(
        self, model: Path, data: str, options: Mapping[str, Any], progress: Progress
    ) -> tuple[Baseline, tuple[Finding, ...]]:
        path = self._path(model, data, options)
        try:
            return Baseline.read(path), ()
        except DataError:
            pass  # not there yet, or damaged: it is made anew
        artifact = open_artifact(model)
        given = dict(options)
        reference = given.pop("reference", None) or self._reference(data, given.get("metric"))
        found = evaluate(artifact, data, reference=reference, keep_digests=True, progress=progress, **given)
        made = from_evaluation(
            artifact,
            found,
            data=data,
            reference=reference,
            preprocess=given.get("preprocess"),
            benchmark=None,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save(path)
        return made, found.findings

    def _reference(self, data: str, metric: str | None) -> Path | None:
        """Metrics that need no labels compare with the source."""
        if metric is not None:
            module: Any = load("metrics", metric)
            return None if module.NEEDS == "labels" else self.source
        return None if open_dataset(data).has_labels else self.source

    def _path(self, model: Path, data: str, options: Mapping[str, Any]) -> Path:
        asked = {
            name: digested(name, value)
            for name, value in options.items()
            if name != "workers" and value is not None
        }
        identity = [
            open_artifact(model).sha256, str(model), data_digest(data), asked, installed_versions(), str(self.source)
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(plain(identity), sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.json"
