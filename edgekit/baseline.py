"""The noun ``Baseline``: what a model did on every sample, how fast, and under which conditions, in one file."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from edgekit import files
from edgekit.errors import DataError
from edgekit.measurement import Record
from edgekit.packed_array import pack, unpack
from edgekit.sample_digests import SampleDigests
from edgekit.statistics import Interval
from edgekit.tensor import Array

# 1 (2026): metric rows and digests of all samples, the benchmark's record, history of promotions.
SCHEMA_VERSION = 1

_MOST_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class Baseline:
    """A model's results on a dataset, with everything that a later comparison needs.

    ``rows`` are the metric's numbers for each sample, shape (n, k), in the order of ``digests``. ``model`` and
    ``reference`` are artifacts as in JSON documents; ``benchmark`` is None where no runtime of a device opens the
    model; ``checked`` is the verdict on a candidate that was saved for promotion.
    """

    created: str  # ISO 8601, UTC
    edgekit_version: str
    model: Mapping[str, Any]
    data: str
    preprocess: str | None
    metric: str
    unit: str
    value: float
    ci95: Interval
    runtime: str
    device: str
    digests: SampleDigests
    rows: Array
    class_names: tuple[str, ...] = ()
    reference: Mapping[str, Any] | None = None
    lineage: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    benchmark: Record | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    checked: Mapping[str, Any] | None = None

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.rows)

    def summary(self) -> dict[str, Any]:
        """The baseline as it stands in other JSON documents: all but the samples and latencies."""
        return {
            "created": self.created,
            "edgekit_version": self.edgekit_version,
            "model": dict(self.model),
            "data": self.data,
            "data_digest": self.digests.digest(),
            "preprocess": self.preprocess,
            "metric": self.metric,
            "unit": self.unit,
            "value": _number(self.value),
            "ci95": [_number(end) for end in self.ci95],
            "n": self.n,
            "runtime": self.runtime,
            "device": self.device,
            "class_names": list(self.class_names),
            "reference": self.reference,
            "lineage": self.lineage,
            "versions": dict(self.versions),
            "history": [dict(entry) for entry in self.history],
            "checked": self.checked,
        }

    def save(self, path: Path) -> None:
        """Write the baseline as one JSON file, whole or not at all.

        Raises:
            OutputError: The disk is full or read-only.
        """
        labels = self.digests.labels
        document = {
            "schema_version": SCHEMA_VERSION,
            "kind": "baseline",
            **self.summary(),
            "samples": {
                "digests": pack(self.digests.samples),
                "label_digests": None if labels is None else pack(labels),
                "rows": pack(self.rows),
            },
            "benchmark": None if self.benchmark is None else _packed(self.benchmark),
        }
        files.write_bytes(path, json.dumps(document, indent=1, allow_nan=False).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a baseline of this or an older version.

        Raises:
            DataError: There is no such file, it is damaged or no baseline, or a newer edgekit wrote it.
        """
        document = _document(path)
        try:
            samples, labels = document["samples"], document["samples"]["label_digests"]
            digests = SampleDigests(unpack(samples["digests"]), None if labels is None else unpack(labels))
            found = cls(
                **{name: document[name] for name in _PLAIN},
                value=float(document["value"]),
                ci95=Interval(*map(float, document["ci95"])),
                digests=digests,
                rows=unpack(samples["rows"]),
                class_names=tuple(document["class_names"]),
                history=tuple(document["history"]),
                benchmark=None if document["benchmark"] is None else _unpacked(document["benchmark"], path),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise _no_baseline(path) from error
        if not found._is_whole(document):
            raise _no_baseline(path)
        return found

    def _is_whole(self, document: Mapping[str, Any]) -> bool:
        """Whether the parts fit each other, so that a file changed by hand or by accident is noticed."""
        columns = [self.digests.samples, self.rows]
        if self.digests.labels is not None:
            columns.append(self.digests.labels)
        same_length = all(column.ndim == 2 and len(column) == document["n"] for column in columns)
        return self.n > 0 and same_length and document["data_digest"] == self.digests.digest()


_PLAIN = (
    "created", "edgekit_version", "model", "data", "preprocess", "metric", "unit", "runtime", "device",
    "reference", "lineage", "versions", "checked",
)  # fmt: skip


def _packed(record: Record) -> dict[str, Any]:
    """Thousands of latencies, a number to a line, would be most of the file."""
    text = json.dumps(record.describe(), allow_nan=False)
    return pack(np.frombuffer(text.encode(), np.uint8))


def _unpacked(document: Any, path: Path) -> Record:
    return Record.from_document(json.loads(unpack(document).tobytes()), path)


def _number(value: float) -> float | str:
    """JSON knows no infinity, which is the SNR of a model against itself: ``"inf"``."""
    return value if math.isfinite(value) else str(value)


def digest_of(path: Path) -> str:
    """sha256 of a baseline's file."""
    return files.sha256(path)


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(files.read_bytes(path, most_bytes=_MOST_BYTES))
    except FileNotFoundError as error:
        raise DataError(
            "EK470", f"{path} does not exist.", "Make it: edgekit baseline create MODEL --data DATA -o FILE"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _no_baseline(path) from error
    if not isinstance(document, dict) or document.get("kind") != "baseline":
        raise _no_baseline(path)
    version = document.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise _no_baseline(path)
    if version > SCHEMA_VERSION:
        raise DataError(
            "EK471",
            f"{path} has schema version {version}; this edgekit reads up to {SCHEMA_VERSION}.",
            "Update edgekit, or make the baseline anew with this one.",
        )
    return document


def _no_baseline(path: Path) -> DataError:
    return DataError(
        "EK470",
        f"{path} is no baseline of edgekit, or a damaged one.",
        "Make it anew: edgekit baseline create MODEL --data DATA -o FILE",
    )
