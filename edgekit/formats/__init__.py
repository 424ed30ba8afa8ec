"""Model files: the format is found from the bytes, then a module of that name reads what goes in and out."""

from pathlib import Path

from edgekit import files
from edgekit.artifact import Artifact, Format
from edgekit.formats import keras, onnx, pytorch, saved_model, tflite
from edgekit.formats._sniff import find_format

__all__ = ["find_format", "open_artifact"]

_READERS = {
    Format.KERAS: keras.read,
    Format.SAVED_MODEL: saved_model.read,
    Format.TFLITE: tflite.read,
    Format.ONNX: onnx.read,
    Format.PYTORCH: pytorch.read,
}


def open_artifact(path: str | Path) -> Artifact:
    """Read what a model file is, and what its inputs and outputs look like.

    Raises:
        ModelError: It is missing, damaged, or nothing that edgekit reads.
        DependencyError: It is a Keras model or a SavedModel and TensorFlow is not installed, or a program of
            PyTorch and that is not installed.
    """
    path = Path(path)
    found = find_format(path)
    inputs, outputs = _READERS[found](path)
    return Artifact(path, found, inputs, outputs, files.sha256(path), files.size_bytes(path))
