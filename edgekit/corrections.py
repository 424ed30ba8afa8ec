"""What is done for the accuracy of a quantized file: each correction is a step of a plan, and reports what it did."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.artifact import Artifact, Format
from edgekit.engines import Job, engine
from edgekit.findings import Finding, Level
from edgekit.passes._layer_search import Progress, Searched
from edgekit.passes._layers import Twins, snr_db
from edgekit.passes._layers_onnx import OnnxTwins
from edgekit.passes._layers_tflite import TFLiteTwins
from edgekit.passes.choose_ranges import Ranges, Seen
from edgekit.passes.correct_bias import Correction, FloatSide, correct_bias, with_corrected_biases
from edgekit.passes.reconstruct import reconstruct
from edgekit.passes.search_rounding import search_rounding
from edgekit.passes.set_ranges_onnx import set_ranges_onnx
from edgekit.ranges import RangeMethod
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
    progress: Progress | None = None

    @property
    def twins(self) -> Twins:
        """Both files."""
        kind = OnnxTwins if self.quantized.format is Format.ONNX else TFLiteTwins
        return kind(self.job.source.path.read_bytes(), self.quantized.path.read_bytes())


def _ranges_and_biases(subject: Subject, output: Path) -> list[Finding]:
    """Try other ranges, and keep the nearest file; each is judged with its own corrected biases.

    A clipped range shifts means, which biases take out: judged without them, the better of two ranges may look worse.
    """
    twins, job = subject.twins, subject.job
    seen = Seen.of(twins, job.calibration, subject.seed)
    known = FloatSide(list(twins.float_probe.outputs(subject.held_back)), seen.means)
    methods: tuple[RangeMethod, ...] = ("auto", "mse") if subject.ranges == "auto" else (subject.ranges,)
    plain = correct_bias(twins, calibration=job.calibration, held_back=subject.held_back, known=known)
    best, words = plain, ""
    chosen = [seen.choose(method) for method in methods]
    for ranges in chosen[:1] if chosen[0] == chosen[-1] else chosen:
        corrected = with_corrected_biases(_with_ranges(subject, ranges, output), seen.means)
        snr = snr_db(corrected.probe, subject.held_back, known.outputs)
        # A method that was asked for by its name is not second-guessed.
        if subject.ranges != "auto" or snr > best.snr_after_db:
            best, words = Correction(corrected.quantized, plain.snr_before_db, snr), f" ({ranges})"
    output.write_bytes(best.model)
    if best.model == twins.quantized:
        return []
    message = (
        f"Ranges of activations{words} and corrected biases took the SNR from {best.snr_before_db:.1f} to "
        f"{best.snr_after_db:.1f} dB on samples held back from calibration."
    )
    return [Finding("EK328", message, level=Level.NOTE)]


def _with_ranges(subject: Subject, chosen: Ranges, output: Path) -> Twins:
    """The file with other ranges."""
    if not chosen.ranges:
        return subject.twins
    if subject.quantized.format is Format.ONNX:
        output.write_bytes(set_ranges_onnx(subject.quantized.path.read_bytes(), chosen.ranges))
    else:
        job = replace(subject.job, output=output, ranges=chosen.ranges, calibration={})
        engine(subject.engine).quantize(job)
    return replace(subject, quantized=replace(subject.quantized, path=output)).twins


def _correct_bias(subject: Subject, output: Path) -> list[Finding]:
    found = correct_bias(subject.twins, calibration=subject.job.calibration, held_back=subject.held_back)
    output.write_bytes(found.model)
    if found.snr_after_db == found.snr_before_db:
        return []
    message = (
        f"Corrected biases raised the SNR from {found.snr_before_db:.1f} to "
        f"{found.snr_after_db:.1f} dB on samples held back from calibration."
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
        progress=subject.progress,
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
    "ranges_and_biases": _ranges_and_biases,
    "correct_bias": _correct_bias,
    "search_rounding": _search_rounding,
    "reconstruct": _reconstruct,
}
