"""ONNX Runtime on a CPU: what it has kernels for, by the table of the one that is installed here."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.accelerators import Place, Verdict
from edgekit.operators import Operator
from edgekit.target import Target

if TYPE_CHECKING:
    from onnx.defs import OpSchema

SOURCE = "https://github.com/microsoft/onnxruntime/blob/main/docs/OperatorKernels.md"
DATE = "2026-11-29"

_PROVIDER = "CPUExecutionProvider"
_Table = Mapping[tuple[str, str], "tuple[_Kernel, ...]"]
_STORED = frozenset({"int8", "uint8", "int16", "uint16", "int4", "uint4"})
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
# What numpy calls types, where ONNX Runtime has other names.
_NAMES = {"object": "string", "str": "string"}
_ADVICE = "Export the model with another opset, or replace the operator."


@dataclass(frozen=True)
class _Kernel:
    """A kernel: the versions of the operator that it is for, and the types that each of its type names stands for."""

    first: int
    last: int
    types: Mapping[str, frozenset[str]]


def judge(operators: Sequence[Operator], _target: Target) -> list[Verdict]:
    """Where each operator runs; see ``Accelerator``. All of ONNX Runtime's kernels count as fast ones."""
    table = _kernels()
    if table is None:
        return [Verdict(Place.UNKNOWN, "onnxruntime, which knows its kernels, is not installed")] * len(
            operators
        )
    return [_place(operator, table) for operator in operators]


def _place(operator: Operator, table: _Table) -> Verdict:
    if operator.kind == "Constant":
        # The graph's constants, whichever way they are written.
        return Verdict(Place.ACCELERATED)
    if operator.kind in _RECURRENT and operator.options.get("layout", 0):
        return Verdict(
            Place.UNSUPPORTED, "ONNX Runtime has no kernel with the batch first", "Export with layout 0."
        )
    kernels = table.get((operator.domain, operator.kind), ())
    fitting = [kernel for kernel in kernels if kernel.first <= operator.version <= kernel.last]
    if any(_takes(kernel, operator) for kernel in fitting):
        return Verdict(Place.ACCELERATED)
    if any(_takes(kernel, operator, widened=True) for kernel in fitting):
        return Verdict(
            Place.ACCELERATED, "it is computed in float32, between casts", "Save the model in float32."
        )
    if not operator.domain and _is_function(operator):
        return Verdict(Place.ACCELERATED, "it is made of other operators")
    where = f" of the domain {operator.domain}" if operator.domain else ""
    if not kernels:
        return Verdict(Place.UNSUPPORTED, f"ONNX Runtime has no operator {operator.kind}{where}", _ADVICE)
    if not fitting:
        return Verdict(Place.UNSUPPORTED, f"ONNX Runtime has no kernel for opset {operator.version}", _ADVICE)
    found = ", ".join(dict.fromkeys(operand.dtype for operand in operator.inputs))
    return Verdict(
        Place.UNSUPPORTED, f"ONNX Runtime has no kernel for {found}", "Cast its inputs to float32."
    )


def _takes(kernel: _Kernel, operator: Operator, *, widened: bool = False) -> bool:
    """Whether a kernel has the type of the first input; the standard ties the others to it.

    ``widened`` asks for float32 in the place of float16, as ONNX Runtime does where it has no other kernel.
    """
    schema = _schema(operator)
    if schema is None or not schema.inputs or not operator.inputs:
        return True
    allowed, found = kernel.types.get(schema.inputs[0].type_str), operator.inputs[0].dtype
    if widened and found == "float16":
        found = "float32"
    dtype = _NAMES.get(found, found.replace("float8_", "float8"))
    # Between DequantizeLinear and QuantizeLinear an operator computes floats, whatever its tensors are stored as.
    computed = {dtype, "float32"} if dtype in _STORED else {dtype}
    return allowed is None or dtype == "unknown" or bool(computed & allowed)


def _is_function(operator: Operator) -> bool:
    """Whether the standard defines it by other operators, which ONNX Runtime puts in its place."""
    schema = _schema(operator)
    return schema is not None and bool(schema.has_function or schema.has_context_dependent_function)


def _schema(operator: Operator) -> "OpSchema | None":
    from onnx import defs

    try:
        return defs.get_schema(operator.kind, operator.version, operator.domain)
    except defs.SchemaError:
        return None


@functools.cache
def _kernels() -> _Table | None:
    try:
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError:
        return None
    found: dict[tuple[str, str], list[_Kernel]] = {}
    for entry in state.get_all_opkernel_def():
        if entry.provider != _PROVIDER:
            continue
        types = {name: frozenset(map(_dtype, kinds)) for name, kinds in entry.type_constraints.items()}
        first, last = entry.version_range
        found.setdefault((entry.domain, entry.op_name), []).append(_Kernel(first, last, types))
    return {key: tuple(kernels) for key, kernels in found.items()}


def _dtype(text: str) -> str:
    """``tensor(float)`` as numpy calls it."""
    name = text.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
