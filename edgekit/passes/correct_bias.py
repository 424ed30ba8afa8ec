"""Take out of a quantized file the mean shift that rounding its weights caused.

Rounding the weights of a layer moves the mean of each output channel by
``sum_taps (w - w_rounded) * mean(x)``, and the next layers add their own shifts to it. On a public
depthwise-separable network that shift is most of what int8 costs: 4.2 points, of which 0.5 are left when the
biases take it back. This is the empirical bias correction of Nagel et al., "Data-Free Quantization through
Weight Equalization and Bias Correction" (ICCV 2019, section 4.2), computed from the inputs' means, so that
activation functions behind a layer do not matter; it needs samples, but no labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from edgekit.passes._layers import Change, Floats, Layer, Means, Twins, snr_db
from edgekit.tensor import Array

_ROUNDS = 3
# A smaller gain in SNR on some dozens of samples may be chance.
WORTH_DB = 0.5
# Where outputs are this near, a round that gains less than a tenth of a dB is the last one. Where they are far,
# the first round may gain nothing yet: layers behind others see inputs that are still shifted.
_NEAR_DB, _STEP_DB = 20.0, 0.1


@dataclass(frozen=True)
class Correction:
    """The corrected file and the SNR in dB of its worst output, before and after, on samples held back."""

    model: bytes
    snr_before_db: float
    snr_after_db: float


@dataclass(frozen=True)
class FloatSide:
    """What the float file gives on the samples held back, and the means of what its layers read in calibration."""

    outputs: list[dict[str, Array]]
    means: Means

    @classmethod
    def of(cls, twins: Twins, calibration: Mapping[str, Array], held_back: Mapping[str, Array]) -> Self:
        """Run the float file."""
        probe = twins.float_probe
        return cls(list(probe.outputs(held_back)), probe.means(twins.layers, calibration))


def correct_bias(
    twins: Twins,
    *,
    calibration: Mapping[str, Array],
    held_back: Mapping[str, Array],
    known: FloatSide | None = None,
    rounds: int = _ROUNDS,
) -> Correction:
    """Correct the biases of convolutions and fully connected layers.

    Args:
        twins: The float file, and the one with integer weights and activations that was made from it.
        calibration: Samples that the means are taken from, by input name: ``{"x": (256, 32, 32, 3)}``.
        held_back: Other samples; a correction that brings their outputs less than 0.5 dB nearer is not kept.
        known: What the float file gives on both, where that is known already.
        rounds: Round 0 takes the float model's means; each further one measures those of the corrected model, in
            which one more layer sees inputs whose own shift is gone.

    Returns:
        The nearest of the files that were tried, the quantized file itself included.
    """
    layers = twins.layers
    known = known or FloatSide.of(twins, calibration, held_back)
    exact, wanted = known.outputs, known.means
    before = best_snr = snr_db(twins.probe, held_back, exact)
    best = current = twins
    if layers:
        means = wanted
        for round_index in range(rounds):
            if round_index:
                means = current.probe.means(layers, calibration)
            current = twins.changed(
                {layer.position: Change(bias=corrected_bias(layer, wanted, means)) for layer in layers}
            )
            snr = snr_db(current.probe, held_back, exact)
            if best_snr >= _NEAR_DB and snr < best_snr + _STEP_DB:
                break
            if snr > best_snr:
                best, best_snr = current, snr
    if best_snr < before + WORTH_DB:
        return Correction(twins.quantized, before, before)
    return Correction(best.quantized, before, best_snr)


def corrected_bias(layer: Layer, wanted: Means, seen: Means) -> Floats:
    """The bias by which the mean output over what the layer sees is that of the float layer."""
    return (
        layer.bias
        + layer.mean_output(layer.weights, wanted[layer.position])
        - layer.mean_output(layer.rounded, seen[layer.position])
    )
