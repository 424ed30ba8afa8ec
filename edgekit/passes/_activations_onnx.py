"""Which tensors of a float ``.onnx`` have one range when they are quantized, and what reads them."""

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgekit.passes._layers import Activation
from edgekit.passes._moving import MOVING

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto


def activations(
    original: "GraphProto", quantized: "GraphProto", layers: Mapping[int, str]
) -> list[Activation]:
    """The tensors that the quantizer gave a range, those of one range together.

    Args:
        original: The float graph, whose tensors have the names that they have in the other.
        quantized: The graph with QuantizeLinear nodes.
        layers: For the position of each node of ``original`` that is a layer, the tensor that it reads.
    """
    known = {
        *(value.name for value in original.input),
        *(name for node in original.node for name in node.output),
    }
    after = clipped(original)
    members = defaultdict[str, list[str]](list)
    for node in quantized.node:
        for name in ranged(node):
            if name in known:
                members[node.input[1]].append(name)
    readers = defaultdict[str, list[tuple[int, str]]](list)
    for position, node in enumerate(original.node):
        for name in set(node.input):
            readers[name].append((position, node.op_type))
    results = {value.name for value in original.output}
    return [
        Activation(
            tuple(names),
            tuple(p for name in read for p, _ in readers[name] if layers.get(p) == name),
            any(
                name in results
                or any(layers.get(p) != name and kind not in MOVING for p, kind in readers[name])
                for name in read
            ),
        )
        for names in (list(dict.fromkeys(found)) for found in members.values())
        for read in [[after.get(name, name) for name in names]]
    ]


def ranged(node: "NodeProto") -> list[str]:
    """The tensors of the float graph, if they are there, whose range a node of the quantized one rounds to."""
    if node.op_type != "QuantizeLinear":
        return []
    # A scale is named after the tensor that it was made for; what comes behind a pool has the same one.
    return [node.input[1].removesuffix("_scale"), node.input[0]]


def clipped(graph: "GraphProto") -> dict[str, str]:
    """What a Relu or Clip gives, by what it reads: the quantizer removes it, and the range clips in its place."""
    readers = defaultdict[str, "list[NodeProto]"](list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    return {
        name: found[0].output[0]
        for name, found in readers.items()
        if len(found) == 1 and found[0].op_type in {"Relu", "Clip"} and found[0].input[0] == name
    }
