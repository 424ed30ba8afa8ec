"""LiteRT's Core ML delegate on iPhones and iPads: it takes groups of two and more operators, in float files alone.

The rules are those of its source in TensorFlow, tensorflow/lite/delegates/coreml, as it was in November 2026: no test
of edgekit ever ran it. Which of CPU, GPU and Neural Engine computes what it takes is for Core ML to choose. What
coremltools makes of a model's source is another matter: `edgekit compile` tells.
"""

from collections.abc import Collection, Sequence

from edgekit.accelerators import (
    Check,
    Objection,
    Place,
    Rule,
    Surroundings,
    Verdict,
    activation_of,
    at_most_rank,
    by_rules,
    fused_activation,
    groups,
    stored_inputs,
)
from edgekit.operators import Operator
from edgekit.target import Target

SOURCE = "https://ai.google.dev/edge/lite/ios/coreml"
DATE = "2026-11-29"

_FEWEST_TOGETHER = 2
_MOST_KERNEL = 16384
_REFLECT = 0
_HEIGHT_AND_WIDTH = {1, 2}


def judge(operators: Sequence[Operator], _target: Target) -> list[Verdict]:
    """Where each operator runs; see ``Accelerator``."""
    verdicts = by_rules(RULES, operators, "LiteRT's Core ML delegate", _ADVICE)
    found = groups(operators, [verdict.place is Place.ACCELERATED for verdict in verdicts])
    alone = {position for group in found if _is_small(operators, group) for position in group}
    advice = "Change the operators around it that stay on the CPU."
    left = Verdict(Place.CPU, "it stands alone, and the delegate takes two neighbours or more", advice)
    return [left if position in alone else verdict for position, verdict in enumerate(verdicts)]


def _is_small(operators: Sequence[Operator], group: Collection[int]) -> bool:
    """Whether so few operators are together; what widens float16 weights is not counted."""
    return sum(operators[position].kind != "DEQUANTIZE" for position in group) < _FEWEST_TOGETHER


def _at_most_version(most: int) -> Check:
    def check(operator: Operator, _surroundings: Surroundings) -> Objection | None:
        if operator.version <= most:
            return None
        return Objection(f"it is version {operator.version} of the operator, and at most {most} is taken")

    return check


def _broadcasts(operator: Operator, surroundings: Surroundings) -> Objection | None:
    """Sizes may differ where one side has height and width of 1, or channels of 1; batches where it is one constant."""
    (first, second) = ((*([1] * (4 - len(o.shape))), *o.shape) for o in operator.inputs[:2])
    constants = (o for o in operator.inputs[:2] if surroundings.stored(operator, o) is not None)
    is_scalar = any(all(size == 1 for size in o.shape) for o in constants)
    batch = first[0] == second[0] or is_scalar
    image = first[1:3] == second[1:3] or (1, 1) in (first[1:3], second[1:3])
    channels = first[3] == second[3] or 1 in (first[3], second[3])
    if batch and image and channels:
        return None
    return Objection("its inputs differ in size in a way that Core ML does not spread", "Make them alike.")


def _by_channel(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    rank = len(operator.inputs[0].shape)
    if rank in (3, 4) and operator.options.get("axis", 0) in (-1, rank - 1):
        return None
    return Objection("it does not join channels, of three or four axes", "Concatenate along the last axis.")


def _plain_kernel(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    if activation_of(operator) == "SIGN_BIT":
        return Objection("the activation SIGN_BIT is part of it", "Use RELU or RELU6, or none.")
    sizes = operator.inputs[1].shape[1:3] if operator.kind != "FULLY_CONNECTED" else ()
    large = any((size or 0) > _MOST_KERNEL for size in sizes)
    return Objection(f"its kernel is larger than {_MOST_KERNEL}") if large else None


def _one_sample(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    if operator.options.get("weightsFormat", 0):
        return Objection("its weights are shuffled", "Convert the model again.")
    if all(size == 1 for size in operator.inputs[0].shape[:-1]):
        return None
    return Objection("it works on more than one row", "Use a batch of 1, or a convolution of 1x1.")


def _pads_images(operator: Operator, surroundings: Surroundings) -> Objection | None:
    if operator.kind == "MIRROR_PAD" and operator.options.get("mode", _REFLECT) != _REFLECT:
        return Objection("it mirrors the edge too", "Use the mode REFLECT.")
    amounts = surroundings.stored(operator, operator.inputs[1])
    if amounts is None:
        return Objection("how much it pads is computed while the model runs", "Store it as a constant.")
    if len(amounts.values) != 8 or any((*amounts.values[:2], *amounts.values[6:])):
        return Objection("it pads more than height and width of four axes", "Pad images alone.")
    return None


def _over_the_image(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    shape = operator.inputs[0].shape
    if not operator.options.get("keepDims", False):
        return Objection("it drops the axes that it averages over", "Keep them: keepdims=True.")
    # With one of the two axes the delegate takes it, and averages over both.
    if len(shape) != 4 or {axis % 4 for axis in operator.inputs[1].values} != _HEIGHT_AND_WIDTH:
        return Objection("it averages over other axes than height and width", "Use global average pooling.")
    return None


def _plain_softmax(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    return None if operator.options.get("beta", 1.0) == 1.0 else Objection("its beta is not 1")


def _old_core_ml(_operator: Operator, _surroundings: Surroundings) -> Objection | None:
    advice = "Set coreml_version to 2 in the delegate's options."
    return Objection("the delegate leaves it where it uses Core ML 3, as it does by default", advice)


def _widens_weights(operator: Operator, surroundings: Surroundings) -> Objection | None:
    stored = surroundings.stored(operator, operator.inputs[0])
    return None if stored is not None else Objection("it widens what is computed while the model runs")


def _rule(*checks: Check, version: int = 1) -> Rule:
    return Rule(("float32",), (_at_most_version(version), at_most_rank(4), *checks))


_PLAIN = _rule()

RULES = {
    **dict.fromkeys(("ADD", "MUL"), _rule(_broadcasts)),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _rule(fused_activation())),
    **dict.fromkeys(("HARD_SWISH", "LOGISTIC", "RELU", "RELU6", "RELU_N1_TO_1", "TANH"), _PLAIN),
    **dict.fromkeys(("MIRROR_PAD", "PAD", "PADV2"), _rule(_pads_images)),
    "CONCATENATION": _rule(fused_activation(), _by_channel),
    "CONV_2D": _rule(stored_inputs(1, 2), _plain_kernel),
    "DEPTHWISE_CONV_2D": _rule(stored_inputs(1, 2), _plain_kernel, version=2),
    "FULLY_CONNECTED": _rule(stored_inputs(1, 2), _plain_kernel, _one_sample, version=6),
    "MEAN": _rule(_over_the_image),
    "RESHAPE": _rule(_old_core_ml),
    "RESIZE_BILINEAR": _rule(stored_inputs(1)),
    "SOFTMAX": _rule(_plain_softmax),
    "TRANSPOSE_CONV": _rule(stored_inputs(0, 1)),
    "DEQUANTIZE": Rule(("float16 to float32",), (_widens_weights,)),
}

_ADVICE = {
    "SUB": "Write it as ADD of a negated constant.",
    "GELU": "Use HARD_SWISH or RELU.",
}
