"""Which tensors of a float ``.tflite`` have one range when they are quantized, and what reads them."""

from collections import defaultdict
from collections.abc import Mapping

from edgekit import flatbuffer
from edgekit.passes import _graph
from edgekit.passes._layers import Activation
from edgekit.passes._moving import MOVING

# Integer kernels give back the range that they got, as those that only move values about do, but what these give
# depends on errors of several values.
_AVERAGING = frozenset({"AVERAGE_POOL_2D", "RESIZE_BILINEAR"})


def activations(tree: flatbuffer.Model, layers: Mapping[int, int]) -> list[Activation]:
    """The activations of the first subgraph, in the order of its tensors.

    Args:
        tree: The float file.
        layers: For the position of each operator that is a layer, the tensor that it reads.
    """
    graph = tree.subgraphs[0]
    floats = _float_activations(tree)
    one_of: dict[int, int] = {}

    def first(tensor: int) -> int:
        while tensor in one_of:
            tensor = one_of[tensor]
        return tensor

    layers_of, elsewhere, read = defaultdict[int, list[int]](list), set[int](), set[int]()
    for position, operator in enumerate(graph.operators or []):
        kind = _graph.kind_of(tree, operator)
        sources, results = (
            [index for index in _graph.numbers(side) if index in floats]
            for side in (operator.inputs, operator.outputs)
        )
        read.update(sources)
        if kind in MOVING | _AVERAGING:
            for one in (*sources[1:], *results):
                if first(one) != first(sources[0]):
                    one_of[first(one)] = first(sources[0])
        if position in layers:
            layers_of[layers[position]].append(position)
        elif kind not in MOVING:
            elsewhere.update(sources)
    members = defaultdict[int, list[int]](list)
    for tensor in sorted(floats):
        members[first(tensor)].append(tensor)
    return [
        Activation(
            tuple(graph.tensors[tensor].name.decode() for tensor in tensors),
            tuple(position for tensor in tensors for position in layers_of[tensor]),
            any(tensor in elsewhere or tensor not in read for tensor in tensors),
        )
        for tensors in members.values()
    ]


def _float_activations(tree: flatbuffer.Model) -> set[int]:
    from ai_edge_litert import schema_py_generated as schema

    graph = tree.subgraphs[0]
    used = set(_graph.numbers(graph.inputs))
    for operator in graph.operators or []:
        used.update(index for side in (operator.inputs, operator.outputs) for index in _graph.numbers(side))
    return {
        index
        for index in used - {-1}
        if graph.tensors[index].type == schema.TensorType.FLOAT32
        and not _has_content(tree.buffers[graph.tensors[index].buffer])
    }


def _has_content(buffer: object) -> bool:
    data = getattr(buffer, "data", None)
    return data is not None and len(data) > 0
