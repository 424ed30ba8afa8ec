"""A part of an ``.onnx`` file: some of its nodes, with the weights that they read."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit import onnx_model
from edgekit.errors import ModelError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

SUFFIX = ".onnx"


def operators(path: Path) -> list[str]:
    """See ``Cutter.operators``."""
    return [f"{node.op_type} {node.name or node.output[0]}" for node in onnx_model.load(path).graph.node]


def cut(path: Path, first: int, last: int, output: Path) -> None:
    """See ``Cutter.cut``."""
    model = onnx_model.load(path)
    onnx_model.make_constant(model)
    known, graph = _types(model), model.graph
    nodes = list(graph.node)
    part = nodes[first : last + 1]
    stored = {tensor.name for tensor in graph.initializer}
    written = {name for node in part for name in node.output if name}
    read = dict.fromkeys(name for name in _read(part) if name not in written | stored)
    wanted = set(_read([*nodes[:first], *nodes[last + 1 :]])) | {value.name for value in graph.output}
    # What nobody reads is what the last operator is for.
    shown = [name for name in written if name in wanted] or [name for name in part[-1].output if name]
    for side, names in (("input", read), ("output", sorted(shown))):
        graph.ClearField(side)
        getattr(graph, side).extend(_known(known, name) for name in names)
    del graph.node[:]
    graph.node.extend(part)
    used = set(_read(part))
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    onnx_model.save(model, output, named=path)


def _read(nodes: "Iterable[NodeProto]") -> Iterator[str]:
    """What nodes read, the graphs inside of them too."""
    for node in nodes:
        yield from (name for name in node.input if name)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                own = {name for one in inner.node for name in one.output} | {one.name for one in inner.input}
                own |= {tensor.name for tensor in inner.initializer}
                yield from (name for name in _read(inner.node) if name not in own)
                yield from (value.name for value in inner.output if value.name not in own)


def _types(model: "ModelProto") -> "dict[str, ValueInfoProto]":
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception as error:
        # It has exceptions of its own, and protocol buffers theirs where the model is larger than 2 GiB.
        message = f"The shapes in {model.graph.name} cannot be told."
        raise ModelError("EK355", message, "Leave --bisect out.", detail=str(error)) from error
    return {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}


def _known(known: "dict[str, ValueInfoProto]", name: str) -> "ValueInfoProto":
    value = known.get(name)
    if value is None or not value.type.tensor_type.HasField("shape"):
        raise ModelError("EK355", f"The shape of {name} is unknown.", "Cut the model at another place.")
    return value
