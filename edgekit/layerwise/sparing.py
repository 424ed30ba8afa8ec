"""Which layers to spare: chosen by the noise that adds up, and each choice measured as a whole."""

from collections.abc import Collection, Mapping, Sequence

from edgekit.layerwise.measuring import Outputs
from edgekit.layerwise.mixing import mixed_noise, spared, tensor_factors, weights_factor
from edgekit.layerwise.sensitivity import LayerSensitivity, Spared, decibels, with_rules
from edgekit.layerwise.subject import Subject
from edgekit.passes.correct_bias import WORTH_DB
from edgekit.recipe import Precision

# Measured and predicted SNR differ by less, so that nothing needs to be measured before.
_NEAR_DB = 6.0


def spare(
    subject: Subject,
    outputs: Outputs,
    layers: Sequence[LayerSensitivity],
    precision: Precision,
    *,
    reach_db: float | None = None,
    count: int | None = None,
) -> Spared:
    """Spare the layers that help most, until the SNR is high enough or their number is reached.

    Args:
        subject: The model, and what its quantization changes.
        outputs: The float model's outputs.
        layers: All layers.
        precision: What the spared get instead.
        reach_db: The SNR of the worst output to reach; it is measured, on the float file with the rest rounded.
        count: At most so many.

    Returns:
        The layers; all that help where the SNR cannot be reached.

    Raises:
        UsageError: A layer has no name, so that no recipe can speak of it.
    """
    chosen: list[LayerSensitivity] = []
    order = spared(layers, precision, count=count)
    while True:
        kept = {layer.place: precision for layer in chosen}
        near = reach_db is None or decibels(mixed_noise(layers, kept)) >= reach_db - _NEAR_DB
        reached = reach_db is not None and near and measured_db(subject, outputs, layers, kept) >= reach_db
        following = None if reached else next(order, None)
        if following is None:
            break
        chosen.append(following)
    recipe = with_rules(subject.recipe, chosen, precision, layers)
    return Spared(tuple(chosen), precision, measured_db(subject, outputs, layers, kept), recipe, reach_db)


def settled(subject: Subject, outputs: Outputs) -> tuple[Subject, float]:
    """The model with its biases corrected where that brings the outputs nearer, and the SNR with all layers rounded.

    The rule is that of ``quantize``, except that each layer takes back what its own weights do, and not what comes from
    the layers before it too.
    """
    ones = [1.0] * len(subject.places)
    plain = decibels(outputs.noise(subject.mixed(ones, ones)))
    if not subject.biases:
        return subject, plain
    other = subject.corrected()
    corrected = decibels(outputs.noise(other.mixed(ones, ones)))
    return (other, corrected) if corrected >= plain + WORTH_DB else (subject, plain)


def measured_db(
    subject: Subject, outputs: Outputs, layers: Collection[LayerSensitivity], kept: Mapping[int, Precision]
) -> float:
    """The SNR of the worst output with everything rounded but the layers that are spared."""
    tensors = tensor_factors(layers, kept)
    weights = {layer.place: weights_factor(layer, kept.get(layer.place)) for layer in layers}
    places = range(len(subject.places))
    content = subject.mixed([tensors[place] for place in places], [weights[place] for place in places])
    return decibels(outputs.noise(content))
