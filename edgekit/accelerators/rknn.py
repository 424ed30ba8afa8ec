"""Rockchip's NPU through RKNN-Toolkit2 2.5.0, by its own table of layers for files of single operators.

Its converter refuses a model as a whole; what it takes and the NPU does not is computed on the CPU by its runtime. The
toolkit leaves nearly every ONNX operator to the runtime, also those that are on no list of what that has: edgekit does
not know of them. The lists below were made from some 600 such files, most of them of TensorFlow's converter, and tried
on no others but a dozen public models.
"""

from collections.abc import Sequence

from edgekit.accelerators import (
    Objection,
    Place,
    Rule,
    Surroundings,
    Verdict,
    activation_of,
    by_rules,
    precision,
)
from edgekit.operators import Operator
from edgekit.target import Target

SOURCE = "https://github.com/airockchip/rknn-toolkit2/blob/master/doc/RKNNToolKit2_OP_Support-v2.1.0.md"
DATE = "2026-11-29"

_ON_NPU = """
    Abs Add AveragePool BatchNormalization Clip Concat Constant ConstantOfShape Conv ConvTranspose CumSum
    DepthToSpace DequantizeLinear Div Dropout Einsum Elu Expand Flatten Gather GatherElements Gemm GlobalAveragePool
    GlobalMaxPool GRU Hardmax HardSigmoid HardSwish Identity InstanceNormalization LeakyRelu LpNormalization LSTM
    MatMul Max MaxPool Mul Neg Pad PRelu QuantizeLinear ReduceL2 ReduceMean ReduceSum Relu Reshape Resize
    ReverseSequence Shape Sigmoid Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh ThresholdedRelu Transpose
    Unsqueeze Where

    ABS ADD AVERAGE_POOL_2D BATCH_MATMUL BROADCAST_TO CONCATENATION CONV_2D CONV_3D CUMSUM DEPTH_TO_SPACE
    DEPTHWISE_CONV_2D DEQUANTIZE DIV ELU FULLY_CONNECTED GATHER HARD_SWISH L2_NORMALIZATION LEAKY_RELU LOGISTIC
    MAX_POOL_2D MAXIMUM MEAN MIRROR_PAD MUL NEG PACK PAD PADV2 QUANTIZE RELU RELU6 RESHAPE RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR SLICE SOFTMAX SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM
    TANH TILE TRANSPOSE TRANSPOSE_CONV UNPACK
"""
# On the toolkit's CPU, and on Rockchip's list of what the runtime has.
_ON_CPU = """
    And ArgMax ArgMin Cast Cos Equal Erf Exp Floor Greater GreaterOrEqual LayerNormalization Less LessOrEqual Log
    LogSoftmax LRN MaxRoiPool MaxUnpool MeanVarianceNormalization Min Mish Mod Pow ReduceMax ReduceMin RoiAlign
    ScatterND Size SpaceToDepth Tile

    ARG_MAX CAST COS EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD GREATER GREATER_EQUAL LESS LESS_EQUAL
    LOCAL_RESPONSE_NORMALIZATION LOG LOG_SOFTMAX MINIMUM POW REDUCE_MAX REDUCE_MIN REVERSE_V2 RSQRT SCATTER_ND
    SPACE_TO_BATCH_ND SPACE_TO_DEPTH
"""
# On the toolkit's CPU, and on no list.
_UNLISTED = "RNN CEIL GATHER_ND ONE_HOT REDUCE_PROD ROUND SELECT SELECT_V2 SIGN SIN TOPK_V2"
_OF_DATA = ("NonMaxSuppression", "NonZero", "Unique")
_NEWEST_SET = 19
_NO_LIST = (
    "RKNN-Toolkit2 leaves it to the CPU, and Rockchip's list of what the runtime there has does not name it"
)


def judge(operators: Sequence[Operator], _target: Target) -> list[Verdict]:
    """Where each operator runs; see ``Accelerator``."""
    taken = by_rules(_TAKEN, operators, "RKNN-Toolkit2", otherwise=Place.UNSUPPORTED)
    placed = by_rules(RULES, operators, "the NPU")
    return [_verdict(*three) for three in zip(operators, taken, placed, strict=True)]


def _verdict(operator: Operator, taken: Verdict, placed: Verdict) -> Verdict:
    if taken.place is Place.ACCELERATED:
        return placed
    if operator.graph or operator.kind in _TAKEN or not _is_left_alone(operator):
        return taken
    old = _old_set(operator, Surroundings(()))
    if old:
        return Verdict(Place.UNSUPPORTED, old.reason, old.advice)
    return Verdict(Place.UNKNOWN, _NO_LIST, "Replace it, or try the file on the board.")


def _is_left_alone(operator: Operator) -> bool:
    """Whether the toolkit takes an operator that it knows nothing of; of ``.tflite`` files it refuses those."""
    in_onnx = operator.kind != operator.kind.upper()
    refused = operator.domain not in {"", "ai.onnx"} or operator.kind in _OF_DATA
    return (in_onnx and not refused) or operator.kind in _UNLISTED.split()


def _old_set(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    if operator.kind != operator.kind.upper() and operator.version > _NEWEST_SET:
        reason = f"it is of opset {operator.version}, and RKNN-Toolkit2 reads up to {_NEWEST_SET}"
        return Objection(reason, f"Export the model with opset {_NEWEST_SET}.")
    return None


def _in_float(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    found = precision(operator)
    if found.startswith("float"):
        return None
    return Objection(f"it computes {found} in a .tflite file", "Keep it in float, or make an .onnx file.")


def _two_axes(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    if operator.options.get("keepNumDims"):
        return Objection("it keeps more than two axes", "Reshape to two axes before it.")
    return None


def _known_activation(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    if activation_of(operator) == "RELU_N1_TO_1":
        return Objection("the activation RELU_N1_TO_1 is part of it", "Use RELU or RELU6, or none.")
    return None


def _not_aligned(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    return Objection("its corners are aligned") if operator.options.get("alignCorners") else None


_KNOWN = (*_ON_NPU.split(), *_ON_CPU.split())
_OLD = Rule(checks=(_old_set,))
_TAKEN = {
    **dict.fromkeys(_KNOWN, _OLD),
    **dict.fromkeys(("PACK", "REVERSE_V2", "SCATTER_ND", "SQRT", "UNPACK"), Rule(checks=(_in_float,))),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), Rule(checks=(_known_activation,))),
    "FULLY_CONNECTED": Rule(checks=(_two_axes, _known_activation)),
}
RULES = {
    **dict.fromkeys(_ON_NPU.split(), Rule()),
    "DIV": Rule(checks=(_in_float,)),
    "RESIZE_BILINEAR": Rule(checks=(_not_aligned,)),
}
