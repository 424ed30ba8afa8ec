"""Times two commands against each other: in turn, as whole processes, with the ratio pair by pair."""

import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Paired:
    """Wall times in seconds of two commands, run in turn."""

    ours_s: list[float]
    bare_s: list[float]

    @property
    def ratio(self) -> float:
        """The median of the ratios, pair by pair."""
        return statistics.median(a / b for a, b in zip(self.ours_s, self.bare_s, strict=True))

    def is_within(self, limit: float, free_s: float = 0.0) -> bool:
        """Whether the ratio is, or we take at most ``free_s`` longer: small models show how programs start."""
        return self.ratio <= limit or statistics.median(np.subtract(self.ours_s, self.bare_s)) <= free_s

    def sentence(self, limit: float, free_s: float = 0.0) -> str:
        """The finding in one line, with a bootstrap interval of the median ratio."""
        ratios = np.divide(self.ours_s, self.bare_s)
        interval = stats.bootstrap((ratios,), np.median, method="percentile", rng=0).confidence_interval
        verdict = "within" if self.is_within(limit, free_s) else "ABOVE"
        return (
            f"edgekit {statistics.median(self.ours_s):.2f} s, bare {statistics.median(self.bare_s):.2f} s, "
            f"ratio {self.ratio:.3f} [{interval.low:.3f}, {interval.high:.3f}], {verdict} {limit}"
            + (f" or {free_s} s more" if free_s else "")
        )


def seconds(command: Sequence[str]) -> float:
    """How long a command takes as a whole process; one that fails ends the benchmark.

    Python may write what it compiles, as it does for users: else each process would compile every module anew.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    taken = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return taken


def paired(ours: Sequence[str], bare: Sequence[str], *, pairs: int) -> Paired:
    """Run both commands once to warm the disk cache, then ``pairs`` times in alternating order."""
    seconds(ours), seconds(bare)
    result = Paired([], [])
    for index in range(pairs):
        order = [(ours, result.ours_s), (bare, result.bare_s)]
        for command, times in order if index % 2 else reversed(order):
            times.append(seconds(command))
    return result
