"""The weights of a ``.tflite`` file as they are stored: what became of zeros and of shared values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import flatbuffer
from edgekit.tensor import Array

# The operand that is the kernel.
_KERNELS = {"CONV_2D": 1, "CONV_3D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}


def stored_kernels(path: Path) -> dict[str, Array]:
    """The kernels of convolutions and dense layers by the names of their tensors, as floats or integers.

    Kernels that another operator makes, sparse tensors among them, are missing.

    Raises:
        ModelError: The file is unreadable.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = flatbuffer.read(path.read_bytes())
    numbers = {getattr(schema.BuiltinOperator, name): place for name, place in _KERNELS.items()}
    types = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
    types |= {schema.TensorType.INT8: np.int8, schema.TensorType.UINT8: np.uint8}
    found: dict[str, Array] = {}
    for graph in model.subgraphs:
        for operator in graph.operators or ():
            place = numbers.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
            if place is None:
                continue
            tensor = graph.tensors[operator.inputs[place]]
            data = model.buffers[tensor.buffer].data
            if data is None or len(data) == 0 or tensor.sparsity is not None:
                continue
            content = np.ascontiguousarray(data).view(np.uint8)
            if tensor.type == schema.TensorType.INT4:
                found[_name(tensor)] = _int4(content, int(np.prod(tensor.shape))).reshape(tensor.shape)
            elif tensor.type in types:
                found[_name(tensor)] = content.view(types[tensor.type]).reshape(tensor.shape)
    return found


def counts(values: Array) -> dict[str, int]:
    """Weights, zeros and distinct values of a kernel."""
    gone = int(values.size - np.count_nonzero(values))
    return {"weights": values.size, "zeros": gone, "distinct": len(np.unique(values))}


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


def _name(tensor: Any) -> str:
    name = tensor.name
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _int4(content: Array, count: int) -> Array:
    """Two to a byte, the lower half first."""
    both = np.stack([content << 4, content], axis=-1).view(np.int8) >> 4
    values: Array = both.reshape(-1)[:count]
    return values
