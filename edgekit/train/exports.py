"""Models as the files that devices get, float and int8, so that sizes and latencies are those of real files."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files
from edgekit.data import Dataset
from edgekit.errors import EdgekitError
from edgekit.findings import Finding
from edgekit.train.export import export_float, export_qat
from edgekit.train.job import Job

PRECISIONS = ("float32", "int8", "int4", "int4-per-tensor")
_TRAINED = {"int4": True, "int4-per-tensor": False}
_SAMPLES = 100


def exports_folder(job: Job) -> Path:
    """Where the files of a job lie until they are measured: beside its output."""
    output = Path(job.output)
    return output.with_name(f".{output.name}.exports")


def exported(job: Job, name: str, precision: str) -> Path:
    """The file of one model: ``"before"`` in ``"int8"``."""
    return exports_folder(job) / f"{name}.{precision}.tflite"


def calibration(dataset: Dataset, count: int = _SAMPLES) -> list[Any]:
    """Samples from all over a dataset, an array for each input of the model."""
    rows = np.unique(np.linspace(0, dataset.count - 1, min(count, dataset.count)).astype(np.intp))
    return list(dataset.take([int(row) for row in rows]).inputs.values())


def export(
    model: Any, output: Path, precision: str, samples: Sequence[Any], eight_bit: Sequence[str] = ()
) -> None:
    """Write a ``.tflite`` file; int8 weights and activations are quantized after training, with these samples.

    4 bits are those of ``apply_qat`` before any training: the size and the speed of the file to come, not its outputs.
    Layers whose names a pattern of ``eight_bit`` matches keep weights of 8 bits there.

    Raises:
        OutputError: The file cannot be written.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    if precision == "float32":
        export_float(model, output)
        return
    if precision in _TRAINED:
        # The parent of a training reads this module for its names, and has no TensorFlow.
        from edgekit.train.qat import QATOptions, apply_qat

        chosen = QATOptions(4, per_channel=_TRAINED[precision], eight_bit=tuple(eight_bit))
        quantized = apply_qat(model, chosen)
        given = [array.astype(np.float32) for array in samples]
        quantized(given[0] if len(given) == 1 else given, training=True)  # the ranges follow what they see
        export_qat(quantized, output)
        return
    from edgekit.passes.compact import compact
    from edgekit.tensorflow_child.exporting import export_tflite
    from edgekit.tensorflow_child.loading import from_keras

    loaded = from_keras(model, "keras")
    with tempfile.TemporaryDirectory() as folder, files.atomic_write(output) as partial:
        path = Path(folder) / "calibration.npz"
        named = {
            spec.name: array.astype(np.float32) for spec, array in zip(loaded.inputs, samples, strict=True)
        }
        np.savez(path, allow_pickle=False, **named)
        options = {"batch": 1, "optimize": "int8", "io": "int8", "calibration": str(path), "unroll": True}
        export_tflite(loaded, {**options, "per_channel": True}, partial)
        partial.write_bytes(compact(partial.read_bytes()))


def export_all(model: Any, job: Job, name: str, samples: Sequence[Any]) -> list[Finding]:
    """Write a model as float, as int8, and as its budget wants it; where int8 is impossible, a finding says so."""
    export(model, exported(job, name, "float32"), "float32", samples)
    precision = job.options.get("precision")
    if precision in _TRAINED:
        export(model, exported(job, name, precision), precision, samples, job.options["eight_bit"])
    try:
        export(model, exported(job, name, "int8"), "int8", samples)
    except EdgekitError:
        raise
    except Exception as error:  # noqa: BLE001 - the converter's own kinds are many
        reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
        return [
            Finding(
                "EK748", f"The model {name} pruning becomes no int8 file, and has no int8 numbers: {reason}"
            )
        ]
    return []


def forget_exports(job: Job) -> None:
    """Remove the files that an earlier run left."""
    shutil.rmtree(exports_folder(job), ignore_errors=True)
