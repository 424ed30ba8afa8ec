"""A trained model as a ``.tflite`` file whose scales are those that it was trained with."""

from pathlib import Path
from typing import Any, Literal

from edgekit import files
from edgekit.errors import ModelError

_HINT = "Train with 8 bits, or use `edgekit quantize --recipe int16x8` on the float model."


def export_qat(
    model: Any, output: str | Path, *, io: Literal["float32", "int8", "uint8"] = "int8", batch: int | None = 1
) -> None:
    """Write a model of ``apply_qat`` after training.

    Args:
        model: The trained model.
        output: The ``.tflite`` file to write; one that exists is replaced.
        io: Type of its inputs and outputs.
        batch: Size of the batch axis in the file, None for a free one.

    Raises:
        OutputError: The file cannot be written.
        ModelError: Its activations have 16 bits.
    """
    if any(getattr(layer, "bits", 8) == 16 for layer in model._flatten_layers()):
        raise ModelError("EK741", "Activations of 16 bits cannot be exported as they were trained.", _HINT)
    _export(model, Path(output), {"batch": batch, "optimize": "trained", "io": io})


def export_float(model: Any, output: str | Path, *, batch: int | None = 1) -> None:
    """Write any Keras 3 model as a float ``.tflite`` file.

    Raises:
        OutputError: The file cannot be written.
    """
    _export(model, Path(output), {"batch": batch, "optimize": "none", "io": "float32"})


def _export(model: Any, output: Path, options: dict[str, Any]) -> None:
    from edgekit.tensorflow_child.exporting import export_tflite
    from edgekit.tensorflow_child.loading import from_keras

    with files.atomic_write(output) as partial:
        export_tflite(from_keras(model, "keras"), {**options, "unroll": True, "per_channel": True}, partial)
