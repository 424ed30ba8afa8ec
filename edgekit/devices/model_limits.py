"""Models that a runtime on a device is known to get wrong: refused before they are sent."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgekit import flatbuffer
from edgekit.artifact import Artifact, Format
from edgekit.errors import TargetError

# Those with known defects; whoever runs another need not ask for the processor.
RUNTIMES = ("tflite_runtime",)

# What reads the bias of a layer without looking whether there is one: on 64-bit Arm the kernel for few outputs, which
# are fewer than this, and on 32-bit Arm every one.
_CRASHES_BELOW = {"aarch64": 4, "armv7l": 1 << 31}


def check(artifact: Artifact, runtime: str, architecture: str) -> None:
    """Refuse a model that a runtime computes wrong, or crashes on, where programs are of that architecture.

    Known are the defects of tflite_runtime 2.14, each seen with small models of that one operator: it multiplies
    real numbers by int8 weights with one scale per channel as if there was one scale, convolves them with int4
    weights as if they were int8, and on Arm dies in a fully connected int8 layer that has no bias and one scale per
    channel: on 64-bit Arm where it has two or three outputs, on 32-bit Arm whatever it has.

    Raises:
        TargetError: The model has such an operator; the hint names the recipes that work there.
        ModelError: The file is unreadable.
    """
    if runtime not in RUNTIMES or artifact.format is not Format.TFLITE:
        return
    for name, kind, defect in _defects(
        artifact.path.read_bytes(), crashes_below=_CRASHES_BELOW.get(architecture, 0)
    ):
        raise TargetError(
            "EK839",
            f"tflite_runtime {defect} {kind} {name} of {artifact.path.name} on {architecture}.",
            "Quantize it with -r weight_only_wi8_afp32 or -r float16, or use litert on the device.",
        )


def _defects(content: bytes, *, crashes_below: int) -> Iterator[tuple[str, str, str]]:
    """The name of a layer, its operator, and what goes wrong with it."""
    from ai_edge_litert import schema_py_generated as schema

    operator, dtype = schema.BuiltinOperator, schema.TensorType
    model = flatbuffer.read(content)
    for graph in model.subgraphs:
        for position, entry in enumerate(graph.operators if graph.operators is not None else ()):
            kind = model.operatorCodes[entry.opcodeIndex].builtinCode
            tensors = [graph.tensors[index] if index >= 0 else None for index in entry.inputs]
            if len(tensors) < 2 or tensors[0] is None or tensors[1] is None:
                continue
            given, weights = tensors[0].type, tensors[1]
            many = _scales(weights) > 1
            # Compact files have no names inside.
            text = (graph.tensors[entry.outputs[0]].name or b"").decode(errors="replace")
            name = repr(text) if text else f"at position {position}"
            matrix = kind in {operator.FULLY_CONNECTED, operator.BATCH_MATMUL}
            if matrix and given == dtype.FLOAT32 and weights.type == dtype.INT8 and many:
                what = "FULLY_CONNECTED" if kind == operator.FULLY_CONNECTED else "BATCH_MATMUL"
                yield name, what, "gives wrong numbers for the dynamically quantized"
            if kind == operator.CONV_2D and given == dtype.FLOAT32 and weights.type == dtype.INT4:
                yield name, "CONV_2D", "gives wrong numbers for the 4-bit"
            if kind == operator.FULLY_CONNECTED and given == weights.type == dtype.INT8 and many:
                has_bias = len(tensors) > 2 and tensors[2] is not None
                if not has_bias and weights.shape[0] < crashes_below:
                    yield name, "FULLY_CONNECTED", "crashes in the bias-free int8"


def _scales(tensor: Any) -> int:
    """How many scales a tensor has; none where it is not quantized."""
    quantization = tensor.quantization
    return 0 if quantization is None or quantization.scale is None else int(np.size(quantization.scale))
