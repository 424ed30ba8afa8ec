"""An ``.onnx`` model in ONNX Runtime, as a session."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.artifact import Artifact
from edgekit.errors import DependencyError, ModelError
from edgekit.sampling import batch_size, filled, joined
from edgekit.tensor import Array


class OnnxSession:
    """A loaded ``.onnx`` model."""

    def __init__(self, session: Any, artifact: Artifact) -> None:
        self._session = session
        self._artifact = artifact
        self._outputs = [spec.name for spec in artifact.outputs]
        self._batch = batch_size(artifact)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Session.run``."""
        typed = {
            spec.name: inputs[spec.name].astype(spec.dtype, copy=False) for spec in self._artifact.inputs
        }
        count = len(next(iter(typed.values())))
        full = filled(typed, self._batch)
        parts: list[list[Array]] = [[] for _ in self._outputs]
        try:
            for first in range(0, count, self._batch):
                feed = {name: rows[first : first + self._batch] for name, rows in full.items()}
                for part, output in zip(parts, self._session.run(self._outputs, feed), strict=True):
                    part.append(np.asarray(output))
        except Exception as error:
            raise ModelError(
                "EK411",
                f"ONNX Runtime failed to run {self._artifact.path.name}: {_first_line(error)}.",
                "The data fit the model's declared inputs, so the model itself is at fault.",
                detail=str(error),
            ) from error
        return {
            name: joined(part, name, count=count, batch=self._batch)
            for name, part in zip(self._outputs, parts, strict=True)
        }

    def close(self) -> None:
        """Free the session."""
        self._session = None


def open_onnxruntime(artifact: Artifact, *, threads: int, optimized: bool = True) -> OnnxSession:
    """Load a model for the CPU, with its graph rewritten for speed or as it stands in the file.

    Raises:
        ModelError: The model cannot be loaded.
        DependencyError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError("EK616", "ONNX Runtime is not installed.", "pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # errors come as exceptions too
    try:
        session = onnxruntime.InferenceSession(
            str(artifact.path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelError(
            "EK410",
            f"ONNX Runtime cannot load {artifact.path.name}: {_first_line(error)}.",
            "The file may be damaged, or use operators that this version does not have.",
            detail=str(error),
        ) from error
    return OnnxSession(session, artifact)


def _first_line(error: Exception) -> str:
    """The reason alone: ONNX Runtime puts its own error class and code in front."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.rpartition("] : ")[2].rstrip(".")
