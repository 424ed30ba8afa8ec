"""Qualcomm's Hexagon NPU through ONNX Runtime's QNN execution provider; what it leaves runs on the CPU."""

from collections.abc import Sequence

from edgekit.accelerators import Objection, Place, Rule, Surroundings, Verdict, by_rules
from edgekit.operators import Operator
from edgekit.target import Target

SOURCE = "https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html"
DATE = "2026-11-29"

_KNOWN = """
    Abs Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Clip Concat Conv ConvTranspose Cos
    DepthToSpace DequantizeLinear Div Elu Equal Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool Greater
    GreaterOrEqual GridSample HardSwish InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax LpNormalization LRN MatMul Max MaxPool Min Mul Neg Not Or Pad Pow PRelu QuantizeLinear ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Resize Round Sigmoid Sign Sin Slice Softmax SpaceToDepth
    Split Sqrt Squeeze Sub Tanh Tile TopK Transpose Unsqueeze Where
"""


def judge(operators: Sequence[Operator], _target: Target) -> list[Verdict]:
    """Where each operator runs; see ``Accelerator``."""
    return [
        # Constants are weights of what reads them.
        Verdict(Place.ACCELERATED) if operator.kind == "Constant" else verdict
        for operator, verdict in zip(operators, by_rules(RULES, operators, "the QNN provider"), strict=True)
    ]


def _sized(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    if any(None in operand.shape for operand in operator.activations):
        return Objection("a size is free", "Fix all sizes when exporting.")
    return None


def _norm(operator: Operator, _surroundings: Surroundings) -> Objection | None:
    return Objection("its norm is not that of squares") if operator.options.get("p", 2) != 2 else None


RULES = {
    **dict.fromkeys(_KNOWN.split(), Rule(checks=(_sized,))),
    "LpNormalization": Rule(checks=(_sized, _norm)),
}
