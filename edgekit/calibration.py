"""Which samples calibrate a quantizer, and which are held back to judge its result."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.artifact import TensorSpec
from edgekit.data import Dataset
from edgekit.errors import DataError
from edgekit.findings import Finding
from edgekit.tensor import Array

DEFAULT_COUNT = 256
_HELD_BACK_COUNT = 64
# Of a small set a fifth is held back, so that calibration keeps most of it.
_HELD_BACK_SHARE = 5
_RANDOM_COUNT = 16
_FEW = 50


@dataclass(frozen=True)
class Samples:
    """Calibration samples and others held back from it, by input name: ``{"x": (256, 32, 32, 3)}``.

    ``calibration`` is empty where no data was given; ``held_back`` is random then. ``source`` and
    ``preprocessing`` say where they came from, for the lineage.
    """

    calibration: Mapping[str, Array]
    held_back: Mapping[str, Array]
    source: Mapping[str, Any] | None = None
    preprocessing: Mapping[str, Any] | None = None


def draw(
    dataset: Dataset, inputs: tuple[TensorSpec, ...], *, count: int | None, seed: int
) -> tuple[Samples, list[Finding]]:
    """Draw samples for calibration and others to hold back, without replacement, the same for one seed.

    Args:
        dataset: Where the samples come from.
        inputs: The model's inputs.
        count: How many samples calibrate; None for 256, or what there is.
        seed: Chooses the samples.

    Returns:
        The samples, and findings where there were fewer than asked for or they look wrong.

    Raises:
        DataError: The data do not fit the model, hold a NaN, are too few, or are all the same value.
    """
    if dataset.count < 2:
        message = f"{dataset.spec} has {dataset.count} sample."
        raise DataError("EK230", message, "Calibration needs at least two.")
    held_back = max(1, min(_HELD_BACK_COUNT, dataset.count // _HELD_BACK_SHARE))
    used = min(count or DEFAULT_COUNT, dataset.count - held_back)
    chosen = np.sort(np.random.default_rng(seed).permutation(dataset.count)[: used + held_back])
    with ThreadPoolExecutor(1) as thread:
        # Reading and hashing release Python's lock, and both take long for large files.
        digest = thread.submit(dataset.digest)
        arrays = dataset.bind(inputs).take([int(index) for index in chosen]).inputs
    # Every k-th of the sorted draw is held back: both parts then see the whole of an ordered file.
    marks = np.zeros(len(chosen), bool)
    marks[np.linspace(0, len(chosen) - 1, held_back).round().astype(int)] = True
    source = {"data": dataset.spec, "sha256": digest.result(), "count": used, "held_back": held_back}
    samples = Samples(
        calibration={name: values[~marks] for name, values in arrays.items()},
        held_back={name: values[marks] for name, values in arrays.items()},
        source=source,
        preprocessing=dataset.preprocessing.describe() if dataset.preprocessing else None,
    )
    return samples, [*_too_few(used, count), *_constant(samples, dataset.spec)]


def random_samples(inputs: tuple[TensorSpec, ...], *, seed: int, count: int = _RANDOM_COUNT) -> Samples:
    """Random inputs, to compare outputs where no data was given: normal reals, zeros and ones."""
    generator = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for spec in inputs:
        shape = (count, *(size or 1 for size in spec.shape[1:]))
        is_real = np.issubdtype(np.dtype(spec.dtype), np.floating) or spec.quantization is not None
        if is_real:
            arrays[spec.name] = generator.standard_normal(shape, np.float32)
        else:
            arrays[spec.name] = generator.integers(0, 2, shape).astype(spec.dtype)
    return Samples({}, arrays)


def _too_few(used: int, asked: int | None) -> list[Finding]:
    if asked is not None and used < asked:
        message = f"{used} samples calibrate, {asked} were asked for."
        hint = "Give more data, or ask for fewer with --calibration-samples."
        return [Finding("EK231", message, hint)]
    if used < _FEW:
        message = f"Only {used} samples calibrate: values beyond their range will be clipped."
        return [Finding("EK231", message, "Use 100 to 500 samples of what the device will see.")]
    return []


def _constant(samples: Samples, spec: str) -> list[Finding]:
    """Refuse samples without any variation; warn where every sample is the same."""
    arrays = list(samples.calibration.values())
    # The second sample of most data ends the comparison.
    if not all(np.array_equal(values[0], other) for values in arrays for other in values[1:]):
        return []
    if all((values[0] == values[0].flat[0]).all() for values in arrays):
        raise DataError(
            "EK232",
            f"Every value of the calibration samples in {spec} is {arrays[0].flat[0]:g}.",
            "Calibrate on samples of what the device will see.",
        )
    message = f"All {len(arrays[0])} calibration samples of {spec} are one and the same."
    return [Finding("EK233", message, "A generator that restarts at each call gives one sample for ever.")]
