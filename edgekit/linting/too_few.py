"""Too few samples: two halves of them would calibrate differently, and so would the next set."""

import numpy as np

from edgekit.evidence import Evidence
from edgekit.linting import Judgement, clean, mistake, not_run
from edgekit.tensor import Array

CODE = "EK251"
LOOKS_FOR = "ranges that differ between two halves"

# The next sample leaves the range of n others in a tensor with a chance of 2 / (n + 1), whatever the distribution: at
# 50, where quantize begins to warn too, in one tensor of 25.
_FEWEST = 50
# Halves of 50 to 250 samples differ by 5% to 20%, and hardly less where there are more: tails are heavy.
_MOST_DIFFERENT = 0.3
_SPLITS = 20


def judge(evidence: Evidence) -> Judgement:
    """By the ranges of inputs and inner activations in disjoint halves, and by the number alone where it is tiny."""
    count = evidence.samples.count
    fix = "Use 100 to 500 samples of what the device will see."
    if count < _FEWEST:
        return mistake(
            f"{count} samples: the next one leaves a tensor's range with a chance of {2 / (count + 1):.0%}.",
            fix,
        )
    if evidence.behaviour is None:
        return not_run(evidence.unseen)
    extremes = evidence.behaviour.extremes
    extremes = extremes[:, np.isfinite(extremes).all(axis=(0, 2))]
    if not extremes.shape[1]:
        return not_run("no inner tensor of the model can be seen.")
    different = instability(extremes)
    tensors = f"The ranges of {extremes.shape[1]} tensors"
    text = f"{tensors} differ by {different:.0%} between halves of {len(extremes)} samples"
    if different > _MOST_DIFFERENT:
        return mistake(f"{text}.", fix)
    return clean(f"{text}.")


def instability(extremes: Array) -> float:
    """How much of the wider range is missing in the other half's, the mean over tensors and random halves.

    Args:
        extremes: Lowest and highest value by sample and tensor, (n, t, 2).
    """
    generator = np.random.default_rng(0)
    count = len(extremes)
    found = []
    for _ in range(_SPLITS):
        order = generator.permutation(count)
        halves = [extremes[order[: count // 2]], extremes[order[count // 2 :]]]
        low = np.stack([half[..., 0].min(axis=0) for half in halves])
        high = np.stack([half[..., 1].max(axis=0) for half in halves])
        union = high.max(axis=0) - low.min(axis=0)
        shared = np.maximum(high.min(axis=0) - low.max(axis=0), 0.0)
        alive = union > 0
        found.append(float(np.mean(1 - shared[alive] / union[alive])) if alive.any() else 0.0)
    return float(np.mean(found))
