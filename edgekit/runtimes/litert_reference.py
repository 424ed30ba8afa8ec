"""LiteRT with its reference kernels: plain code without vector instructions, slow and alike on every processor."""

from edgekit.artifact import Artifact, Format
from edgekit.interpreter import InterpreterSession, open_litert

FORMATS = (Format.TFLITE,)


def open(artifact: Artifact, *, threads: int = 1) -> InterpreterSession:  # noqa: A001
    """Load a model.

    Raises:
        ModelError: The model cannot be loaded.
        DependencyError: LiteRT is not installed.
    """
    return open_litert(artifact, threads=threads, kernels="reference")
