"""LiteRT's GPU accelerator (ML Drift, over WebGPU on PCs): it takes one group of neighbouring operators of a model."""

from collections.abc import Collection, Sequence

from edgekit.accelerators import (
    Objection,
    Place,
    Rule,
    Surroundings,
    Verdict,
    by_rules,
    groups,
    stored_inputs,
)
from edgekit.operators import Operator
from edgekit.target import Target

SOURCE = "https://ai.google.dev/edge/litert/next/gpu"
DATE = "2026-11-29"

# LiteRT 2.3.0's accelerator on SwiftShader, tried with files of one operator each.
_MOST_AXES = 4
_FLOAT = ("float32", "int8", "uint8")
_WEIGHTED = (*_FLOAT, "dynamic_wi8", "dynamic_wi4", "wi4_ai8")
# These do not look at the type of their values.
_ANY = (*_FLOAT, "int16x8", "int32")
_STATEFUL = frozenset({"UNIDIRECTIONAL_SEQUENCE_LSTM", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})
_SIZED = frozenset({"STRIDED_SLICE", "SLICE", "RESHAPE", "PAD", "PADV2", "TILE", "RESIZE_BILINEAR"})
_REFUSED = "the GPU refuses the whole model"


def judge(operators: Sequence[Operator], _target: Target) -> list[Verdict]:
    """Where each operator runs; see ``Accelerator``."""
    verdicts = by_rules(RULES, operators, "LiteRT's GPU accelerator", _ADVICE)
    if any(verdict.place is not Place.ACCELERATED for verdict in verdicts):
        beside = Verdict(Place.CPU, "what widens stored weights is taken with a whole model alone")
        verdicts = [
            beside if operator.kind == "DEQUANTIZE" and operator.inputs[0].is_constant else verdict
            for operator, verdict in zip(operators, verdicts, strict=True)
        ]
    found = groups(operators, [verdict.place is Place.ACCELERATED for verdict in verdicts])
    taken = max(found, key=len, default=set())
    advice = "Change the operators between them that stay on the CPU."
    apart = Verdict(Place.CPU, "it lies outside of the one group of operators that the GPU takes", advice)
    return [
        _refused(operators, position, taken)
        or (apart if verdict.place is Place.ACCELERATED and position not in taken else verdict)
        for position, verdict in enumerate(verdicts)
    ]


def _refused(operators: Sequence[Operator], position: int, taken: Collection[int]) -> Verdict | None:
    """What makes the accelerator give up on the file, instead of leaving the operator to the CPU."""
    operator = operators[position]
    if operator.kind in _STATEFUL:
        return Verdict(Place.UNSUPPORTED, f"{_REFUSED}: it keeps a state", "Unroll it when exporting.")
    if operator.kind in _SIZED and any(not o.is_constant for o in operator.inputs[1:]):
        advice = "Store the sizes as constants."
        return Verdict(Place.UNSUPPORTED, f"{_REFUSED}: sizes are computed while the model runs", advice)
    if operator.kind != "FULLY_CONNECTED" or position not in taken:
        return None
    weights = operator.inputs[1]
    widened = any(
        operators[other].kind == "DEQUANTIZE"
        and operators[other].inputs[0].dtype in {"int8", "int4"}
        and weights in operators[other].outputs
        for other in taken
    )
    if not widened:
        return None
    advice = "Quantize it with -r dynamic or -r int8, which store the weights without DEQUANTIZE."
    return Verdict(Place.UNSUPPORTED, f"{_REFUSED}: DEQUANTIZE widens its integer weights", advice)


def _few_axes(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    ranks = [len(operand.shape) for operand in (*operator.inputs, *operator.outputs)]
    if max(ranks, default=0) <= _MOST_AXES:
        return None
    return Objection(f"a tensor has {max(ranks)} axes, more than {_MOST_AXES}", "Merge axes with a reshape.")


def _plain_slice(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    if operator.options.get("shrinkAxisMask", 0):
        return Objection("it removes an axis", "Slice with sizes of 1, and reshape.")
    steps = operator.inputs[3].values if len(operator.inputs) > 3 else ()
    return Objection("it goes backwards", "Use REVERSE_V2.") if any(step < 0 for step in steps) else None


def _first_version(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    return Objection(f"it is version {operator.version} of the operator") if operator.version > 1 else None


def _listed_places(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    return Objection("its indices have more axes than one") if len(operator.inputs[1].shape) > 1 else None


_ELEMENTWISE = Rule(_ANY, (_few_axes,))
_COMPUTED = Rule(_FLOAT, (_few_axes,))
_BIASED = Rule(_WEIGHTED, (_few_axes, stored_inputs(2)))

RULES = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), _BIASED),
    "TRANSPOSE_CONV": Rule(_WEIGHTED, (_few_axes, stored_inputs(1, 3))),
    "BATCH_MATMUL": Rule(_WEIGHTED, (_few_axes,)),
    **dict.fromkeys(
        ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW"), _ELEMENTWISE
    ),
    **dict.fromkeys(
        ("ATAN2", "FLOOR_DIV", "FLOOR_MOD", "CONCATENATION", "PAD", "PADV2", "MIRROR_PAD"), _ELEMENTWISE
    ),
    **dict.fromkeys(
        ("RESHAPE", "SLICE", "SPLIT", "SPLIT_V", "TRANSPOSE", "TILE", "PACK", "UNPACK"), _ELEMENTWISE
    ),
    **dict.fromkeys(("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"), _ELEMENTWISE),
    **dict.fromkeys(("SELECT", "SELECT_V2", "LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT"), _ELEMENTWISE),
    **dict.fromkeys(
        ("ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LOG", "NEG"), _COMPUTED
    ),
    **dict.fromkeys(
        ("LEAKY_RELU", "PRELU", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND"), _COMPUTED
    ),
    **dict.fromkeys(
        ("LOGISTIC", "RSQRT", "SIGN", "SIN", "SOFTMAX", "SQRT", "SQUARE", "TANH", "CUMSUM"), _COMPUTED
    ),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"), _COMPUTED),
    **dict.fromkeys(
        ("AVERAGE_POOL_2D", "MAX_POOL_2D", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), _COMPUTED
    ),
    **dict.fromkeys(("DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "REVERSE_V2", "ONE_HOT"), _COMPUTED),
    "TOPK_V2": Rule(_FLOAT, (_few_axes, _first_version)),
    "REDUCE_ANY": Rule(("bool",), (_few_axes,)),
    "STRIDED_SLICE": Rule(_ANY, (_few_axes, _plain_slice)),
    "GATHER": Rule(_ANY, (_few_axes, _listed_places)),
    "CAST": Rule(
        ("float32 to int32", "int32 to float32", "float32 to bool", "bool to float32"), (_few_axes,)
    ),
    "QUANTIZE": Rule(("float32 to int8", "float32 to uint8", "int8 to int8", "uint8 to uint8"), (_few_axes,)),
    "DEQUANTIZE": Rule(
        ("int8 to float32", "uint8 to float32", "int4 to float32", "float16 to float32"), (_few_axes,)
    ),
}

_ADVICE = {
    "L2_NORMALIZATION": "Write it out as a product with RSQRT of the sum of squares.",
    "LOG_SOFTMAX": "Take SOFTMAX, or the logits.",
    "BROADCAST_TO": "Let the operator after it broadcast.",
    "SPACE_TO_BATCH_ND": "Use a dilated convolution.",
}
