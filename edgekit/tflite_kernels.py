"""The weights of a ``.tflite`` file as they are stored: what became of zeros and of shared values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import flatbuffer
from edgekit.tensor import Array

_LAYERS = frozenset(
    {"CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"}
)


def stored_kernels(path: Path) -> dict[str, Array]:
    """The kernels of convolutions and dense layers by name, each once, as floats or as integers around 0.

    Small files have lost the names of inner tensors: a kernel without one is called after its operator,
    ``"operator 3 CONV_2D"``. Sparse tensors, and kernels that another operator makes, are missing.

    Raises:
        ModelError: The file is unreadable.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = flatbuffer.read(path.read_bytes())
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    found: dict[str, Array] = {}
    seen: set[tuple[int, int]] = set()
    for number, graph in enumerate(model.subgraphs):
        for place, operator in enumerate(graph.operators or ()):
            kind = names.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
            for index in operator.inputs if kind in _LAYERS else ():
                if index < 0 or (number, int(index)) in seen:
                    continue
                seen.add((number, int(index)))
                values = _values(model, graph.tensors[index])
                if values is not None:
                    found[_name(graph.tensors[index], f"operator {place} {kind}", found)] = values
    return found


def counts(values: Array) -> dict[str, int]:
    """Weights, zeros and distinct values of a kernel."""
    gone = int(values.size - np.count_nonzero(values))
    return {"weights": values.size, "zeros": gone, "distinct": len(np.unique(values))}


def sparsity(stored: Mapping[str, Array]) -> float:
    """The share of zeros among all weights, 0 to 1."""
    rows = [counts(values) for values in stored.values()]
    return sum(row["zeros"] for row in rows) / max(1, sum(row["weights"] for row in rows))


def holds(kept: Sequence[Mapping[str, Any]], stored: Sequence[Array]) -> bool:
    """Whether a file's kernels have the structure of those that they were made from.

    Args:
        kept: ``{"weights": 2304, "zeros": 1843, "distinct": 462, "clusters": False}`` for each kernel that was to
            keep its zeros, and with ``clusters`` have no more distinct values.
        stored: All kernels of the file. A converter renames and transposes them, so that they are paired by size.
    """
    left = [counts(values) for values in stored]
    for wanted in sorted(kept, key=lambda entry: (-entry["zeros"], entry["distinct"])):
        fitting = [
            found
            for found in left
            if found["weights"] == wanted["weights"]
            and found["zeros"] >= wanted["zeros"]
            and (not wanted["clusters"] or found["distinct"] <= wanted["distinct"])
        ]
        if not fitting:
            return False
        left.remove(min(fitting, key=lambda found: (found["zeros"], -found["distinct"])))
    return True


def _values(model: Any, tensor: Any) -> Array | None:
    """The weights of a constant of two or more axes; None for anything else."""
    from ai_edge_litert import schema_py_generated as schema

    data = model.buffers[tensor.buffer].data
    if data is None or not len(data) or tensor.shape is None or len(tensor.shape) < 2 or tensor.sparsity:
        return None
    content = np.frombuffer(bytes(memoryview(data)), np.uint8)
    kinds = schema.TensorType
    if tensor.type == kinds.INT4:
        return _int4(content, int(np.prod(tensor.shape))).reshape(tensor.shape)
    dtypes = {kinds.FLOAT32: "<f4", kinds.FLOAT16: "<f2", kinds.INT8: "<i1", kinds.UINT8: "<u1"}
    if tensor.type not in dtypes:
        return None
    values: Array = content.view(dtypes[tensor.type]).reshape(tensor.shape)
    table = tensor.quantization
    offset = 0 if table is None or table.zeroPoint is None or not len(table.zeroPoint) else table.zeroPoint[0]
    return values.astype(np.int16) - int(offset) if offset else values


def _name(tensor: Any, place: str, taken: Mapping[str, Array]) -> str:
    name = (tensor.name or b"").decode(errors="replace") or place
    return name if name not in taken else f"{name} ({place})"


def _int4(content: Array, count: int) -> Array:
    """Two to a byte, the lower half first."""
    both = np.stack([content << 4, content], axis=-1).view(np.int8) >> 4
    values: Array = both.reshape(-1)[:count]
    return values
