"""Samples fed to a model one by one, and its outputs put together again."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edgekit.artifact import Artifact
from edgekit.errors import ModelError
from edgekit.tensor import Array


def batch_size(artifact: Artifact) -> int:
    """How many samples one call takes: 1, unless the model has a larger batch built in.

    Raises:
        ModelError: An input has no batch axis, or the inputs' first axes differ.
    """
    sizes = {(spec.shape[0] or 1) if spec.shape else 0 for spec in artifact.inputs}
    if len(sizes) != 1 or 0 in sizes:
        shapes = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in artifact.inputs)
        raise ModelError(
            "EK412",
            f"The inputs of {artifact.path.name} have no common batch axis: {shapes}.",
            "edgekit feeds sample by sample, along the first axis of every input.",
        )
    return sizes.pop()


def one_at_a_time(inputs: Mapping[str, Array], batch: int) -> Iterator[dict[str, Array]]:
    """Slices of ``batch`` rows, (1, 32, 32, 3) for a batch of 1; the last is filled up with its last row."""
    count = len(next(iter(inputs.values())))
    for first in range(0, count, batch):
        part = {name: array[first : first + batch] for name, array in inputs.items()}
        missing = first + batch - count
        if missing > 0:
            part = {
                name: np.concatenate([rows, rows[-1:].repeat(missing, axis=0)]) for name, rows in part.items()
            }
        yield part


def joined(parts: Sequence[Array], name: str, *, count: int, batch: int) -> Array:
    """The outputs of successive calls as one array with a leading batch axis of length ``count``.

    An output without a batch axis, such as a number of detections, gets one.

    Raises:
        ModelError: The output's shape changes from sample to sample, or holds fewer rows than the batch.
    """
    try:
        if all(part.shape[:1] == (batch,) for part in parts):
            return np.concatenate(parts)[:count]
        if batch == 1:
            return np.stack(parts)
    except ValueError:
        pass
    shapes = ", ".join(str(list(shape)) for shape in sorted({part.shape for part in parts})[:3])
    raise ModelError(
        "EK413",
        f"Output {name!r} has no constant shape per sample: {shapes}.",
        "Export the model with fixed output shapes.",
    )
