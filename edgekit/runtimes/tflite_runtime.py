"""The old ``tflite_runtime`` package, which many devices still have."""

from edgekit.artifact import Artifact, Format
from edgekit.errors import DependencyError
from edgekit.interpreter import InterpreterSession

FORMATS = (Format.TFLITE,)


def open(artifact: Artifact, *, threads: int = 1) -> InterpreterSession:  # noqa: A001
    """Load a model.

    Raises:
        ModelError: The model cannot be loaded, perhaps because the runtime is too old for it.
        DependencyError: The package is not installed, or numpy is newer than it can use.
    """
    try:
        from tflite_runtime.interpreter import Interpreter
    except (ImportError, SystemError, AttributeError) as error:
        # Under numpy 2 its extension module fails with "_ARRAY_API not found" or a SystemError.
        raise DependencyError(
            "EK616",
            "tflite_runtime is not installed, or not usable with this numpy.",
            'In an environment with Python 3.11: pip install "edgekit[tflite-runtime]"',
            detail=str(error),
        ) from error
    return InterpreterSession(
        lambda: Interpreter(model_path=str(artifact.path), num_threads=threads), artifact
    )
