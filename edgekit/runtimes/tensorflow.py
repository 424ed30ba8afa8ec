"""TensorFlow, for Keras models and SavedModels, in a process of its own."""

from collections.abc import Mapping

from edgekit import tensorflow_process
from edgekit.artifact import Artifact, Format
from edgekit.tensor import Array

FORMATS = (Format.KERAS, Format.SAVED_MODEL)


class TensorFlowSession:
    """A model that TensorFlow's process has loaded. Float models compute samples alone in any batch."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Session.run``; the whole batch goes to TensorFlow at once."""
        typed = {
            spec.name: inputs[spec.name].astype(spec.dtype, copy=False) for spec in self._artifact.inputs
        }
        outputs: dict[str, Array] = tensorflow_process.predict(self._artifact.path, typed)
        return outputs

    def close(self) -> None:
        """The process stays for the models that follow."""


def open(artifact: Artifact, *, threads: int = 1) -> TensorFlowSession:  # noqa: A001, ARG001 - every runtime's
    """Load a model when it first runs; TensorFlow chooses its threads itself.

    Raises:
        ModelError: The model cannot be loaded.
        DependencyError: TensorFlow is not installed.
    """
    return TensorFlowSession(artifact)
