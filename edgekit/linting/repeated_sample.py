"""One sample that stands for all: a generator that restarts for each sample gives its first one for ever."""

import numpy as np

from edgekit.evidence import Evidence
from edgekit.linting import Judgement, clean, mistake, not_run, percent

CODE = "EK243"
LOOKS_FOR = "one sample repeated"

_LARGEST_SHARE = 0.5


def judge(evidence: Evidence) -> Judgement:
    """By digest: no sample may make up half of the set."""
    samples = evidence.samples
    if samples.count < 2:
        return not_run("there is one sample.")
    counts = np.unique(samples.digests, axis=0, return_counts=True)[1]
    share = percent(counts.max(), samples.count)
    text = f"Of {len(counts)} different samples the most frequent makes up {share} of {samples.count}."
    if counts.max() > 1 and counts.max() >= _LARGEST_SHARE * samples.count:
        fix = "Take the next sample each time: a generator made anew in the loop, as in next(iter(data)), starts over."
        return mistake(text, fix)
    return clean(text)
