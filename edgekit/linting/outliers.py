"""Single values that widen a range: all others share the few steps that are left to them (tensorflow#49927)."""

import math

import numpy as np

from edgekit.evidence import Evidence
from edgekit.evidence.seen import HIGHEST, LOWEST
from edgekit.linting import Judgement, clean, mistake, not_run

CODE = "EK250"
LOOKS_FOR = "single values that widen the range"

_RARE = 0.02
_WIDER = 2.0
_FEWEST = 20


def judge(evidence: Evidence) -> Judgement:
    """By how much wider an input's range is than without the two hundredths of the samples that reach farthest."""
    found = {
        name: _widening(values[evidence.samples.finite])
        for name, values in evidence.samples.quantiles.items()
    }
    known = {name: one for name, one in found.items() if one is not None}
    if not known:
        return not_run(f"there are fewer than {_FEWEST} samples without NaN, or each input has one value.")
    name, (wider, row) = max(known.items(), key=lambda item: item[1][0])
    rows = np.flatnonzero(evidence.samples.finite)
    text = f"{_RARE:.0%} of the samples make the range of {name!r} {wider:.3g} times as wide as the others do"
    if wider > _WIDER:
        fix = "Remove or clip such values, or let a range leave them out where they are real."
        return mistake(f"{text}, most of all sample {rows[row]}.", fix)
    return clean(f"{text}.")


def _widening(quantiles: np.ndarray) -> tuple[float, int] | None:
    """Range of all over range of the others, and which sample reaches farthest."""
    count = len(quantiles)
    if count < _FEWEST:
        return None
    low, high = quantiles[:, LOWEST], quantiles[:, HIGHEST]
    rare = math.ceil(_RARE * count)
    inner = float(np.sort(high)[-rare - 1] - np.sort(low)[rare])
    if inner <= 0:
        return None
    middle = (np.median(high) + np.median(low)) / 2
    farthest = int(np.maximum(high - middle, middle - low).argmax())
    return float(high.max() - low.min()) / inner, farthest
