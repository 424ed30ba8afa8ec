"""Weight clustering."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files
from edgekit.findings import Finding, Level
from edgekit.train.clustering import ClusteredWeights, cluster_weights, strip_clusters
from edgekit.train.export import export_float
from edgekit.train.kernels import kernels_of, zeros
from edgekit.train.methods import Context, Prepared


def prepare(model: Any, context: Context) -> Prepared:
    """Few values for each kernel, trained; the plain model at the end."""
    options, job = context.job.options, context.job
    clustered = cluster_weights(
        model,
        int(options["clusters"]),
        init=options["init"],
        exclude=tuple(options.get("exclude", ())),
        seed=job.seed,
    )
    wrappers = [layer for layer in clustered.layers if isinstance(layer, ClusteredWeights)]
    names = {wrapper.layer.name for wrapper in wrappers}
    before = _bytes(model) if job.tflite else None
    findings = []
    if kept := [wrapper.layer.name for wrapper in wrappers if wrapper.keep_zeros]:
        message = f"Zero stays one of the values, for the weights that are zero: {', '.join(kept)}."
        findings.append(Finding("EK758", message, level=Level.NOTE))

    def report(finished: Any) -> dict[str, Any]:
        kernels = kernels_of(finished)
        rows = [
            {
                "layer": kernel.name,
                "weights": kernel.values.size,
                "distinct": len(np.unique(kernel.values)),
                "zeros": zeros(kernel.values),
            }
            for kernel in kernels
            if kernel.name in names
        ]
        others = [kernel.name for kernel in kernels if kernel.name not in names]
        return {"layers": rows, "other_layers": others, "before": before}

    return Prepared(clustered, finish=strip_clusters, report=report, findings=findings)


def _bytes(model: Any) -> dict[str, int]:
    """The sizes of the model's float ``.tflite`` file as it is, plain and compressed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "before.tflite"
        export_float(model, path)
        return {"size_bytes": path.stat().st_size, "gzip_bytes": files.gzip_bytes(path)}
