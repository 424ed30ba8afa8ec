"""What was found inside a model: its operators, their costs, and its tensors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.artifact import Artifact
from edgekit.findings import Finding
from edgekit.operators import Operand, Operator


@dataclass(frozen=True)
class OperatorFacts:
    """One operator and what it costs; ``macs`` is None where it is not known."""

    operator: Operator
    macs: int | None
    parameters: int
    weight_bytes: int

    def describe(self) -> dict[str, Any]:
        """The operator as it stands in JSON documents."""
        return {
            "op": self.operator.kind,
            "name": self.operator.names[-1] if self.operator.names else "",
            "inputs": [_describe_operand(operand) for operand in self.operator.inputs],
            "outputs": [_describe_operand(operand) for operand in self.operator.outputs],
            "float": self.operator.is_float,
            "macs": self.macs,
            "parameters": self.parameters,
            "weight_bytes": self.weight_bytes,
        }


@dataclass(frozen=True)
class KindFacts:
    """All operators of one kind: ``KindFacts("CONV_2D", 7, 0, ("int8",), ("int8",), 12.5e6, ...)``."""

    kind: str
    count: int
    float_count: int
    activation_dtypes: tuple[str, ...]
    weight_dtypes: tuple[str, ...]
    macs: int
    macs_unknown: int
    parameters: int
    weight_bytes: int

    def describe(self) -> dict[str, Any]:
        """The facts as they stand in JSON documents."""
        return {
            "op": self.kind,
            "count": self.count,
            "float": self.float_count,
            "activation_dtypes": list(self.activation_dtypes),
            "weight_dtypes": list(self.weight_dtypes),
            "macs": self.macs,
            "macs_unknown": self.macs_unknown,
            "parameters": self.parameters,
            "weight_bytes": self.weight_bytes,
        }


@dataclass(frozen=True)
class TensorFacts:
    """A tensor inside a ``.tflite`` or ``.onnx`` file; ``size_bytes`` is 0 for what is computed."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    size_bytes: int
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()

    def describe(self) -> dict[str, Any]:
        """The tensor as it stands in JSON documents."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "size_bytes": self.size_bytes,
            "scale": list(self.scales),
            "zero_point": list(self.zero_points),
        }


@dataclass(frozen=True)
class Inspection:
    """What was found. ``signature`` and ``opset`` are None where the format has none."""

    artifact: Artifact
    operators: tuple[OperatorFacts, ...]
    tensors: tuple[TensorFacts, ...]
    signature: str | None
    opset: int | None
    findings: tuple[Finding, ...]

    @property
    def counted(self) -> tuple[OperatorFacts, ...]:
        """The operators but those that only convert between number formats."""
        return tuple(facts for facts in self.operators if not facts.operator.is_conversion)

    @property
    def floats(self) -> tuple[OperatorFacts, ...]:
        """The operators that compute on real numbers."""
        return tuple(facts for facts in self.counted if facts.operator.is_float)

    @property
    def parameters(self) -> int:
        """Number of stored weights and biases."""
        return sum(facts.parameters for facts in self.operators)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample, of all operators whose number is known."""
        return sum(facts.macs or 0 for facts in self.operators)

    @property
    def kinds(self) -> tuple[KindFacts, ...]:
        """The operators by kind, those with the most multiply-accumulates and bytes first."""
        names = dict.fromkeys(facts.operator.kind for facts in self.operators)
        kinds = [_kind([f for f in self.operators if f.operator.kind == name]) for name in names]
        return tuple(sorted(kinds, key=lambda kind: (-kind.macs, -kind.weight_bytes, -kind.count)))

    def describe(self, *, with_ops: bool = False, with_tensors: bool = False) -> dict[str, Any]:
        """The inspection as it stands in JSON documents."""
        document: dict[str, Any] = {
            "artifact": self.artifact.describe(),
            "signature": self.signature,
            "opset": self.opset,
            "parameters": self.parameters if self.operators else None,
            "macs": self.macs if self.operators else None,
            "macs_complete": bool(self.operators) and all(f.macs is not None for f in self.operators),
            "weight_bytes": sum(facts.weight_bytes for facts in self.operators) if self.operators else None,
            "ops": {
                "total": len(self.counted),
                "quantized": len(self.counted) - len(self.floats),
                "float": len(self.floats),
                "float_ops": [{"op": f.operator.kind, "name": f.operator.names[-1]} for f in self.floats],
            },
            "by_op": [kind.describe() for kind in self.kinds],
        }
        if with_ops:
            document["operators"] = [facts.describe() for facts in self.operators]
        if with_tensors:
            document["tensors"] = [tensor.describe() for tensor in self.tensors]
        return document


def _kind(group: Sequence[OperatorFacts]) -> KindFacts:
    return KindFacts(
        group[0].operator.kind,
        len(group),
        sum(facts.operator.is_float for facts in group),
        _dtypes(operand for facts in group for operand in facts.operator.activations),
        _dtypes(operand for facts in group for operand in facts.operator.weights),
        sum(facts.macs or 0 for facts in group),
        sum(facts.macs is None for facts in group),
        sum(facts.parameters for facts in group),
        sum(facts.weight_bytes for facts in group),
    )


def _dtypes(operands: Iterable[Operand]) -> tuple[str, ...]:
    return tuple(sorted({operand.dtype for operand in operands}))


def _describe_operand(operand: Operand) -> dict[str, Any]:
    return {"name": operand.name, "shape": list(operand.shape), "dtype": operand.dtype}
