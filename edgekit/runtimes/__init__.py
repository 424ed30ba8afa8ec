"""What executes a model: one file per runtime, each with ``open(artifact, threads=1) -> Session``."""

from collections.abc import Mapping
from typing import Protocol

from edgekit.artifact import Artifact, Format
from edgekit.catalog import load, names
from edgekit.errors import UsageError
from edgekit.tensor import Array

_DEFAULTS = {
    Format.TFLITE: "litert",
    Format.ONNX: "onnxruntime",
    Format.KERAS: "tensorflow",
    Format.SAVED_MODEL: "tensorflow",
    Format.PYTORCH: "torch",
}


class Session(Protocol):
    """A loaded model."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Real numbers in and out, by the artifact's names: (n, 32, 32, 3) to (n, 10), for any n.

        Quantized inputs and outputs are handled by their scale and zero point. Every sample is computed
        alone and from a fresh state, whatever n is: dynamically quantized models would otherwise give
        results that depend on a sample's neighbours.

        Raises:
            ModelError: The runtime fails.
        """

    def close(self) -> None:
        """Free what the runtime holds."""


def default_runtime(model_format: Format) -> str:
    """The runtime that a format is deployed with."""
    return _DEFAULTS[model_format]


def check_runtime(artifact: Artifact, runtime: str | None) -> str:
    """The name of the runtime that will execute a model: the one asked for, or its format's.

    Raises:
        UsageError: There is no such runtime, or it does not take this format.
    """
    name = runtime or default_runtime(artifact.format)
    if artifact.format not in load("runtimes", name).FORMATS:
        fitting = [other for other in names("runtimes") if artifact.format in load("runtimes", other).FORMATS]
        raise UsageError(
            "EK414",
            f"The runtime {name} does not execute {artifact.format} models.",
            f"Use one of: {', '.join(fitting)}.",
        )
    return name


def open_session(artifact: Artifact, runtime: str | None = None, threads: int = 1) -> Session:
    """Load a model into a runtime, by default that of its format.

    Raises:
        UsageError: There is no such runtime, or it does not take this format.
        ModelError: The runtime cannot load the model.
        DependencyError: The runtime is not installed.
    """
    session: Session = load("runtimes", check_runtime(artifact, runtime)).open(artifact, threads=threads)
    return session
