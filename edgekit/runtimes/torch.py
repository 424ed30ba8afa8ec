"""PyTorch, for exported programs, in a process of its own."""

from collections.abc import Mapping

from edgekit import torch_process
from edgekit.artifact import Artifact, Format
from edgekit.tensor import Array

FORMATS = (Format.PYTORCH,)


class TorchSession:
    """A program that PyTorch's process has loaded. Float models compute samples alone in any batch."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Session.run``; the whole batch goes to PyTorch at once."""
        typed = {
            spec.name: inputs[spec.name].astype(spec.dtype, copy=False) for spec in self._artifact.inputs
        }
        return torch_process.predict(self._artifact.path, typed)

    def close(self) -> None:
        """The process stays for the models that follow."""


def open(artifact: Artifact, *, threads: int = 1) -> TorchSession:  # noqa: A001, ARG001 - every runtime's
    """Load a model when it first runs; PyTorch chooses its threads itself.

    Raises:
        ModelError: The model cannot be loaded.
        DependencyError: PyTorch is not installed.
    """
    return TorchSession(artifact)
