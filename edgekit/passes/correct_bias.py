"""Take out of a quantized ``.tflite`` the mean shift that rounding its weights caused.

Rounding the weights of a layer moves the mean of each output channel by
``sum_taps (w - w_rounded) * mean(x)``, and the next layers add their own shifts to it. On a public
depthwise-separable network that shift is most of what int8 costs: 4.2 points, of which 0.5 are left when the
biases take it back. This is the empirical bias correction of Nagel et al., "Data-Free Quantization through
Weight Equalization and Bias Correction" (ICCV 2019, section 4.2), computed from the inputs' means, so that
activation functions behind a layer do not matter; it needs samples, but no labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edgekit import flatbuffer
from edgekit.passes._layers import Layer, Means, Probe, paired_layers, set_bias, snr_db
from edgekit.tensor import Array

# Round 0 takes the float model's means; each further one measures those of the corrected model, in which one
# more layer sees inputs whose own shift is gone.
_ROUNDS = 3
# A smaller gain in SNR on some dozens of samples may be chance.
_WORTH_DB = 0.5
# Where outputs are this near, a round that gains less than a tenth of a dB is the last one. Where they are far,
# the first round may gain nothing yet: layers behind others see inputs that are still shifted.
_NEAR_DB, _STEP_DB = 20.0, 0.1


@dataclass(frozen=True)
class Correction:
    """The corrected file and the SNR in dB of its worst output, before and after, on samples held back."""

    model: bytes
    snr_before_db: float
    snr_after_db: float


def correct_bias(
    quantized: bytes, original: bytes, *, calibration: Mapping[str, Array], held_back: Mapping[str, Array]
) -> Correction:
    """Correct the biases of convolutions and fully connected layers.

    Args:
        quantized: A file with integer weights and activations, made from ``original`` operator by operator.
        original: The float file; both have a signature with the same names.
        calibration: Samples that the means are taken from, by input name: ``{"x": (256, 32, 32, 3)}``.
        held_back: Other samples; a correction that brings their outputs less than 0.5 dB nearer is not kept.

    Returns:
        The nearest of the files that were tried, ``quantized`` itself included.
    """
    layers = paired_layers(flatbuffer.read(original), flatbuffer.read(quantized))
    exact = list(Probe(original).outputs(held_back))
    before = best_snr = snr_db(Probe(quantized), held_back, exact)
    best = current = quantized
    if layers:
        wanted = Probe(original).means(layers, calibration, side="float_input")
        means = wanted
        for round_index in range(_ROUNDS):
            if round_index:
                means = Probe(current).means(layers, calibration, side="integer_input")
            current = flatbuffer.rewrite(current, lambda tree, seen=means: _apply(tree, layers, wanted, seen))  # type: ignore[misc]
            snr = snr_db(Probe(current), held_back, exact)
            if best_snr >= _NEAR_DB and snr < best_snr + _STEP_DB:
                break
            if snr > best_snr:
                best, best_snr = current, snr
    if best_snr < before + _WORTH_DB:
        return Correction(quantized, before, before)
    return Correction(best, before, best_snr)


def _apply(tree: flatbuffer.Model, layers: list[Layer], wanted: Means, seen: Means) -> None:
    """Set every bias so that the mean output over what the layer sees is that of the float layer."""
    for layer in layers:
        shift = layer.mean_output(layer.weights, wanted[layer.position]) - layer.mean_output(
            layer.rounded, seen[layer.position]
        )
        set_bias(tree, layer, layer.bias + shift)
