"""The model that a produced file is held against: its outputs for some samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from edgekit.artifact import Artifact, align
from edgekit.errors import ModelError
from edgekit.runtimes import open_session
from edgekit.tensor import Array


@dataclass(frozen=True)
class Reference:
    """The original's outputs for some inputs, by name: ``{"image": (64, 32, 32, 3)}`` and ``{"classes": (64, 10)}``."""

    source: Artifact
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @classmethod
    def of(cls, source: Artifact, inputs: Mapping[str, Array]) -> Self:
        """Run the original.

        Raises:
            ModelError: It cannot be run, or gives NaN or infinity.
        """
        outputs = _run(source, inputs)
        for name, values in outputs.items():
            if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
                raise ModelError(
                    "EK330",
                    f"The float model {source.path.name} gives NaN or infinity in its output {name}.",
                    "Check the model and the samples: neither quantization nor conversion can mend that.",
                )
        return cls(source, inputs, outputs)

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(next(iter(self.inputs.values())))

    def outputs_of(self, artifact: Artifact) -> dict[str, Array]:
        """What another version of the model gives for the same inputs, by the original's names and in its shapes.

        Raises:
            ModelError: It cannot be run, or an output has another number of values.
        """
        names = align(self.source.inputs, artifact.inputs)
        measured = _run(artifact, {names[name]: values for name, values in self.inputs.items()})
        twins = align(self.source.outputs, artifact.outputs)
        return {name: one_shape(name, exact, measured[twins[name]]) for name, exact in self.outputs.items()}


def one_shape(name: str, exact: Array, measured: Array) -> Array:
    """An output in the shape that the original gives: conversions may drop or add axes of length one.

    Raises:
        ModelError: It has another number of values.
    """
    if exact.size != measured.size:
        raise ModelError(
            "EK333",
            f"The output {name} was {list(exact.shape[1:])} and is {list(measured.shape[1:])} per sample.",
            "The conversion went wrong; please report it, and try another --engine.",
        )
    return measured.reshape(exact.shape)


def _run(artifact: Artifact, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    session = open_session(artifact)
    try:
        return session.run(inputs)
    finally:
        session.close()
