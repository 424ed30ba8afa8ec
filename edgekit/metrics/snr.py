"""Signal-to-noise ratio in dB against a reference model, no labels needed.

Rows: for each output the sums of squares of the reference and of the difference. The value is that of the
worst output, over all samples: ``10 log10(signal / noise)``, infinite where nothing differs.
"""

import math

import numpy as np

from edgekit.errors import DataError
from edgekit.metrics import Answers, Context, Drop, Rows, Summary, reference_outputs, resampled_drop
from edgekit.statistics import bootstrap_interval

NEEDS = "reference"
UNIT = "dB"
HIGHER_IS_BETTER = True


def measure(answers: Answers) -> Rows:
    """Rows of shape (n, 2 * outputs).

    Raises:
        DataError: An output has another shape than the reference's.
    """
    columns = []
    for name, expected in reference_outputs(answers).items():
        output = answers.outputs[name]
        exact = expected.reshape(len(expected), -1).astype(np.float64)
        if output.size != exact.size:
            raise DataError(
                "EK415",
                f"Output {name!r} has shape {list(output.shape[1:])} per sample, the reference's "
                f"{list(expected.shape[1:])}.",
                "Compare models with the same outputs.",
            )
        noise = exact - output.reshape(exact.shape)
        columns += [np.square(exact).sum(axis=1), np.square(noise).sum(axis=1)]
    return np.column_stack(columns)


def summarize(rows: Rows, context: Context) -> Summary:
    """The worst output's ratio with its bootstrap interval, and every output's own."""
    parts = np.split(rows, rows.shape[1] // 2, axis=1)
    values = [_ratio(part) for part in parts]
    intervals = [bootstrap_interval(part, _ratio) for part in parts]
    per_output = tuple(
        {"output": name, "n": len(rows), "value": value, "ci95": interval}
        for name, value, interval in zip(context.output_names, values, intervals, strict=True)
    )
    worst = int(np.argmin(values))
    return Summary(values[worst], intervals[worst], per_output)


def drop(before: Rows, after: Rows) -> Drop:
    """How many dB the worst output lost, samples being drawn in pairs."""
    width = before.shape[1]

    def lost(rows: Rows) -> float:
        first, second = _worst(rows[:, :width]), _worst(rows[:, width:])
        return 0.0 if first == second else first - second  # infinite ones too

    return resampled_drop(np.hstack([before, after]), lost)


def _worst(rows: Rows) -> float:
    return min(_ratio(part) for part in np.split(rows, rows.shape[1] // 2, axis=1))


def _ratio(rows: Rows) -> float:
    signal, noise = float(rows[:, 0].sum()), float(rows[:, 1].sum())
    if not math.isfinite(noise):
        return -math.inf
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
