"""The mean over seeds, and how far it may be off."""

import statistics
from collections.abc import Sequence


def over_seeds(values: Sequence[float], unit: str) -> str:
    """``"+0.52 points, the mean of 3 seeds, 95% interval over seeds [+0.10, +0.94]"``, by Student's t."""
    from scipy import stats

    mean = statistics.fmean(values)
    text = f"{mean:+.2f} {unit}, the mean of {len(values)} seed{'s' if len(values) > 1 else ''}"
    if len(values) == 1:
        return text
    error = statistics.stdev(values) / len(values) ** 0.5
    low, high = stats.t.interval(0.95, len(values) - 1, mean, error or 1e-9)
    return f"{text}, 95% interval over seeds [{low:+.2f}, {high:+.2f}]"
