"""Why a quantized model lost more than it may, and the option that mends it, found by applying it.

1. Where the noise comes from: ``sensitivity`` on the data on which the loss was measured, not on the calibration data,
   which may be what is wrong; ``debug`` names the first tensor that loses more than rounding explains.
2. What that means: see ``edgekit.layerwise.causes``.
3. What could mend it, the cheapest first: other calibration data where calibration is the cause, more effort, the worst
   layers in float, 16-bit activations, activations that stay float. Each is done by ``quantize``, and judged by
   the SNR of the outputs and the paired drop of the metric, until one keeps within the limit.

Samples that become calibration data are taken from the labelled data, and every file is judged on the rest alone.
"""

import shlex
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.artifact import Artifact
from edgekit.data import Dataset, open_dataset
from edgekit.errors import EdgekitError, UsageError
from edgekit.findings import Finding
from edgekit.formats import open_artifact
from edgekit.layerwise.causes import Cause, causes
from edgekit.layerwise.sensitivity import Sensitivity
from edgekit.reference import Reference
from edgekit.tensor import difference
from edgekit.verbs.debug import debug
from edgekit.verbs.evaluate import Evaluation, evaluate, paired
from edgekit.verbs.quantize import quantize
from edgekit.workflows.remedies import Remedy, remedies_for
from edgekit.workflows.sensitivity import sensitivity

Progress = Callable[[int, int], None]

_SNR_SAMPLES, _DEBUG_SAMPLES, _NOISE_SAMPLES = 256, 32, 64
# A quarter of the data, and at most so many, may become calibration data.
_CALIBRATING, _CALIBRATING_SHARE = 256, 4
# Without labels a file is good enough at this SNR: the error of the outputs is a twentieth of their size.
_GOOD_DB = 26.0
# What gains less than this cannot have mended anything, and its metric need not be measured.
_WORTH_DB = 1.0
# Options of quantize that say where its file goes, and what is shown meanwhile.
_OWN = frozenset({"format", "io", "keep_names", "overwrite", "progress"})


@dataclass(frozen=True)
class Diagnosis:
    """Why, and what mends it.

    ``first_loss`` is the first tensor that loses more than rounding explains, None where none does. ``before`` says
    how the file that was diagnosed does on the samples on which the remedies are judged.
    """

    before: Remedy
    limit: float | None
    unit: str
    causes: tuple[Cause, ...]
    first_loss: str | None
    remedies: tuple[Remedy, ...]
    samples: int

    @property
    def mended_by(self) -> Remedy | None:
        """The option that mends it, None where nothing did."""
        return next((remedy for remedy in self.remedies if remedy.mends), None)

    @property
    def nearest(self) -> Remedy | None:
        """What helped most of all that was tried."""
        done = [remedy for remedy in self.remedies if remedy.snr_db is not None]
        return max(done, key=lambda remedy: (-(remedy.drop or 0.0), remedy.snr_db), default=None)

    def paragraph(self) -> str:
        """All of it, for people."""
        sentences = [
            f"Quantization costs {self._result(self.before)} on {self.samples} samples{self._limited()}."
        ]
        sentences += [f"{cause.text[0].upper()}{cause.text[1:]}." for cause in self.causes]
        if self.first_loss is not None:
            sentences.append(f"The first tensor that goes wrong is {self.first_loss}.")
        mended = self.mended_by
        if mended is not None:
            sentences.append(f"What mends it: {mended.option}: {self._result(mended)}.")
        elif self.nearest is not None:
            nearest = self.nearest
            sentences.append(
                f"Nothing that was tried mends it; nearest is {nearest.option}: {self._result(nearest)}."
            )
        others = [one for one in self.remedies if one is not mended and (mended or one is not self.nearest)]
        if others:
            tried = "; ".join(f"{one.option}: {one.error or self._result(one)}" for one in others)
            sentences.append(f"Also tried: {tried}.")
        return " ".join(sentences)

    @property
    def finding(self) -> Finding:
        """The same as a finding; its hint is what to type."""
        mended = self.mended_by
        if mended is None:
            hint = "`edgekit sensitivity` ranks all layers; `edgekit debug` compares the two files tensor by tensor."
        elif mended.arguments:
            hint = f"Add {shlex.join(mended.arguments)}."
        else:
            hint = f"Quantize again after {mended.option}."
        return Finding("EK567", self.paragraph(), hint)

    def describe(self) -> dict[str, Any]:
        """The diagnosis as it stands in JSON documents."""
        return {
            "text": self.paragraph(),
            "samples": self.samples,
            "limit": self.limit,
            "before": self.before.describe(),
            "causes": [cause.describe() for cause in self.causes],
            "first_loss": self.first_loss,
            "remedies": [remedy.describe() for remedy in self.remedies],
            "mended_by": None if self.mended_by is None else self.mended_by.option,
        }

    def _result(self, remedy: Remedy) -> str:
        scale, unit = (100, " points") if self.unit == "fraction" else (1, "")
        snr = f"SNR {remedy.snr_db:.1f} dB"
        if remedy.drop is None:
            return snr
        interval = ""
        if remedy.drop_ci95 is not None:
            interval = f" [{scale * remedy.drop_ci95[0]:+.2f}, {scale * remedy.drop_ci95[1]:+.2f}]"
        return f"{scale * remedy.drop:.2f}{unit}{interval}, {snr}"

    def _limited(self) -> str:
        if self.limit is None:
            return ""
        scale, unit = (100, " points") if self.unit == "fraction" else (1, "")
        return f", where {scale * self.limit:g}{unit} may be lost"


