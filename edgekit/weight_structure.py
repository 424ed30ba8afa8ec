"""The structure of the weights in a `.tflite` file: how many are zero, and how many values a kernel has."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import flatbuffer
from edgekit.tensor import Array

_FEW = 5
_LAYERS = frozenset(
    {"CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"}
)


@dataclass(frozen=True)
class Kernel:
    """A constant of a layer as it is stored: ``count`` weights, of which ``zeros`` are 0, with ``values`` values."""

    name: str
    count: int
    zeros: int
    values: int


def kernels(path: Path) -> tuple[Kernel, ...]:
    """The kernels of convolutions and dense layers, each once; sparse tensors and unknown types are left out.

    Raises:
        ModelError: The file is unreadable.
    """
    from ai_edge_litert import schema_py_generated as schema

    tree = flatbuffer.read(path.read_bytes())
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    found: dict[tuple[int, int], Kernel] = {}
    for number, graph in enumerate(tree.subgraphs):
        for place, operator in enumerate(graph.operators or ()):
            kind = names.get(tree.operatorCodes[operator.opcodeIndex].builtinCode)
            if kind not in _LAYERS:
                continue
            for index in operator.inputs:
                kernel = (
                    _kernel(tree, graph.tensors[index], f"operator {place} {kind}") if index >= 0 else None
                )
                if kernel is not None:
                    found[number, int(index)] = kernel
    return tuple(found.values())


def sparsity(found: tuple[Kernel, ...]) -> float:
    """The share of zeros among all weights, 0 to 1."""
    return sum(kernel.zeros for kernel in found) / max(1, sum(kernel.count for kernel in found))


def listed(found: tuple[Kernel, ...]) -> str:
    """The first few kernels by name."""
    more = f" and {len(found) - _FEW} more" if len(found) > _FEW else ""
    return ", ".join(kernel.name for kernel in found[:_FEW]) + more


def _kernel(tree: Any, tensor: Any, place: str) -> Kernel | None:
    data = tree.buffers[tensor.buffer].data
    if data is None or not len(data) or tensor.shape is None or len(tensor.shape) < 2 or tensor.sparsity:
        return None
    values = _stored(tensor, np.frombuffer(bytes(memoryview(data)), np.uint8))
    if values is None:
        return None
    table = tensor.quantization
    offset = (
        0 if table is None or table.zeroPoint is None or not len(table.zeroPoint) else int(table.zeroPoint[0])
    )
    # Small files have lost the names of inner tensors.
    name = (tensor.name or b"").decode(errors="replace") or place
    return Kernel(name, values.size, int(np.sum(values == offset)), len(np.unique(values)))


def _stored(tensor: Any, content: Array) -> Array | None:
    from ai_edge_litert import schema_py_generated as schema

    kinds = schema.TensorType
    if tensor.type == kinds.INT4:
        # Two numbers a byte, the lower half first.
        halves = np.stack([content & 15, content >> 4], axis=1).ravel()[: int(np.prod(tensor.shape))]
        return np.where(halves > 7, halves.astype(np.int16) - 16, halves)
    dtypes = {kinds.FLOAT32: "<f4", kinds.FLOAT16: "<f2", kinds.INT8: "<i1", kinds.UINT8: "<u1"}
    return content.view(dtypes[tensor.type]) if tensor.type in dtypes else None
