"""LiteRT, the runtime of ``.tflite`` files, with the XNNPACK kernels that it uses by default."""

from edgekit.artifact import Artifact, Format
from edgekit.interpreter import InterpreterSession, open_litert

FORMATS = (Format.TFLITE,)


def open(artifact: Artifact, *, threads: int = 1, xnnpack: bool = True) -> InterpreterSession:  # noqa: A001
    """Load a model; ``xnnpack=False`` leaves only the built-in kernels.

    Raises:
        ModelError: The model cannot be loaded.
        DependencyError: LiteRT is not installed.
    """
    return open_litert(artifact, threads=threads, kernels="xnnpack" if xnnpack else "builtin")
