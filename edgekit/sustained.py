"""What a device keeps up: the latency of its first minute under load against that of its last."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.measurement import Measurement
from edgekit.statistics import Interval
from edgekit.tensor import Array

_MINUTE_S = 60.0
_RESAMPLES = 2000
_FEWEST_BLOCKS = 5


@dataclass(frozen=True)
class Sustained:
    """Medians of the first and the last ``window_s`` of a run under load, and their ratio.

    ``ratio`` 1.3 is 30% slower at the end; ``ci95`` is None where there are fewer than five blocks in a window.
    """

    seconds: float
    window_s: float
    first_ms: float
    last_ms: float
    ratio: float
    ci95: Interval | None

    def describe(self) -> dict[str, Any]:
        """The comparison as it stands in JSON documents."""
        return {
            "seconds": self.seconds,
            "window_s": self.window_s,
            "first_ms": self.first_ms,
            "last_ms": self.last_ms,
            "ratio": self.ratio,
            "ci95": None if self.ci95 is None else list(self.ci95),
        }


def first_against_last(latency: Measurement, seed: int = 0) -> Sustained:
    """Compare the first minute with the last; of runs shorter than three minutes, the first third with the last.

    The interval resamples blocks of each window (percentile bootstrap): the runs of one block resemble each
    other, and a slow moment of the machine is in all of them.
    """
    starts, medians = np.asarray(latency.starts_s), latency.block_medians
    seconds = float(starts[-1]) + sum(latency.blocks[-1]) / 1e9
    window_s = min(_MINUTE_S, seconds / 3)
    first, last = medians[starts < window_s], medians[starts >= seconds - window_s]
    first, last = (part if len(part) else medians for part in (first, last))
    ratio = float(np.median(last) / np.median(first))
    interval = None
    if min(len(first), len(last)) >= _FEWEST_BLOCKS:
        generator = np.random.default_rng(seed)
        ratios = _resampled(last, generator) / _resampled(first, generator)
        low, high = np.percentile(ratios, [2.5, 97.5])
        interval = Interval(float(low), float(high))
    return Sustained(
        seconds, window_s, float(np.median(first)) / 1e6, float(np.median(last)) / 1e6, ratio, interval
    )


def _resampled(medians: Array, generator: np.random.Generator) -> Array:
    drawn: Array = np.median(generator.choice(medians, (_RESAMPLES, len(medians))), axis=1)
    return drawn
