"""What an operator's own error means: nothing, rounding, a loss, or a defect.

Each operator of B is judged by itself. What it wrote is compared with what A's operator makes of the same inputs,
so that errors from further up play no part. To that error stands the one to expect of a correct operator:

- rounding its result to the steps of B's tensor, and of A's where A is quantized too: scale^2 / 12 per value;
- rounding A's weights to the steps of B's, which is computed with A's own operator, and estimated only where a
  converter changed the weights, as folding a batch normalization into them does;
- rounding its inputs to eight bits, where a kernel does so by itself (dynamic quantization);
- 100 dB below the signal for kernels that add up real numbers in another order.

Of these the rules are, in this order:

1. defect: NaN or infinity where A has none.
2. identical: no value differs.
3. rounding: A and B have the same scale and zero point, and no value differs by more than 2 steps.
4. defect: the error is at least 10 dB above the expected one, and the SNR below 30 dB; or what lies beyond the
   range of B's tensor is so much that cutting it off alone leaves less than 10 dB.
5. rounding: the error is less than 6 dB above the expected one, or the SNR above 50 dB; and cutting off leaves at
   least 30 dB.
6. degrades: all the rest, mostly tensors whose range was calibrated too narrow, or a bias that makes up for the few
   bits of layers before.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edgekit.debugging.graph import Hidden, Value
from edgekit.debugging.pairing import Pair, Pairing
from edgekit.debugging.sums import Seen, Sums, decibels

_KERNELS_DB = 100.0
_ROUNDING_STEPS = 2.0
_EXPLAINED_DB, _DEFECT_DB = 6.0, 10.0
_NEAR_DB, _GOOD_DB, _CUT_OFF_DB = 50.0, 30.0, 10.0
# Outputs below this are of no use, whatever the reason: the error is a third of their size.
_USELESS_DB = 10.0
# Half floats have 11 bits, and sums of them lose some.
_HALF_DB = 60.0
# Nothing is known about the grid: four bits leave about this much.
_UNKNOWN_DB = 20.0
# Products that cancel leave a smaller signal, and all of the noise.
_CANCELLATION = 4.0
# Kernels of one model differ by this much more on other samples.
_REPEAT_DB = 6.0


class Verdict(StrEnum):
    """What a difference means, of one operator or of a whole model."""

    IDENTICAL = "identical"
    ROUNDING = "rounding"
    DEGRADES = "degrades"
    DEFECT = "defect"


@dataclass(frozen=True)
class TensorReport:
    """A pair of tensors, what was seen of it, and what its operator's own error means."""

    pair: Pair
    seen: Seen
    expected_db: float
    verdict: Verdict

    @property
    def step(self) -> float | None:
        """The unit in which differences are counted: B's scale, or A's where only A is quantized."""
        quantization = self.pair.b.quantization or self.pair.a.quantization
        return quantization.scales[0] if quantization else None

    @property
    def own_db(self) -> float:
        """The SNR of the operator alone, what it cuts off included."""
        lost = self.seen.own.noise_share + self.seen.clipping.noise_share
        return decibels(1.0, lost)

    @property
    def is_cut_off(self) -> bool:
        """Whether it is a defect for what lies beyond its range, and not for what its operator computes."""
        return not _is_defect(self.seen.own.snr_db, self.expected_db)

    @property
    def is_beyond(self) -> bool:
        """Whether the tensor differs by more than A's own kernels do, and by more than two steps of one grid."""
        if self._within_steps(self.seen.whole.largest):
            return False
        return self.seen.whole.snr_db < min(_KERNELS_DB, self.seen.repeat.snr_db - _REPEAT_DB)

    def _within_steps(self, difference: float) -> bool:
        return _same_grid(self.pair) and difference <= _steps(self.pair)

    def describe(self) -> dict[str, Any]:
        """The tensor as it stands in JSON documents; infinite SNRs become null."""
        seen, step = self.seen, self.step
        return {
            "name": self.pair.b.name,
            "reference": self.pair.a.name,
            "op": self.pair.b.kind,
            "paired_by": self.pair.how,
            "shape": list(self.pair.b.shape),
            "dtype": self.pair.b.dtype,
            "scale": step if self.pair.b.quantization else None,
            "snr_db": seen.whole.snr_db,
            "cosine": seen.whole.cosine,
            "max_abs_difference": seen.whole.largest,
            "max_steps": seen.whole.largest / step if step else None,
            "saturated_share": seen.saturated_share if self.pair.b.quantization else None,
            "own_snr_db": self.own_db,
            "own_max_steps": seen.own.largest / step if step else None,
            "expected_snr_db": self.expected_db,
            "repeat_snr_db": seen.repeat.snr_db,
            "verdict": self.verdict.value,
        }


