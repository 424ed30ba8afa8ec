"""ONNX Runtime on the CPU."""

from edgekit.artifact import Artifact, Format
from edgekit.onnx_session import OnnxSession, open_onnxruntime

FORMATS = (Format.ONNX,)


def open(artifact: Artifact, *, threads: int = 1) -> OnnxSession:  # noqa: A001
    """Load a model for the CPU.

    Raises:
        ModelError: The model cannot be loaded.
        DependencyError: ONNX Runtime is not installed.
    """
    return open_onnxruntime(artifact, threads=threads)