def diagnose(
    source: str | Path | Artifact,
    quantized: str | Path | Artifact,
    data: str | Path | Dataset,
    *,
    calibration: str | Path | Dataset,
    limit: float | None = None,
    metric: str | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Find out why a quantized model lost more than it may, and what mends it.

    Args:
        source: The float model.
        quantized: What ``quantize`` made of it.
        data: The samples on which it lost; without labels the SNR of the outputs is all that is judged.
        calibration: The data that calibrated it.
        limit: The largest drop of the metric: 0.005 are half a point of a fraction.
        metric: Which metric; chosen from labels and outputs when None.
        options: What else ``quantize`` was called with: ``{"recipe": "int8", "io": "int8"}``.
        progress: Called with the numbers of trials done and of all.

    Raises:
        ModelError: A model cannot be read or run.
        DataError: The data cannot be used.
    """
    given = {"recipe": "int8", **(options or {}), "calibration": calibration}
    preprocess = given.get("preprocess")
    samples = open_dataset(data, preprocess=preprocess)
    before, after = (
        one if isinstance(one, Artifact) else open_artifact(Path(one)) for one in (source, quantized)
    )
    found = _sensitivity(before, after, samples, given)
    reasons = causes(found.layers)
    spare, judged = _parted(samples, is_needed=any(reason.is_calibration for reason in reasons))
    judge = _Judge(before, judged, limit, metric)
    first = judge.judge(Remedy("as it is"), after)
    wanted = list(remedies_for(found, reasons, given, spare, data=judged, source=before))
    remedies = []
    for done, remedy in enumerate(wanted):
        remedies.append(_tried(remedy, given, after, judge, first))
        if progress:
            progress(done + 1, len(wanted))
        if remedies[-1].mends:
            break
    return Diagnosis(
        first, limit, judge.unit, reasons, _first_loss(before, after, judged), tuple(remedies), judged.count
    )


class _Judge:
    """How near a file's outputs are to the float model's, and what of the metric is lost, on the same samples."""

    def __init__(self, source: Artifact, data: Dataset, limit: float | None, metric: str | None) -> None:
        self.source, self._data, self._limit = source, data, limit
        some = data.bind(source.inputs).spread(min(_SNR_SAMPLES, data.count))
        self._reference = Reference.of(source, dict(some.take(range(some.count)).inputs))
        self._before: Evaluation | None = evaluate(source, data, metric=metric) if data.has_labels else None
        self.unit = "dB" if self._before is None else self._before.unit

    def judge(self, tried: Remedy, artifact: Artifact, *, worth_db: float | None = None) -> Remedy:
        """What the file of a remedy is worth; the metric is measured where the SNR is above ``worth_db`` alone."""
        outputs = self._reference.outputs_of(artifact)
        pairs = ((exact, outputs[name]) for name, exact in self._reference.outputs.items())
        snr = min(difference(exact, measured).snr_db for exact, measured in pairs)
        remedy = replace(
            tried, snr_db=snr, size_bytes=artifact.size_bytes, mends=self._before is None and snr >= _GOOD_DB
        )
        if self._before is None or (worth_db is not None and snr < worth_db):
            return remedy
        found = paired(self._before, evaluate(artifact, self._data, metric=self._before.metric))
        low, high = found.drop_ci95
        mends = self._limit is not None and found.drop <= self._limit
        return replace(remedy, drop=found.drop, drop_ci95=(low, high), mends=mends)


def _sensitivity(
    source: Artifact, quantized: Artifact, data: Dataset, given: Mapping[str, Any]
) -> Sensitivity:
    """The layers, measured on the data that showed the loss, and those to spare where they have names."""

    def measured(reach_db: float | None) -> Sensitivity:
        return sensitivity(
            source,
            calibration=given["calibration"],
            recipe=given["recipe"] or "int8",
            format=quantized.format.value,
            preprocess=given.get("preprocess"),
            calibration_samples=given.get("calibration_samples"),
            noise_data=data,
            samples=_NOISE_SAMPLES,
            effort="none" if given.get("effort") == "none" else "low",
            ranges=given.get("ranges", "auto"),
            equalize=given.get("equalize", "auto"),
            reach_db=reach_db,
            seed=given.get("seed", 0),
        )

    try:
        return measured(_GOOD_DB)
    except UsageError as error:
        if error.code != "EK561":
            raise
        return measured(None)


def _parted(data: Dataset, *, is_needed: bool) -> tuple[Dataset | None, Dataset]:
    """A part of the data to calibrate with, where that may be needed, and the rest to judge with."""
    count = min(_CALIBRATING, data.count // _CALIBRATING_SHARE)
    if not is_needed or count < 2:
        return None, data
    chosen = {index * data.count // count for index in range(count)}
    rest = [index for index in range(data.count) if index not in chosen]
    return data.subset(sorted(chosen)), data.subset(rest)


def _tried(
    remedy: Remedy, given: Mapping[str, Any], quantized: Artifact, judge: _Judge, first: Remedy
) -> Remedy:
    """Quantize with an option, and judge the file."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        output = Path(folder) / f"tried.{quantized.format}"
        try:
            made = quantize(judge.source.path, output, **{**_passed_on(given), **remedy.options})
            return judge.judge(remedy, made.artifact, worth_db=(first.snr_db or 0.0) + _WORTH_DB)
        except EdgekitError as error:
            return replace(remedy, error=error.message)


def _passed_on(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, without what belongs to the user's own file."""
    return {name: value for name, value in given.items() if name not in _OWN and value is not None}


def _first_loss(source: Artifact, quantized: Artifact, data: Dataset) -> str | None:
    """The first tensor that loses more than rounding explains, with what it loses."""
    try:
        found = debug(source, quantized, data, samples=min(_DEBUG_SAMPLES, data.count))
    except EdgekitError:
        # It is one more piece of evidence: two files of which no tensors pair give none.
        return None
    return found.first_loss_text()
