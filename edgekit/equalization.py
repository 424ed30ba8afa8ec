"""Channels balanced before quantization, kept where a trial shows that the quantized outputs come nearer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgekit import files, onnx_model
from edgekit.artifact import Artifact, Format
from edgekit.errors import EdgekitError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.logits import logits_snrs_db
from edgekit.passes.equalize import Equalization, equalize
from edgekit.passes.equalize_onnx import equalize_onnx
from edgekit.tensor import Array

# A smaller gain in SNR is not worth another model.
_WORTH_DB = 0.5
# About the 97.5% of a t distribution with few degrees of freedom.
_STANDARD_ERRORS = 2.5

Tried = TypeVar("Tried")


@dataclass(frozen=True)
class Trial(Generic[Tried]):
    """How a trial is made: ``attempt`` quantizes a float model under a name, ``file_of`` tells which file it made.

    All samples calibrate: with equal ranges every channel of the samples held back is cut off where it goes beyond
    those of the calibration, so that with few of them a balanced model would look worse than it is.
    """

    attempt: Callable[[Artifact, str], Tried]
    file_of: Callable[[Tried], Artifact]
    held_back: Mapping[str, Array]

    def snrs(self, source: Artifact, model: Artifact, name: str) -> tuple[Tried | None, NDArray[np.float64]]:
        """An attempt and the SNR of each sample in dB, before a final softmax; minus infinity where it fails."""
        try:
            tried = self.attempt(model, name)
            return tried, logits_snrs_db(source, self.file_of(tried), self.held_back)
        except EdgekitError:
            return None, np.full(1, -np.inf)


@dataclass(frozen=True)
class Balanced(Generic[Tried]):
    """What was done, or why it was not. ``kept`` is the attempt with the chosen model, None where none was made."""

    findings: tuple[Finding, ...] = ()
    kept: Tried | None = None


def balance(
    source: Artifact,
    output: Path,
    calibration: Mapping[str, Array],
    *,
    imbalance_db: float,
    trial: Trial[Tried] | None,
) -> Balanced[Tried]:
    """Write ``output``: the float model ``source``, its channels balanced where that helps its quantization.

    Args:
        source: A float ``.tflite`` or ``.onnx``.
        output: The file to write.
        calibration: Samples that ranges are taken from, by input name.
        imbalance_db: Nothing is done unless some group of channels promises to gain so much.
        trial: What decides; None to keep balanced channels in any case.

    Raises:
        ModelError: The model cannot be read or run.
    """
    found = _equalized(source, calibration, imbalance_db)
    if not found.groups:
        files.copy_file(source.path, output)
        return Balanced(_refusal(found))
    output.write_bytes(found.model)
    what = f"{found.groups} groups of channels" + (f" and {found.absorbed} biases" if found.absorbed else "")
    if trial is None:
        return Balanced((Finding("EK326", f"Balanced {what}.", level=Level.NOTE),))
    plain, before = trial.snrs(source, source, "plain")
    balanced, after = trial.snrs(source, open_artifact(output), "balanced")
    samples = f"the mean of {len(after)} samples held back from calibration"
    rise = f"from {before.mean():.1f} to {after.mean():.1f} dB, {samples}"
    if balanced is not None and (plain is None or _is_better(before, after)):
        message = f"Balanced {what}, which raised the SNR {rise}."
        return Balanced((Finding("EK326", message, level=Level.NOTE),), balanced)
    files.copy_file(source.path, output)
    message = f"Balancing {what} would change the SNR {rise}; they were left as they are."
    return Balanced((Finding("EK327", message, level=Level.NOTE),), plain)


def _is_better(before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    """Whether the rise is worth something, and more than chance makes of a few samples."""
    rise = after - before
    chance = 0.0 if len(rise) == 1 else _STANDARD_ERRORS * float(rise.std(ddof=1)) / len(rise) ** 0.5
    return bool(rise.mean() >= max(_WORTH_DB, chance))


def _equalized(source: Artifact, calibration: Mapping[str, Array], imbalance_db: float) -> Equalization:
    if source.format is Format.TFLITE:
        return equalize(source.path.read_bytes(), calibration, imbalance_db=imbalance_db)
    return equalize_onnx(onnx_model.load(source.path), calibration, imbalance_db=imbalance_db)


def _refusal(found: Equalization) -> tuple[Finding, ...]:
    if not found.is_refused:
        return ()
    message = f"Balanced channels changed the float outputs (SNR {found.same_db:.0f} dB); they were left as they are."
    return (Finding("EK327", message, level=Level.NOTE),)