def judged(
    pairing: Pairing, seen: Mapping[str, Seen], alone: Mapping[str, Sums], hidden: Sequence[Hidden]
) -> tuple[TensorReport, ...]:
    """Every pair with its verdict, by the rules above.

    Args:
        pairing: The pairs.
        seen: What was seen of each, by the key of B's tensor.
        alone: Sums over B's tensors without a partner.
        hidden: B's tensors that cannot be seen.
    """
    unpaired = {value.key: value for value in pairing.only_b}
    unpaired |= {item.value.key: item.value for item in hidden if item.value is not None}
    reports = []
    for pair in pairing.pairs:
        found = seen[pair.b.key]
        noise = _expected_noise(pair, found)
        for value in _between(pair, unpaired):
            sums = alone.get(value.key, Sums())
            if value.quantization is not None and sums.signal > 0:
                step = value.quantization.scales[0]
                noise += found.own.signal * step * step / 12 * sums.count / sums.signal
            noise += found.own.signal * _estimated(value)
        reports.append(_report(pair, found, noise))
    return tuple(reports)


def overall(reports: Sequence[TensorReport], outputs: Sequence[str]) -> Verdict:
    """The verdict on B as a whole.

    Args:
        reports: Those of all tensors.
        outputs: The keys of B's outputs.
    """
    verdicts = {report.verdict for report in reports}
    if Verdict.DEFECT in verdicts:
        return Verdict.DEFECT
    if all(report.seen.whole.noise == 0 for report in reports):
        return Verdict.IDENTICAL
    ends = [report.seen.whole.snr_db for report in reports if report.pair.b.key in outputs]
    useless = min(ends, default=math.inf) < _USELESS_DB
    return Verdict.DEGRADES if useless or Verdict.DEGRADES in verdicts else Verdict.ROUNDING


def _report(pair: Pair, seen: Seen, expected: float) -> TensorReport:
    signal = seen.own.signal
    expected_db, own_db, cut_db = decibels(signal, expected), seen.own.snr_db, seen.clipping.snr_db
    if seen.whole.not_finite:
        verdict = Verdict.DEFECT
    elif seen.own.noise == 0 and seen.clipping.noise == 0:
        verdict = Verdict.IDENTICAL
    elif _same_grid(pair) and max(seen.own.largest, seen.clipping.largest) <= _steps(pair):
        verdict = Verdict.ROUNDING
    elif _is_defect(own_db, expected_db) or cut_db < _CUT_OFF_DB:
        verdict = Verdict.DEFECT
    elif (own_db > expected_db - _EXPLAINED_DB or own_db > _NEAR_DB) and cut_db >= _GOOD_DB:
        verdict = Verdict.ROUNDING
    else:
        verdict = Verdict.DEGRADES
    return TensorReport(pair, seen, expected_db, verdict)


def _is_defect(own_db: float, expected_db: float) -> bool:
    return own_db <= expected_db - _DEFECT_DB and own_db < _GOOD_DB


def _expected_noise(pair: Pair, seen: Seen) -> float:
    """The power of the error that a correct operator has, over all samples."""
    steps = [q.scales[0] for q in (pair.a.quantization, pair.b.quantization) if q is not None]
    rounding = sum(step * step / 12 for step in steps) * (seen.rounded_count or seen.own.count)
    weights = seen.weights.noise if seen.has_rounded_weights else seen.own.signal * _estimated(pair.b)
    kernels = _HALF_DB if pair.b.dtype == "float16" else _KERNELS_DB
    return rounding + weights + seen.hybrid_noise + seen.own.signal * 10 ** (-kernels / 10)


def _estimated(value: Value) -> float:
    """The share of the signal that rounded weights make noise, where A's own weights cannot be rounded instead."""
    unknown = 10 ** (-_UNKNOWN_DB / 10) if value.has_unknown_grid else 0.0
    return unknown + _CANCELLATION * sum(
        weight.noise for weight in value.weights.values() if weight.is_matrix
    )


def _between(pair: Pair, unpaired: Mapping[str, Value]) -> Iterator[Value]:
    """B's tensors without a partner between a pair and those before it."""
    waiting, found = list(pair.b.inputs), set()
    while waiting:
        key = waiting.pop()
        if key in unpaired and key not in found:
            found.add(key)
            waiting += unpaired[key].inputs
            yield unpaired[key]


def _same_grid(pair: Pair) -> bool:
    return pair.b.quantization is not None and pair.a.quantization == pair.b.quantization


def _steps(pair: Pair) -> float:
    """Two steps, and a little for the arithmetic in 32 bits."""
    return (_ROUNDING_STEPS + 1e-3) * pair.b.quantization.scales[0] if pair.b.quantization else 0.0
