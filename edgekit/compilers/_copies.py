"""A copy of a model that compilers with narrow readers can read: one file, every tensor with a name."""

from pathlib import Path
from typing import Any

from edgekit import flatbuffer, onnx_model
from edgekit.artifact import Artifact, Format


def readable_copy(artifact: Artifact, path: Path) -> None:
    """Write the model to ``path``: weights that lie outside of an ``.onnx`` file are taken in.

    In a ``.tflite`` file every tensor gets a name, and ``flatbuffer`` fills both fields of an operator's code: readers
    of the old one alone take what ai-edge-quantizer leaves in it for ADD.

    Raises:
        ModelError: The model is larger than one file can be.
    """
    if artifact.format is Format.ONNX:
        onnx_model.save(onnx_model.load(artifact.path), path, named=artifact.path)
        return

    def name(tree: Any) -> None:
        for number, graph in enumerate(tree.subgraphs):
            for index, tensor in enumerate(graph.tensors):
                tensor.name = tensor.name or f"tensor_{number}_{index}".encode()

    path.write_bytes(flatbuffer.rewrite(artifact.path.read_bytes(), name))
