"""SavedModel folders: the signature ``serving_default``, or the only one that there is."""

from pathlib import Path

from edgekit import tensorflow_process
from edgekit.artifact import TensorSpec
from edgekit.errors import ModelError


def read(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs of the signature, by its names.

    Raises:
        ModelError: There is no signature to choose, or the folder is damaged.
        DependencyError: TensorFlow is not installed.
    """
    graph = path / "saved_model.pb"
    if graph.stat().st_size == 0:
        raise ModelError("EK102", f"{graph} is empty.", "Fetch or save the folder again.")
    return tensorflow_process.describe(path)
