"""Arm's Ethos-U55, U65 and U85, as Vela 5.2 places operators: what it leaves runs on the Cortex-M or -A beside them."""

import math
from collections.abc import Sequence

from edgekit.accelerators import (
    Check,
    Objection,
    Place,
    Rule,
    Surroundings,
    Verdict,
    by_rules,
    stored_inputs,
)
from edgekit.operators import Operand, Operator
from edgekit.target import Target

SOURCE = "https://gitlab.arm.com/artificial-intelligence/ethos-u/ethos-u-vela/-/blob/5.2.0/SUPPORTED_OPS.md"
DATE = "2026-11-29"

_INT8 = ("int8", "uint8")
_INTEGERS = (*_INT8, "int16x8")
_VALID = 1
_MOST_STRIDE = 3
_MOST_WINDOW = 256
_MOST_PADDED_WINDOW = 8
_MOST_CLASSES = 127
_MOST_SUMMED = 4096


def judge(operators: Sequence[Operator], target: Target) -> list[Verdict]:
    """Where each operator runs; see ``Accelerator``."""
    is_u85 = target.compiler.get("accelerator_config", "").startswith("ethos-u85")
    placed = by_rules(U85_RULES if is_u85 else RULES, operators, target.name, _ADVICE)
    return [
        _generic(operator) or verdict if verdict.place is Place.ACCELERATED else _refused(operator) or verdict
        for operator, verdict in zip(operators, placed, strict=True)
    ]


def _refused(operator: Operator) -> Verdict | None:
    """What Vela gives up on, instead of leaving it to the CPU."""
    if any(operand.dtype in {"int4", "int2"} for operand in operator.weights):
        reason = "Vela crashes on weights of 4 bits or fewer"
        return Verdict(Place.UNSUPPORTED, reason, "Quantize it with -r int8.")
    if operator.kind != "UNIDIRECTIONAL_SEQUENCE_LSTM":
        return None
    reason = "Vela refuses a file with an LSTM that is not in integers throughout"
    return Verdict(Place.UNSUPPORTED, reason, "Unroll it when exporting, which gives matrix products.")


def _generic(operator: Operator) -> Verdict | None:
    """What Vela asks of every operator's tensors."""
    activations = operator.activations
    if any(axis > 0 for operand in activations for axis in operand.free_axes):
        return Verdict(Place.CPU, "a size other than the batch is free", "Fix it when exporting.")
    if any(not operand.shape for operand in activations):
        return Verdict(Place.CPU, "a tensor has no axes", "Give it one axis of size 1.")
    return None


