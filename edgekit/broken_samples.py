"""The samples that broke: which of them are shown, and what they look like before preprocessing."""

from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.data import Dataset
from edgekit.data.images import decode
from edgekit.tensor import Array

_MOST = 24


def choose_broken(right: NDArray[np.bool_], labels: NDArray[np.intp]) -> list[int]:
    """Up to 24 samples that the first model gets right and another wrong, of as many models and classes as it can.

    Args:
        right: Whether each model is right on each sample, shape (models, n).
        labels: The class of each sample, shape (n,).

    Returns:
        Rising numbers of samples.
    """
    groups: dict[tuple[int, int], deque[int]] = defaultdict(deque)
    for model in range(1, len(right)):
        for number in np.flatnonzero(right[0] & ~right[model]).tolist():
            groups[int(labels[number]), model].append(number)
    # One of each class and model in turn, so that none crowds out the others.
    chosen: dict[int, None] = {}
    waiting = deque(groups[key] for key in sorted(groups))
    while waiting and len(chosen) < _MOST:
        group = waiting.popleft()
        chosen[group.popleft()] = None
        if group:
            waiting.append(group)
    return sorted(chosen)


def read_samples(dataset: Dataset, numbers: Sequence[int]) -> list[Array]:
    """The raw first input of these samples, images decoded.

    Args:
        dataset: Where they are.
        numbers: Rising.
    """
    if not numbers:
        return []
    found: list[Array] = []
    for batch in dataset.subset(numbers).raw_batches(1):
        values = next(iter(batch.inputs.values()))
        found.append(decode(values)[0] if values.dtype.kind == "U" else np.asarray(values[0]))
    return found
