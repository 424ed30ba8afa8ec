"""Rockchip's NPU through RKNN-Toolkit2, by the lists of its documentation: it converts a whole model, or refuses it."""

from collections.abc import Sequence

from edgekit.accelerators import Objection, Place, Rule, Surroundings, Verdict, by_rules
from edgekit.operators import Operator
from edgekit.target import Target

SOURCE = "https://github.com/airockchip/rknn-toolkit2/blob/master/doc/RKNNToolKit2_OP_Support-v2.1.0.md"
DATE = "2026-11-29"

_OF_ONNX = """
    Add And ArgMax ArgMin AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv ConvTranspose
    Cos DepthToSpace DequantizeLinear Div Dropout Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements Gemm
    GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GRU HardSigmoid HardSwish Identity InstanceNormalization
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LRN LSTM MatMul Max MaxPool
    MaxRoiPool MaxUnpool MeanVarianceNormalization Min Mish Mod Mul Pad Pow PRelu QuantizeLinear ReduceMax ReduceMean
    ReduceMin ReduceSum Relu Reshape Resize ReverseSequence RoiAlign ScatterND Shape Sigmoid Size Slice Softmax
    Softplus SpaceToDepth Split Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze Where
"""
_OF_TFLITE = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTH_TO_SPACE DEPTHWISE_CONV_2D DIV FULLY_CONNECTED LEAKY_RELU LESS
    LOCAL_RESPONSE_NORMALIZATION MAX_POOL_2D MEAN MUL PAD RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
    LOGISTIC SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE SUB TANH TRANSPOSE DEQUANTIZE QUANTIZE
"""
_SINGLE = ("GRU", "LogSoftmax", "RoiAlign", "Slice", "Softmax", "Tile")
_MOST_DEPTHWISE = 8


def judge(operators: Sequence[Operator], _target: Target) -> list[Verdict]:
    """Where each operator runs; see ``Accelerator``."""
    return by_rules(RULES, operators, "RKNN-Toolkit2", otherwise=Place.UNSUPPORTED)


def _single(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    """What the list says to be for a batch of 1."""
    shape = operator.inputs[0].shape if operator.inputs else ()
    if len(shape) == 4 and shape[0] not in {1, None}:
        return Objection(f"the batch is {shape[0]}, and not 1", "Fix the batch to 1 when exporting.")
    return None


def _small_depthwise(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    sides = operator.inputs[1].shape[1:3] if len(operator.inputs) > 1 else ()
    if any((side or 0) > _MOST_DEPTHWISE for side in sides):
        return Objection(f"its kernel is larger than {_MOST_DEPTHWISE}", "Use smaller kernels in two layers.")
    return None


RULES = {
    **dict.fromkeys((*_OF_ONNX.split(), *_OF_TFLITE.split()), Rule()),
    **dict.fromkeys(_SINGLE, Rule(checks=(_single,))),
    "DEPTHWISE_CONV_2D": Rule(checks=(_small_depthwise,)),
}
