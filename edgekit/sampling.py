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


def filled(inputs: Mapping[str, Array], batch: int) -> dict[str, Array]:
    """Inputs of a length that is a multiple of ``batch``: the last row is repeated."""
    count = len(next(iter(inputs.values())))
    missing = -count % batch
    if not missing:
        return dict(inputs)
    return {name: np.concatenate([rows, rows[-1:].repeat(missing, axis=0)]) for name, rows in inputs.items()}


def in_batches(inputs: Mapping[str, Array], batch: int) -> Iterator[dict[str, Array]]:
    """Inputs as a model with a built-in batch takes them, call by call; the last is filled up."""
    full = filled(inputs, batch)
    for first in range(0, len(next(iter(full.values()))), batch):
        yield {name: rows[first : first + batch] for name, rows in full.items()}


def joined(parts: Sequence[Array], name: str, *, count: int, batch: int) -> Array:
    """The outputs of successive calls as one array with a leading batch axis of length ``count``.

    An output without a batch axis, such as a number of detections, gets one.

    Raises:
        ModelError: The output's shape changes from sample to sample, or holds fewer rows than the batch.
    """
    try:
        if {part.shape[:1] for part in parts} == {(batch,)}:
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
