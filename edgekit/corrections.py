"""What is done for the accuracy of a quantized file: each correction is a step of a plan, and reports what it did."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.artifact import Artifact, Format
from edgekit.engines import Job, engine
from edgekit.findings import Finding, Level
from edgekit.passes._layer_search import Searched
from edgekit.passes._layers import Twins, snr_db
from edgekit.passes._layers_onnx import OnnxTwins
from edgekit.passes._layers_tflite import TFLiteTwins
from edgekit.passes.choose_ranges import choose_ranges
from edgekit.passes.correct_bias import correct_bias
from edgekit.passes.reconstruct import reconstruct
from edgekit.passes.search_rounding import search_rounding
from edgekit.ranges import RangeMethod
from edgekit.sampling import batch_size
from edgekit.tensor import Array


@dataclass(frozen=True)
class Subject:
    """A quantized file, and what it was made from and how.

    ``job`` is what the engine was asked to do. ``held_back`` are samples that did not calibrate, by the names of the
    float file's inputs; ``ranges`` says how ranges are chosen, see ``edgekit.ranges``. ``until`` is when searches
    end, as ``time.monotonic`` tells it.
    """

    job: Job
    engine: str
    quantized: Artifact
    held_back: Mapping[str, Array]
    ranges: RangeMethod
    seed: int
    until: float

    @property
    def twins(self) -> Twins:
        """Both files."""
        kind = OnnxTwins if self.quantized.format is Format.ONNX else TFLiteTwins
        return kind(self.job.source.path.read_bytes(), self.quantized.path.read_bytes())


def _choose_ranges(subject: Subject, output: Path) -> list[Finding]:
    """Quantize again with the chosen ranges; what the engine chose stays where it is nearer."""
    twins, job = subject.twins, subject.job
    chosen = choose_ranges(twins, calibration=job.calibration, method=subject.ranges, seed=subject.seed)
    if not chosen.ranges:
        output.write_bytes(twins.quantized)
        return []
    # With every range given an engine has no use for samples, but ONNX Runtime's does not go without.
    few = {name: values[: batch_size(job.source)] for name, values in job.calibration.items()}
    again = replace(job, output=output, ranges=chosen.ranges, calibration=few)
    findings = engine(subject.engine).quantize(again)
    exact = list(twins.float_probe.outputs(subject.held_back))
    before = snr_db(twins.probe, subject.held_back, exact)
    nearer = replace(subject, quantized=replace(subject.quantized, path=output)).twins
    after = snr_db(nearer.probe, subject.held_back, exact)
    # A method that was asked for by its name is not second-guessed.
    if after <= before and subject.ranges == "auto":
        output.write_bytes(twins.quantized)
        return []
    methods = ", ".join(f"{count} by {name}" for name, count in sorted(chosen.methods.items()))
    message = (
        f"Ranges of activations were chosen ({methods}): the SNR went from {before:.1f} to {after:.1f} dB "
        "on samples held back from calibration."
    )
    return [*findings, Finding("EK328", message, level=Level.NOTE)]


def _correct_bias(subject: Subject, output: Path) -> list[Finding]:
    correction = correct_bias(subject.twins, calibration=subject.job.calibration, held_back=subject.held_back)
    output.write_bytes(correction.model)
    if correction.snr_after_db == correction.snr_before_db:
        return []
    message = (
        f"Corrected biases raised the SNR from {correction.snr_before_db:.1f} to "
        f"{correction.snr_after_db:.1f} dB on samples held back from calibration."
    )
    return [Finding("EK323", message, level=Level.NOTE)]


def _search_rounding(subject: Subject, output: Path) -> list[Finding]:
    return _searched(search_rounding, subject, output, "EK324", "Searched rounding")


def _reconstruct(subject: Subject, output: Path) -> list[Finding]:
    return _searched(reconstruct, subject, output, "EK329", "Reconstruction")


def _searched(
    search: Callable[..., Searched], subject: Subject, output: Path, code: str, what: str
) -> list[Finding]:
    found = search(
        subject.twins,
        calibration=subject.job.calibration,
        held_back=subject.held_back,
        seed=subject.seed,
        seconds=subject.until - time.monotonic(),
    )
    output.write_bytes(found.model)
    findings = []
    if found.kept:
        message = (
            f"{what} of {found.kept} of {found.layers} layers raised the SNR from {found.snr_before_db:.1f} "
            f"to {found.snr_after_db:.1f} dB on samples held back from calibration."
        )
        findings.append(Finding(code, message, level=Level.NOTE))
    if found.tried < found.layers:
        message = f"{what} ended after {found.tried} of {found.layers} layers: the time was over."
        findings.append(Finding("EK325", message, "Give more with --time-budget."))
    return findings


CORRECTIONS: Mapping[str, Callable[[Subject, Path], list[Finding]]] = {
    "choose_ranges": _choose_ranges,
    "correct_bias": _correct_bias,
    "search_rounding": _search_rounding,
    "reconstruct": _reconstruct,
}
