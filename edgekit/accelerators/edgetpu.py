"""Google's Edge TPU: its compiler takes the operators from the inputs on, up to the first that it does not know."""

from collections.abc import Sequence

from edgekit.accelerators import (
    Check,
    Objection,
    Place,
    Rule,
    Surroundings,
    Verdict,
    by_rules,
    fused_activation,
    stored_inputs,
)
from edgekit.operators import Operator
from edgekit.target import Target

SOURCE = "https://coral.ai/docs/edgetpu/models-intro/"
DATE = "2026-11-29"

_TYPES = ("int8", "uint8")
_MOST_AXES = 3


def judge(operators: Sequence[Operator], _target: Target) -> list[Verdict]:
    """Where each operator runs; see ``Accelerator``."""
    verdicts = by_rules(RULES, operators, "the Edge TPU")
    left: set[tuple[int, str]] = set()
    for position, operator in enumerate(operators):
        follows = any((o.index, o.name) in left for o in operator.inputs)
        if follows and verdicts[position].place is Place.ACCELERATED:
            advice = "Change the operator before it that stays on the CPU."
            verdicts[position] = Verdict(
                Place.CPU, "it comes after an operator that stays on the CPU", advice
            )
        # What the compiler leaves at the inputs, such as their quantization, cuts nothing off.
        if verdicts[position].place is not Place.ACCELERATED and not operator.is_conversion:
            left.update((o.index, o.name) for o in operator.outputs)
    return verdicts


def _sized(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    if any(operand.free_axes for operand in operator.activations):
        return Objection("a size is free", "Fix all sizes when exporting.")
    if any(size != 1 for o in operator.activations for size in o.shape[: -_MOST_AXES or None]):
        return Objection("more than the last three axes are longer than 1", "Use a batch of 1.")
    return None


def _axes_without(*axes: int) -> Check:
    """The second input names none of these axes, counted from the front."""

    def check(operator: Operator, _surroundings: Surroundings) -> Objection | None:
        rank = len(operator.inputs[0].shape)
        named = {axis % rank for axis in operator.inputs[1].values} if rank else set()
        return (
            Objection("it works along the batch", "Leave the batch axis alone.")
            if named & set(axes)
            else None
        )

    return check


def _no_axis_removed(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    masks = ("ellipsisMask", "newAxisMask", "shrinkAxisMask")
    if any(operator.options.get(mask, 0) for mask in masks):
        return Objection("it adds or removes an axis", "Slice with sizes of 1, and reshape.")
    return None


def _square_dilation(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    height, width = (operator.options.get(key, 1) for key in ("dilationHFactor", "dilationWFactor"))
    return None if height == width else Objection("its dilation differs between rows and columns")


_PLAIN = Rule(_TYPES, (_sized,))
_UNFUSED = Rule(_TYPES, (_sized, fused_activation()))
_CONVOLUTION = Rule(_TYPES, (_sized, stored_inputs(1, 2), _square_dilation))
_REDUCTION = Rule(_TYPES, (_sized, _axes_without(0)))

RULES = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), _CONVOLUTION),
    "TRANSPOSE_CONV": Rule(_TYPES, (_sized, stored_inputs(1))),
    "FULLY_CONNECTED": Rule(_TYPES, (_sized, stored_inputs(1, 2))),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "CONCATENATION"), _UNFUSED),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _REDUCTION),
    "STRIDED_SLICE": Rule(_TYPES, (_sized, _no_axis_removed)),
    **dict.fromkeys(
        ("ADD", "EXPAND_DIMS", "L2_NORMALIZATION", "LOGISTIC", "MAXIMUM", "MINIMUM", "MUL"), _PLAIN
    ),
    **dict.fromkeys(("PACK", "PAD", "PRELU", "RELU", "RELU6", "RELU_N1_TO_1", "RESHAPE", "RSQRT"), _PLAIN),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SOFTMAX"), _PLAIN),
    **dict.fromkeys(("SPACE_TO_DEPTH", "SPLIT", "SQUARED_DIFFERENCE", "SQUEEZE", "SUB", "TANH"), _PLAIN),
    **dict.fromkeys(("TRANSPOSE", "UNIDIRECTIONAL_SEQUENCE_LSTM"), _PLAIN),
    "QUANTIZE": Rule(("int8 to int8", "uint8 to uint8", "int8 to uint8", "uint8 to int8")),
}
