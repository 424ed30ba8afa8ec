"""Make an ``.onnx`` file smaller without changing what it computes.

Quantizers give every scale, zero point and intermediate tensor a long name made of others' names: on networks
that came from TensorFlow half of an int8 file is names.
"""

import string
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto

_DIGITS = string.ascii_letters + string.digits


def compact_onnx(model: bytes, *, keep_names: bool = False) -> bytes:
    """Write an ``.onnx`` file in fewer bytes; its outputs stay the same bit for bit.

    Equal constants are stored once; inferred shapes, comments and the names of inner tensors and nodes are
    left out. Names of inputs and outputs stay. Graphs with inner graphs (If, Loop) keep their names, because
    those refer to tensors outside.

    Args:
        model: The file's bytes.
        keep_names: Keep the names of inner tensors and nodes.

    Returns:
        The new file's bytes.
    """
    import onnx

    proto = onnx.load_from_string(model)
    graph = proto.graph
    del graph.value_info[:]
    proto.doc_string = graph.doc_string = ""
    for node in graph.node:
        node.doc_string = ""
    has_inner_graphs = any(attribute.HasField("g") for node in graph.node for attribute in node.attribute)
    if not keep_names and not has_inner_graphs:
        _share_constants(graph)
        _rename(graph)
    content: bytes = proto.SerializeToString()
    return content


def _share_constants(graph: "GraphProto") -> None:
    """Store equal constants once: most zero points are the same number."""
    first: dict[bytes, str] = {}
    instead: dict[str, str] = {}
    kept = []
    fixed = {value.name for value in (*graph.input, *graph.output)}
    for tensor in graph.initializer:
        name, tensor.name, tensor.doc_string = tensor.name, "", ""
        twin = first.setdefault(tensor.SerializeToString(deterministic=True), name)
        tensor.name = name
        if twin == name or name in fixed:
            kept.append(tensor)
        else:
            instead[name] = twin
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for node in graph.node:
        node.input[:] = [instead.get(name, name) for name in node.input]


def _rename(graph: "GraphProto") -> None:
    """Give inner tensors short names, and nodes none; no name means an absent operand and stays so."""
    fixed = {value.name for value in (*graph.input, *graph.output)}
    names = (name for name in _short_names() if name not in fixed)
    short = {name: name for name in ("", *fixed)}
    for node in graph.node:
        node.name = ""
        node.input[:] = [
            short[name] if name in short else short.setdefault(name, next(names)) for name in node.input
        ]
        node.output[:] = [
            short[name] if name in short else short.setdefault(name, next(names)) for name in node.output
        ]
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
    for annotation in graph.quantization_annotation:
        annotation.tensor_name = short.get(annotation.tensor_name, annotation.tensor_name)


def _short_names() -> Iterator[str]:
    """a, b, ... 9, aa, ba, ..."""
    for number in count():
        name, rest = _DIGITS[number % len(_DIGITS)], number // len(_DIGITS)
        while rest:
            rest -= 1
            name, rest = name + _DIGITS[rest % len(_DIGITS)], rest // len(_DIGITS)
        yield name
