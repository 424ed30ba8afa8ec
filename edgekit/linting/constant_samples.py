"""Samples without content: all their values are one number, as of files that were not found or not decoded."""

import math

from edgekit.evidence import Evidence
from edgekit.linting import Judgement, clean, mistake

CODE = "EK244"
LOOKS_FOR = "samples of one single value"

# One blank picture among a hundred may be what the device sees.
_MOST = 0.01


def judge(evidence: Evidence) -> Judgement:
    """More than a hundredth of the samples, and more than one."""
    count, constant = evidence.samples.count, int(evidence.samples.constant.sum())
    if constant > max(1, math.floor(_MOST * count)) or constant == count:
        first = int(evidence.samples.constant.argmax())
        text = f"{constant} of {count} samples hold one value only, the first of them is sample {first}."
        return mistake(
            text, "Check how they were read: buffers that were never filled, silence, covers over the lens."
        )
    return clean(f"{constant} of {count} samples hold one value only.")
