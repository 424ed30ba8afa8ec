"""What several passes do to the graph of a ``.tflite`` file."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from edgekit import flatbuffer
from edgekit.errors import ModelError


def check_order_is_free(tree: flatbuffer.Model) -> None:
    """Refuse a file whose metadata speaks about operators by their position.

    Raises:
        ModelError: It has ``model_control_dependencies``.
    """
    if has_fixed_order(tree):
        message = "The .tflite file fixes the order of its operators, so that none can be added or removed."
        raise ModelError("EK353", message, "Convert the model again without control dependencies.")


def has_fixed_order(tree: flatbuffer.Model) -> bool:
    """Whether metadata of the file speak about operators by their position."""
    return any(entry.name == b"model_control_dependencies" for entry in tree.metadata or [])


def remove_operators(tree: flatbuffer.Model, graph_index: int, removed: Iterable[Any]) -> None:
    """Take operators out of a subgraph, and the tensors that only they used."""
    graph = tree.subgraphs[graph_index]
    gone = list(removed)
    unused = {
        index
        for operator in gone
        for field in ("inputs", "outputs")
        for index in numbers(getattr(operator, field))
    }
    graph.operators = [operator for operator in graph.operators if not any(operator is one for one in gone)]
    kept = {-1, *numbers(graph.inputs), *numbers(graph.outputs)}
    for operator in graph.operators:
        kept |= {*numbers(operator.inputs), *numbers(operator.outputs), *numbers(operator.intermediates)}
    remove_tensors(tree, graph_index, unused - kept)


def numbers(vector: Any) -> list[int]:
    """A vector of indices as a list; an absent one is empty."""
    return [] if vector is None else [int(number) for number in vector]


def entry_graphs(tree: flatbuffer.Model) -> list[int]:
    """The subgraphs that a caller can run: the first, and every one with a signature."""
    return sorted({0, *(signature.subgraphIndex for signature in tree.signatureDefs or [])})


def signature_entries(tree: flatbuffer.Model, graph_index: int, side: str) -> Iterator[Any]:
    """The name-to-tensor entries of a subgraph's signatures: ``side`` is ``"inputs"`` or ``"outputs"``."""
    for signature in tree.signatureDefs or []:
        if signature.subgraphIndex == graph_index:
            yield from getattr(signature, side) or []


def operator_code(tree: flatbuffer.Model, builtin: int, version: int) -> int:
    """The index of an operator code, added where the file has none like it."""
    from ai_edge_litert import schema_py_generated as schema

    tree.operatorCodes = tree.operatorCodes or []
    for index, code in enumerate(tree.operatorCodes):
        if builtin_of(code) == builtin and code.version == version:
            return index
    # Readers from before 2020 know the one-byte field alone, where 127 stands for all that came later.
    placeholder = schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES
    code = schema.OperatorCodeT(
        deprecatedBuiltinCode=min(builtin, placeholder), version=version, builtinCode=builtin
    )
    tree.operatorCodes.append(code)
    return len(tree.operatorCodes) - 1


def builtin_of(code: Any) -> int:
    """The built-in operator of an operator code, whichever of its two fields holds it."""
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def kind_of(tree: flatbuffer.Model, operator: Any) -> str:
    """The name of a built-in operator: ``"CONV_2D"``; empty for one that the schema does not know."""
    return _kinds().get(builtin_of(tree.operatorCodes[operator.opcodeIndex]), "")


@cache
def _kinds() -> Mapping[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {number: str(name) for name, number in vars(schema.BuiltinOperator).items() if name[0] != "_"}


def remove_tensors(tree: flatbuffer.Model, graph_index: int, removed: Iterable[int]) -> None:
    """Take tensors that nothing uses any more out of a subgraph, and renumber the others."""
    graph = tree.subgraphs[graph_index]
    gone = set(removed)
    kept = [index for index in range(len(graph.tensors)) if index not in gone]
    place = {index: position for position, index in enumerate(kept)}
    place[-1] = -1  # an optional input that is absent

    def renumber(holder: Any, field: str) -> None:
        if getattr(holder, field) is not None:
            setattr(holder, field, [place[index] for index in numbers(getattr(holder, field))])

    graph.tensors = [graph.tensors[index] for index in kept]
    for field in ("inputs", "outputs"):
        renumber(graph, field)
        for entry in signature_entries(tree, graph_index, field):
            entry.tensorIndex = place[entry.tensorIndex]
    for operator in graph.operators or []:
        for field in ("inputs", "outputs", "intermediates"):
            renumber(operator, field)
    for tensor in graph.tensors:
        details = tensor.quantization.details if tensor.quantization is not None else None
        # Blockwise quantization keeps its scales and zero points in tensors of their own.
        if details is not None and hasattr(details, "blockSize"):
            details.scales = place[details.scales]
            details.zeroPoints = place.get(details.zeroPoints, details.zeroPoints)
