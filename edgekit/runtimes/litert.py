"""LiteRT, the runtime of ``.tflite`` files, with the XNNPACK kernels that it uses by default."""

from edgekit.artifact import Artifact, Format
from edgekit.errors import DependencyError
from edgekit.interpreter import InterpreterSession

FORMATS = (Format.TFLITE,)


def open(artifact: Artifact, *, threads: int = 1, xnnpack: bool = True) -> InterpreterSession:  # noqa: A001
    """Load a model; ``xnnpack=False`` leaves only the built-in kernels.

    Raises:
        ModelError: The model cannot be loaded.
        DependencyError: LiteRT is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise DependencyError(
            "EK616", "LiteRT is not installed.", "pip install ai-edge-litert==2.3.0"
        ) from error
    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES

    def load() -> Interpreter:
        return Interpreter(
            model_path=str(artifact.path), num_threads=threads, experimental_op_resolver_type=resolver
        )

    return InterpreterSession(load, artifact)
