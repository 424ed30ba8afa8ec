"""Qualcomm's Hexagon NPU through ONNX Runtime's QNN execution provider; what it leaves runs on the CPU."""

from collections.abc import Collection, Sequence

from edgekit.accelerators import Objection, Place, Rule, Surroundings, Verdict, by_rules
from edgekit.operators import Operator
from edgekit.target import Target

SOURCE = "https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html"
DATE = "2026-11-29"

_DYNAMIC = frozenset({"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"})
_MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice"})
_AT_THE_EDGE = Verdict(
    Place.CPU, "values enter or leave the NPU there", "Nothing need be done: the CPU converts them."
)
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
    placed = by_rules(RULES, operators, "the QNN provider")
    edges = _Edges(operators, {at for at, verdict in enumerate(placed) if verdict.place is Place.CPU})
    return [
        _special(operator) or (_AT_THE_EDGE if edges.has(operator) else verdict)
        for operator, verdict in zip(operators, placed, strict=True)
    ]


def _special(operator: Operator) -> Verdict | None:
    if operator.kind == "Constant":
        # Constants are weights of what reads them.
        return Verdict(Place.ACCELERATED)
    if operator.kind in _DYNAMIC:
        reason = "the provider takes some of them and leaves others"
        return Verdict(Place.UNKNOWN, reason, "Quantize it with -r int8, whose ranges are fixed.")
    if operator.kind == "DequantizeLinear" and operator.inputs[0].dtype in {"int4", "uint4"}:
        return Verdict(Place.CPU, "it widens weights of 4 bits", "Quantize it with -r int8.")
    is_wide = any(operand.dtype in {"int16", "uint16"} for operand in operator.activations)
    if operator.kind == "Conv" and operator.options.get("group", 1) > 1 and is_wide:
        reason = "the provider refuses files with grouped convolutions of 16 bits"
        return Verdict(Place.UNSUPPORTED, reason, "Quantize it with -r int8.")
    return None


class _Edges:
    """Where values enter and leave the NPU: the CPU quantizes them before and dequantizes them after it.

    ONNX Runtime moves that to the very edge, past operators that only move values.
    """

    def __init__(self, operators: Sequence[Operator], left: Collection[int]) -> None:
        self._operators = operators
        self._left = left
        self._writers = {o.name: at for at, operator in enumerate(operators) for o in operator.outputs}
        self._readers: dict[str, list[int]] = {}
        for at, operator in enumerate(operators):
            for operand in operator.inputs:
                self._readers.setdefault(operand.name, []).append(at)

    def has(self, operator: Operator) -> bool:
        """Whether it quantizes what comes from outside, or dequantizes what goes there."""
        if not operator.inputs or operator.inputs[0].is_constant:
            return False
        if operator.kind == "QuantizeLinear":
            return self._from_outside(operator.inputs[0].name)
        return operator.kind == "DequantizeLinear" and self._to_outside(operator.outputs[0].name)

    def _from_outside(self, name: str) -> bool:
        writer = self._writers.get(name)
        if writer is None:
            return True
        operator = self._operators[writer]
        return operator.kind in _MOVES and self._from_outside(operator.inputs[0].name)

    def _to_outside(self, name: str) -> bool:
        readers = self._readers.get(name, [])
        return all(
            at in self._left
            or (self._operators[at].kind in _MOVES and self._to_outside(self._operators[at].outputs[0].name))
            for at in readers
        )


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
