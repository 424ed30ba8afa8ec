"""One trial: quantize by a configuration, and measure what came out. This runs in a worker process."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.artifact import lineage_path
from edgekit.catalog import load
from edgekit.documents import plain
from edgekit.errors import EdgekitError, ModelError
from edgekit.workflows.searching.configuration import Configuration
from edgekit.workflows.searching.material import Material

# Next to a file of infinite SNR, which changes nothing, all others are equal.
MOST_DB = 200.0


@dataclass(frozen=True)
class Outcome:
    """What a trial came to, as a JSON document, and the model file and its lineage where there are any."""

    document: dict[str, Any]
    model: Path | None = None


def try_out(material: Material, configuration: Configuration, output: Path) -> Outcome:
    """Quantize into ``output`` and measure it; a configuration that cannot be done is a result too.

    Args:
        material: The model and the samples.
        configuration: How to quantize.
        output: The model file to write; its lineage goes beside it.
    """
    try:
        return Outcome(_tried(material, configuration, output), output)
    except EdgekitError as error:
        for path in (output, lineage_path(output)):
            path.unlink(missing_ok=True)
        return Outcome(failed(error))


def failed(error: EdgekitError) -> dict[str, Any]:
    """The document of a trial that gave no file."""
    return {"status": "failed", "error": error.describe()}


def _tried(material: Material, configuration: Configuration, output: Path) -> dict[str, Any]:
    quantized = edgekit.quantize(
        material.source_of(configuration.engine),
        output,
        calibration=material.calibration,
        batch=material.batch,
        io=material.io,  # type: ignore[arg-type]
        seed=material.seed,
        overwrite=True,
        **configuration.arguments(),
    )
    found = edgekit.evaluate(
        quantized.artifact, material.search, metric=material.metric, preprocess="none", workers=1
    )
    metric: Any = load("metrics", found.metric)
    drop = metric.drop(material.before, found.rows)
    document: dict[str, Any] = plain(
        {
            "status": "done",
            "size_bytes": quantized.artifact.size_bytes,
            "sha256": quantized.artifact.sha256,
            "snr_db": min(MOST_DB, quantized.read_back.snr_db),
            "unit": found.unit,
            "value": found.value,
            "drop": drop.value,
            "drop_ci95": list(drop.ci95),
            "broken": drop.broken,
            "fixed": drop.fixed,
            "n": drop.n,
            "stayed_float": len(quantized.read_back.stayed_float),
            "findings": [finding.describe() for finding in quantized.findings],
            "quantized": quantized.describe(),
            "seconds": quantized.seconds,
        }
    )
    if document["snr_db"] is None or np.isnan(found.value):
        raise ModelError("EK573", f"{configuration.name} gives no number to compare.")
    return document


def request(configuration: Configuration, output: Path) -> str:
    """A line that asks a worker for a trial."""
    return json.dumps({"configuration": configuration.describe(), "output": str(output)})
