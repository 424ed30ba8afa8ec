"""XNNPACK, LiteRT's fast kernels for CPUs; what it leaves runs in LiteRT's built-in kernels."""

from collections.abc import Sequence

from edgekit.accelerators import (
    Check,
    Objection,
    Rule,
    Surroundings,
    Verdict,
    at_most_rank,
    by_rules,
    fused_activation,
    stored_inputs,
)
from edgekit.operators import Operator
from edgekit.target import Target

SOURCE = "https://github.com/google-ai-edge/LiteRT/blob/main/tflite/delegates/xnnpack/README.md"
DATE = "2026-11-29"

# LiteRT 2.3.0's XNNPACK, tried with files of one operator each.
_FLOAT = ("float32",)
_BOTH = ("float32", "int8", "uint8")
_WEIGHTED = (*_BOTH, "dynamic_wi8")
_DENSE = (*_WEIGHTED, "dynamic_wi4", "wi4_ai8")
_ACTIVATIONS = ("RELU", "RELU6", "RELU_N1_TO_1")
# How many axes its tensors have at most: XNN_MAX_TENSOR_DIMS.
_MOST_AXES = 6
_MOST_PARTS = {"CONCATENATION": 5, "SPLIT": 4}


def judge(operators: Sequence[Operator], _target: Target) -> list[Verdict]:
    """Where each operator runs; see ``Accelerator``."""
    return by_rules(RULES, operators, "XNNPACK", _ADVICE)


def _window(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    options = operator.options
    height, width = options.get("filterHeight", 1), options.get("filterWidth", 1)
    strides = options.get("strideH", 1), options.get("strideW", 1)
    if strides[0] > height or strides[1] > width:
        return Objection("its stride is larger than its window", "Use strides up to the window's size.")
    return None


def _ratio(low: float, high: float, *, is_product: bool = False) -> Check:
    """Integer kernels take scales of inputs up to so much smaller or larger than that of the output."""

    def check(operator: Operator, _surroundings: Surroundings) -> Objection | None:
        scales = [operand.scales[0] for operand in operator.inputs[:2] if operand.scales]
        if not scales or not operator.outputs[0].scales:
            return None
        output = operator.outputs[0].scales[0]
        if is_product:
            scales = [scales[0] * scales[-1]]
        if all(low <= scale / output < high for scale in scales):
            return None
        return Objection(
            "the scales of its inputs and of its output are too far apart",
            "Keep the layer in float: --keep-float.",
        )

    return check


def _few_parts(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    parts = max(len(operator.inputs), len(operator.outputs))
    most = _MOST_PARTS[operator.kind]
    return (
        None
        if parts <= most
        else Objection(f"it has {parts} parts, more than {most}", "Take it apart in two.")
    )


def _plain_slice(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    masks = ("ellipsisMask", "newAxisMask", "shrinkAxisMask")
    if any(operator.options.get(mask, 0) for mask in masks):
        return Objection("it adds or removes an axis", "Slice with sizes of 1, and reshape.")
    strides = operator.inputs[3].values if len(operator.inputs) > 3 else ()
    if any(stride != 1 for stride in strides):
        return Objection("it steps over elements", "Use strides of 1.")
    return None


def _plain_softmax(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    return None if operator.options.get("beta", 1.0) == 1.0 else Objection("its beta is not 1")


def _whole_bytes(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    weights = operator.inputs[1]
    if weights.dtype != "int4" or not weights.shape or (weights.shape[-1] or 0) % 2 == 0:
        return None
    advice = "Make that size even, or give the layer 8 bits."
    return Objection("its 4-bit weights have an odd number of inputs", advice)


_WHOLE = at_most_rank(_MOST_AXES)
_FUSED = fused_activation(*_ACTIVATIONS)
_STORED_WEIGHTS = (stored_inputs(1, 2), _FUSED)
_STORED_SIZES = stored_inputs(1)
_ONE_INPUT = Rule(_FLOAT, (_WHOLE,))
_TWO_INPUTS = Rule(_FLOAT, (_WHOLE, _FUSED))
_SUM = Rule(_BOTH, (_WHOLE, _FUSED, _ratio(2**-10, 2**8)))
_REDUCTION = Rule(_BOTH, (_WHOLE, _STORED_SIZES))
_POOL = (_window, _FUSED)

RULES = {
    "CONV_2D": Rule(_WEIGHTED, _STORED_WEIGHTS),
    "DEPTHWISE_CONV_2D": Rule(_WEIGHTED, _STORED_WEIGHTS),
    "FULLY_CONNECTED": Rule(_DENSE, (_FUSED, _whole_bytes)),
    "TRANSPOSE_CONV": Rule(_WEIGHTED, (stored_inputs(0, 1, 3), _FUSED)),
    "BATCH_MATMUL": Rule((*_FLOAT, "dynamic_wi8"), (_WHOLE,)),
    "ADD": _SUM,
    "SUB": _SUM,
    "MUL": Rule(_BOTH, (_WHOLE, _FUSED, _ratio(2**-16, 2**8, is_product=True))),
    **dict.fromkeys(("DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"), _TWO_INPUTS),
    **dict.fromkeys(
        ("ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LOG", "NEG"), _ONE_INPUT
    ),
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIN", "SQRT", "SQUARE"), _ONE_INPUT),
    "PRELU": Rule(_FLOAT, (_WHOLE, stored_inputs(1))),
    "SOFTMAX": Rule(_FLOAT, (_plain_softmax,)),
    **dict.fromkeys(("LEAKY_RELU", "LOGISTIC", "TANH"), Rule(_BOTH, (_WHOLE,))),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _REDUCTION),
    "AVERAGE_POOL_2D": Rule(_FLOAT, _POOL),
    "MAX_POOL_2D": Rule(_BOTH, _POOL),
    "CONCATENATION": Rule(_BOTH, (_WHOLE, _few_parts)),
    "SPLIT": Rule(_BOTH, (_WHOLE, _few_parts)),
    "PAD": Rule(_BOTH, (_WHOLE, _STORED_SIZES)),
    "RESHAPE": Rule(_BOTH, (_WHOLE, _STORED_SIZES)),
    "TRANSPOSE": Rule(_BOTH, (_WHOLE, _STORED_SIZES)),
    "EXPAND_DIMS": Rule(_BOTH, (_WHOLE, _STORED_SIZES)),
    "SLICE": Rule(_BOTH, (_WHOLE, stored_inputs(1, 2))),
    "STRIDED_SLICE": Rule(_BOTH, (_WHOLE, stored_inputs(1, 2, 3), _plain_slice)),
    "RESIZE_BILINEAR": Rule(_BOTH, (_STORED_SIZES,)),
    "DEPTH_TO_SPACE": Rule(_BOTH),
    "SPACE_TO_DEPTH": Rule(_BOTH),
    "QUANTIZE": Rule(("float32 to int8", "float32 to uint8", "int8 to int8", "uint8 to uint8")),
    "DEQUANTIZE": Rule(("int8 to float32", "uint8 to float32", "float16 to float32")),
}

_ADVICE = {
    "PACK": "Use CONCATENATION of reshaped tensors.",
    "UNPACK": "Use SPLIT and reshape.",
    "PADV2": "Pad with zeros.",
    "RESIZE_NEAREST_NEIGHBOR": "Use bilinear resizing.",
    "GATHER": "Use slices where the indices are constants.",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "Unroll it when exporting: its matrix products are then taken.",
}
