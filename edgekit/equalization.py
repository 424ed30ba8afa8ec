"""Channels balanced before quantization, kept where a trial shows that the quantized outputs come nearer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Generic, TypeVar

from edgekit import files, onnx_model
from edgekit.artifact import Artifact, Format
from edgekit.errors import EdgekitError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.logits import logits_snr_db
from edgekit.passes.equalize import Equalization, equalize
from edgekit.passes.equalize_onnx import equalize_onnx
from edgekit.tensor import Array

# A smaller gain in SNR on some dozens of samples may be chance.
_WORTH_DB = 0.5

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

    def snr(self, source: Artifact, model: Artifact, name: str) -> tuple[Tried | None, float]:
        """An attempt and its SNR in dB against the source, before a final softmax; minus infinity where it fails."""
        try:
            tried = self.attempt(model, name)
            return tried, logits_snr_db(source, self.file_of(tried), self.held_back)
        except EdgekitError:
            return None, -inf


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
    plain, before = trial.snr(source, source, "plain")
    balanced, after = trial.snr(source, open_artifact(output), "balanced")
    rise = f"from {before:.1f} to {after:.1f} dB on samples held back from calibration"
    if balanced is not None and after >= before + _WORTH_DB:
        message = f"Balanced {what}, which raised the SNR {rise}."
        return Balanced((Finding("EK326", message, level=Level.NOTE),), balanced)
    files.copy_file(source.path, output)
    message = f"Balancing {what} would change the SNR {rise}; they were left as they are."
    return Balanced((Finding("EK327", message, level=Level.NOTE),), plain)


def _equalized(source: Artifact, calibration: Mapping[str, Array], imbalance_db: float) -> Equalization:
    if source.format is Format.TFLITE:
        return equalize(source.path.read_bytes(), calibration, imbalance_db=imbalance_db)
    return equalize_onnx(onnx_model.load(source.path), calibration, imbalance_db=imbalance_db)


def _refusal(found: Equalization) -> tuple[Finding, ...]:
    if not found.is_refused:
        return ()
    message = f"Balanced channels changed the float outputs (SNR {found.same_db:.0f} dB); they were left as they are."
    return (Finding("EK327", message, level=Level.NOTE),)
