"""Samples that occur more than once, and make the set smaller than it looks."""

import numpy as np

from edgekit.evidence import Evidence
from edgekit.linting import Judgement, clean, mistake, percent

CODE = "EK247"
LOOKS_FOR = "samples that occur more than once"

# Silence and blank pictures occur twice in clean sets too.
_MOST_COPIES = 0.1


def judge(evidence: Evidence) -> Judgement:
    """By digest, without a sample that makes up half of the set: that is a mistake of its own."""
    count = evidence.samples.count
    counts = np.unique(evidence.samples.digests, axis=0, return_counts=True)[1]
    if counts.max() * 2 >= count > 1:
        counts = np.delete(counts, counts.argmax())
    copies, rest = int((counts - 1).sum()), int(counts.sum())
    text = f"{copies} of {rest} samples are copies of others ({percent(copies, max(1, rest))})."
    if copies > _MOST_COPIES * rest:
        return mistake(text, "Draw samples without replacement, and leave copies out: np.unique(x, axis=0).")
    return clean(text)
