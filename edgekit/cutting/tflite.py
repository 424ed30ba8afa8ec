"""A part of a ``.tflite`` file: some operators of its first subgraph."""

from pathlib import Path
from typing import Any

from edgekit import flatbuffer
from edgekit.artifact import Format
from edgekit.operators import operators as all_operators
from edgekit.passes._graph import numbers, remove_tensors
from edgekit.passes.add_signature import add_signature
from edgekit.passes.compact import compact

SUFFIX = ".tflite"


def operators(path: Path) -> list[str]:
    """See ``Cutter.operators``."""
    # Those of loops and branches come after, and belong to the operator that has them.
    main = [one for one in all_operators(path, Format.TFLITE) if one.graph == 0]
    return [" ".join((one.kind, *one.names[:1])) for one in main]


def cut(path: Path, first: int, last: int, output: Path) -> None:
    """See ``Cutter.cut``."""
    part = flatbuffer.rewrite(path.read_bytes(), lambda tree: _cut(tree, first, last))
    output.write_bytes(add_signature(compact(part, keep_names=True)))


def _cut(tree: Any, first: int, last: int) -> None:
    graph = tree.subgraphs[0]
    part = graph.operators[first : last + 1]
    others = [*graph.operators[:first], *graph.operators[last + 1 :]]
    written = {index for operator in part for index in numbers(operator.outputs)}
    read = dict.fromkeys(index for operator in part for index in numbers(operator.inputs) if index >= 0)
    wanted = {index for operator in others for index in numbers(operator.inputs)}
    wanted |= set(numbers(graph.outputs))
    inner = {index for operator in part for index in numbers(operator.intermediates)}
    graph.inputs = [index for index in read if index not in written and not _is_stored(tree, graph, index)]
    # What nobody reads is what the last operator is for.
    graph.outputs = sorted(written & wanted) or numbers(part[-1].outputs)
    graph.operators = part
    tree.signatureDefs = []
    remove_tensors(tree, 0, set(range(len(graph.tensors))) - written - set(read) - inner)


def _is_stored(tree: Any, graph: Any, index: int) -> bool:
    """Whether a tensor is in the file: a weight, or a state that begins with zeros."""
    tensor = graph.tensors[index]
    data = tree.buffers[tensor.buffer].data
    return bool(tensor.isVariable) or (data is not None and len(data) > 0)
