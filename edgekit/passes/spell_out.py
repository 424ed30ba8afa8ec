"""Write out what a ``.tflite`` file may leave out and tf2onnx needs: names of tensors, and zero biases."""

from itertools import count
from typing import Any

import numpy as np

from edgekit import flatbuffer
from edgekit.passes import _graph

_ABSENT = -1
_BIAS = 2


def spell_out(model: bytes) -> bytes:
    """Name what has no name, and give float operators a bias of zeros.

    tf2onnx tells tensors apart by their names, and wants a bias. It also goes by the older of the two fields for an
    operator's number, which every file has that edgekit writes.

    Args:
        model: The file's bytes.

    Returns:
        The new file's bytes, or ``model`` itself where they are the same. So are the outputs.

    Raises:
        ModelError: The file is unreadable or too large.
    """
    written = flatbuffer.rewrite(model, _write_out)
    return model if written == model else written


def _write_out(tree: flatbuffer.Model) -> None:
    for graph in tree.subgraphs:
        for operator in _without_bias(tree, graph):
            operator.inputs = [*_graph.numbers(operator.inputs)[:_BIAS], _zeros(tree, graph, operator)]
        taken = {tensor.name for tensor in graph.tensors}
        free = (name for number in count() if (name := b"tensor_%d" % number) not in taken)
        for tensor in graph.tensors:
            tensor.name = tensor.name or next(free)


def _without_bias(tree: flatbuffer.Model, graph: Any) -> list[Any]:
    """The convolutions and matrix products that compute in float and have no bias."""
    from ai_edge_litert import schema_py_generated as schema

    builtin = schema.BuiltinOperator
    kinds = {builtin.CONV_2D, builtin.DEPTHWISE_CONV_2D, builtin.FULLY_CONNECTED}
    found = []
    for operator in graph.operators or []:
        inputs = _graph.numbers(operator.inputs)
        absent = len(inputs) == _BIAS or inputs[_BIAS] == _ABSENT if len(inputs) >= _BIAS else False
        if absent and _graph.builtin_of(tree.operatorCodes[operator.opcodeIndex]) in kinds:
            activation = graph.tensors[inputs[0]]
            if activation.type == schema.TensorType.FLOAT32:
                found.append(operator)
    return found


def _zeros(tree: flatbuffer.Model, graph: Any, operator: Any) -> int:
    from ai_edge_litert import schema_py_generated as schema

    # The last axis of what these operators give is the axis of their channels.
    shape = _graph.numbers(graph.tensors[_graph.numbers(operator.outputs)[0]].shape)
    content = np.zeros(shape[-1], np.float32).tobytes()
    tree.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
    graph.tensors.append(
        schema.TensorT(shape=[shape[-1]], type=schema.TensorType.FLOAT32, buffer=len(tree.buffers) - 1)
    )
    return len(graph.tensors) - 1