def _stride(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    options = operator.options
    largest = max(options.get("strideH", 1), options.get("strideW", 1))
    is_dilated = max(options.get("dilationHFactor", 1), options.get("dilationWFactor", 1)) > 1
    if largest <= _MOST_STRIDE or (options.get("padding") == _VALID and not is_dilated):
        return None
    return Objection(
        f"its stride is {largest}, more than 3, with padding or dilation", "Use strides up to 3."
    )


def _short_stride(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    largest = max(operator.options.get("strideH", 1), operator.options.get("strideW", 1))
    return Objection(f"its stride is {largest}, more than 3", "Use strides up to 3.") if largest > 3 else None


def _small_bias(bits: int) -> Check:
    def check(operator: Operator, _surroundings: Surroundings) -> Objection | None:
        if all(operand.largest < 1 << bits for operand in operator.inputs[2:]):
            return None
        advice = (
            "A channel whose weights are all zero has a scale near 0: remove it, or quantize with -r int8."
        )
        return Objection(f"its 64-bit bias has numbers of 2^{bits} and more", advice)

    return check


def _window(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    height, width = (operator.options.get(key, 1) for key in ("filterHeight", "filterWidth"))
    is_padded = operator.kind == "AVERAGE_POOL_2D" and operator.options.get("padding") != _VALID
    too_large = (
        max(height, width) > _MOST_PADDED_WINDOW
        if is_padded
        else height > _MOST_WINDOW or height * width > _MOST_WINDOW**2
    )
    return Objection("its window is too large", "Pool in two steps, or with MEAN.") if too_large else None


def _mean(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    image, axes = _image(operator.inputs[0]), _image_axes(operator)
    if not operator.inputs[1].is_constant:
        return Objection("its axes are computed while the model runs", "Store them as constants.")
    if image[0] != 1 and 0 not in axes:
        return Objection(f"the batch is {image[0]}, and not 1", "Fix the batch to 1 when exporting.")
    if 3 in axes and 1 not in image[1:]:
        return Objection(
            "it sums over channels of more than one row and column", "Pool height and width alone."
        )
    if any(image[axis] >= _MOST_SUMMED for axis in axes):
        return Objection("it sums over 4096 values or more along an axis", "Pool in two steps.")
    return None


def _image(operand: Operand) -> tuple[int, ...]:
    """A shape with four axes, as Vela sees it: batch, height, width, channels."""
    shape = tuple(size or 1 for size in operand.shape)
    return (1,) * (4 - len(shape)) + shape if len(shape) < 4 else shape


def _image_axes(operator: Operator) -> set[int]:
    rank = len(operator.inputs[0].shape)
    return {axis % rank + max(0, 4 - rank) for axis in operator.inputs[1].values} if rank else set()


def _resize(scales: tuple[int, ...], half_pixel_scales: tuple[int, ...]) -> Check:
    def check(operator: Operator, _surroundings: Surroundings) -> Objection | None:
        before, after = (_image(side[0])[1:3] for side in (operator.inputs, operator.outputs))
        if before in {after, (1, 1)}:
            return None
        less = 1 if operator.options.get("alignCorners") else 0
        factors = {
            (large - less) / (small - less) if small > less else math.inf
            for small, large in zip(before, after, strict=True)
            if (small, large) != (1, 1)
        }
        allowed = half_pixel_scales if operator.options.get("halfPixelCenters") else scales
        if len(factors) <= 1 and factors <= set(allowed):
            return None
        listed = ", ".join(f"{scale}x" for scale in allowed)
        return Objection(
            f"it enlarges by another factor than {listed}", f"Resize by {listed} alike in both axes."
        )

    return check


def _same_scales(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    ends = {(o.scales, o.zero_points) for o in (*operator.inputs[:2], *operator.outputs)}
    if len(ends) == 1:
        return None
    return Objection(
        "its inputs and its output have different scales", "Quantize it with one range for all three."
    )


def _slice(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    steps = operator.inputs[3].values if len(operator.inputs) > 3 else ()
    if any(step < 0 for step in steps):
        return Objection("it goes backwards", "Use positive strides.")
    return None


def _classes(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    count = operator.inputs[0].shape[-1] or 1
    axis = operator.inputs[1].values
    if axis and axis[0] not in {-1, len(operator.inputs[0].shape) - 1}:
        return Objection("it does not look along the channels", "Put that axis last.")
    if count > _MOST_CLASSES:
        return Objection(
            f"it has {count} channels, more than {_MOST_CLASSES}", "Take the largest value on the CPU."
        )
    return None


def _gathered(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    if operator.options.get("axis", 0) == operator.options.get("batchDims", 0):
        return None
    return Objection("its axis is not that of the batch", "Gather along the first axis.")


def _layers(bias_bits: int) -> dict[str, Rule]:
    """The rules of layers with weights; the accumulators of the U85 are wider."""
    bias = _small_bias(bias_bits)
    return {
        "CONV_2D": Rule(_INTEGERS, (stored_inputs(1, 2), bias, _stride)),
        "DEPTHWISE_CONV_2D": Rule(_INTEGERS, (stored_inputs(1, 2), bias, _short_stride)),
        "TRANSPOSE_CONV": Rule(_INTEGERS, (stored_inputs(1, 3), bias)),
        "FULLY_CONNECTED": Rule(_INTEGERS, (stored_inputs(2), bias)),
    }


_ANY = Rule(_INTEGERS)
_SIZED = Rule(_INTEGERS, (stored_inputs(1),))

RULES = {
    **_layers(bias_bits=40),
    "BATCH_MATMUL": Rule(("int8",)),
    "AVERAGE_POOL_2D": Rule(_INTEGERS, (_window, _stride)),
    "MAX_POOL_2D": Rule(_INTEGERS, (_window, _stride)),
    "MEAN": Rule(_INTEGERS, (_mean,)),
    "RESIZE_BILINEAR": Rule(_INTEGERS, (_resize((2, 4, 8), (2,)),)),
    "RESIZE_NEAREST_NEIGHBOR": Rule(_INTEGERS, (_resize((2, 4, 8), (2, 4, 8)),)),
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), Rule(_INTEGERS, (_same_scales,))),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD", "TRANSPOSE", "SLICE"), _SIZED),
    "STRIDED_SLICE": Rule(_INTEGERS, (stored_inputs(1, 2, 3), _slice)),
    "ARG_MAX": Rule(_INTEGERS, (_classes,)),
    **dict.fromkeys(("GELU", "ELU"), Rule(_INT8)),
    **dict.fromkeys(("LOG", "RSQRT"), Rule(("int8", "int16x8"))),
    **dict.fromkeys(
        ("ABS", "ADD", "CONCATENATION", "EXP", "EXPAND_DIMS", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC"), _ANY
    ),
    **dict.fromkeys(
        ("MUL", "NEG", "PACK", "PRELU", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RELU_0_TO_1"), _ANY
    ),
    **dict.fromkeys(("RELU_N1_TO_1", "RESHAPE", "SOFTMAX", "SPLIT", "SPLIT_V", "SQUARED_DIFFERENCE"), _ANY),
    **dict.fromkeys(
        ("SQUEEZE", "SUB", "SUM", "TANH", "TILE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNPACK"), _ANY
    ),
    "QUANTIZE": Rule(
        (
            "int8 to int8",
            "uint8 to uint8",
            "int16 to int16",
            "int8 to uint8",
            "uint8 to int8",
            "int16 to int8",
            "int8 to int16",
        )
    ),
}

_COMPARED = (*_INTEGERS, "int32", "bool")
U85_RULES = RULES | {
    **_layers(bias_bits=48),
    **dict.fromkeys(("DIV", "REVERSE_V2"), _ANY),
    **dict.fromkeys(
        ("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL", "SELECT", "SELECT_V2"),
        Rule(_COMPARED),
    ),
    **dict.fromkeys(
        ("LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "REDUCE_ALL", "REDUCE_ANY"), Rule(_COMPARED)
    ),
    "GATHER": Rule(_INTEGERS, (_gathered,)),
    "SCATTER_ND": Rule(_INTEGERS, (stored_inputs(0, 2),)),
}

_ADVICE = {
    "DEQUANTIZE": "Let the outputs be integers: edgekit quantize --io int8.",
    "DIV": "Multiply by the reciprocal where it is a constant.",
    "SQRT": "Use RSQRT and a product.",
    "SPACE_TO_DEPTH": "Use a convolution with a stride.",
    "DEPTH_TO_SPACE": "Use TRANSPOSE_CONV, or resizing.",
    "GATHER": "Use slices where the indices are constants.",
}
