"""TensorFlow Lite Micro: a microcontroller runs what has a kernel linked into its program, and nothing else."""

from collections.abc import Sequence

from edgekit.accelerators import (
    Objection,
    Place,
    Rule,
    Surroundings,
    Verdict,
    at_most_rank,
    by_rules,
    stored_inputs,
)
from edgekit.operators import Operator
from edgekit.target import Target

SOURCE = "https://github.com/tensorflow/tflite-micro/blob/main/python/tflite_micro/python_ops_resolver.cc"
DATE = "2026-11-29"

_TYPES = ("float32", "int8", "int16x8")

_COMPUTED = """
    ABS ADD ADD_N AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION DEPTH_TO_SPACE DIV ELU FLOOR_DIV FLOOR_MOD
    FULLY_CONNECTED HARD_SWISH L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN
    MINIMUM MUL NEG PRELU REDUCE_MAX REDUCE_MIN RELU RELU6 RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SOFTMAX
    SQUARED_DIFFERENCE SUB SUM SVDF TANH TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM
"""
_REAL = """
    CEIL COS EXP FLOOR LOG ROUND SIN SQRT SQUARE
"""
_MOVED = """
    ASSIGN_VARIABLE BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO CALL_ONCE CAST CUMSUM
    DYNAMIC_UPDATE_SLICE EMBEDDING_LOOKUP EQUAL EXPAND_DIMS FILL GATHER GATHER_ND GREATER GREATER_EQUAL IF LESS
    LESS_EQUAL LOGICAL_AND LOGICAL_NOT LOGICAL_OR MIRROR_PAD NOT_EQUAL PACK PAD PADV2 QUANTIZE READ_VARIABLE RESHAPE
    REVERSE_V2 SELECT_V2 SHAPE SLICE SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQUEEZE
    UNPACK VAR_HANDLE WHILE ZEROS_LIKE TFLite_Detection_PostProcess ethos-u
"""

_MOST_AXES = {"STRIDED_SLICE": 4, "TRANSPOSE": 5}


def _few_axes(operator: Operator, surroundings: Surroundings) -> Objection | None:
    return at_most_rank(_MOST_AXES[operator.kind])(operator, surroundings)


def _short_index(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    if operator.outputs[0].dtype == "int64":
        return Objection("its result has 64 bits", "Ask for int32: tf.argmax(x, output_type=tf.int32).")
    return None


# Tried with files of one operator each in the interpreter that the toolchain tflm installs.
RULES = {
    **dict.fromkeys(_COMPUTED.split(), Rule(_TYPES)),
    **dict.fromkeys(_REAL.split(), Rule(("float32",))),
    **dict.fromkeys(_MOVED.split(), Rule()),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), Rule((*_TYPES, "wi4_ai8"))),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN"), Rule(_TYPES, (_short_index,))),
    "STRIDED_SLICE": Rule(checks=(stored_inputs(1, 2, 3), _few_axes)),
    "TRANSPOSE": Rule(checks=(_few_axes,)),
    "DEQUANTIZE": Rule(("int8 to float32", "uint8 to float32", "int16 to float32")),
}


def judge(operators: Sequence[Operator], _target: Target) -> list[Verdict]:
    """Where each operator runs; see ``Accelerator``."""
    return by_rules(RULES, operators, "TensorFlow Lite Micro", _ADVICE, otherwise=Place.UNSUPPORTED)


_ADVICE = {
    "GELU": "Use HARD_SWISH or RELU.",
    "SELECT": "Convert with a newer TensorFlow, which writes SELECT_V2.",
    "TOPK_V2": "Let the program sort the outputs.",
    "TILE": "Use CONCATENATION.",
}
