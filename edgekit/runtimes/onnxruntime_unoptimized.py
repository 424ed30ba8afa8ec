"""ONNX Runtime without its graph optimizations: the operators as they stand in the file, none fused."""

from edgekit.artifact import Artifact, Format
from edgekit.onnx_session import OnnxSession, open_onnxruntime

FORMATS = (Format.ONNX,)


def open(artifact: Artifact, *, threads: int = 1) -> OnnxSession:  # noqa: A001
    """Load a model.

    Raises:
        ModelError: The model cannot be loaded.
        DependencyError: ONNX Runtime is not installed.
    """
    return open_onnxruntime(artifact, threads=threads, optimized=False)
