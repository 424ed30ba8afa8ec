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

# A smaller gain in SNR on some dozens of samples may be chance.
WORTH_DB = 0.5


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
) -> Correction:
    """Correct the biases of convolutions and fully connected layers.

    Args:
        twins: The float file, and the one with integer weights and activations that was made from it.
        calibration: Samples that the means are taken from, by input name: ``{"x": (256, 32, 32, 3)}``.
        held_back: Other samples; a correction that brings their outputs less than 0.5 dB nearer is not kept.
        known: What the float file gives on both, where that is known already.

    Returns:
        The corrected file, or the quantized file itself.
    """
    known = known or FloatSide.of(twins, calibration, held_back)
    before = snr_db(twins.probe, held_back, known.outputs)
    corrected = with_corrected_biases(twins, known.means)
    after = snr_db(corrected.probe, held_back, known.outputs)
    if after < before + WORTH_DB:
        return Correction(twins.quantized, before, before)
    return Correction(corrected.quantized, before, after)


def with_corrected_biases(twins: Twins, means: Means) -> Twins:
    """The twins where the biases of all layers are corrected at once; ``means`` are those of the float file.

    Every layer is taken to read what it should, because the biases before it are corrected too. With means measured in
    the file so corrected, another round would take the same shift out twice, in one layer and again behind it.
    """
    return twins.changed(
        {layer.position: Change(bias=corrected_bias(layer, means)) for layer in twins.layers}
    )


def corrected_bias(layer: Layer, means: Means) -> Floats:
    """The bias by which the mean output is that of the float layer, where what it reads has these means."""
    return layer.bias + layer.mean_output(layer.weights - layer.rounded, means[layer.position])
