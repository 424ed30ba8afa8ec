"""Pruning of a Keras model: whole channels removed, or zeros among the weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from edgekit.training import Report, Trained, job_for, train


def prune(
    model: str | Path,
    output: str | Path,
    *,
    train_data: str | Path,
    epochs: int = 3,
    structured: bool = False,
    target_macs: str | float | None = None,
    target_size: str | int | None = None,
    target_latency: float | None = None,
    criterion: Literal["l1", "l2", "batch-norm", "taylor"] = "l2",
    scope: Literal["global", "layer"] = "global",
    min_channels: int = 4,
    multiple: int = 4,
    steps: int = 1,
    precision: Literal["float32", "int8"] = "float32",
    exclude: Sequence[str] = (),
    sparsity: float = 0.5,
    schedule: Literal["constant", "polynomial"] = "polynomial",
    pattern: str = "unstructured",
    begin_step: int = 0,
    end_step: int | None = None,
    frequency: int = 100,
    layers: Mapping[str, float] | None = None,
    sparse_encoding: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    progress: Report | None = None,
    **training: Any,
) -> Trained:
    """Make a model smaller by what it needs least, and train what is left."""
    chosen: Mapping[str, Any] = (
        {
            "target_macs": target_macs,
            "target_size": target_size,
            "target_latency": target_latency,
            "criterion": criterion,
            "scope": scope,
            "min_channels": min_channels,
            "multiple": multiple,
            "steps": steps,
            "precision": precision,
        }
        if structured
        else {
            "sparsity": sparsity,
            "schedule": schedule,
            "pattern": pattern,
            "begin_step": begin_step,
            "end_step": end_step,
            "frequency": frequency,
            "layers": dict(layers or {}),
            "sparse_encoding": sparse_encoding,
        }
    )
    options = {"structured": structured, "exclude": list(exclude), **chosen}
    job = job_for("prune", model, output, train_data=train_data, epochs=epochs, options=options, **training)
    return train(job, overwrite=overwrite, resume=resume, progress=progress)
