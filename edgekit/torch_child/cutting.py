"""Cuts a part out of an exported program, to find the operator that a converter does not take."""

from pathlib import Path
from typing import Any

import torch  # noqa: TID253

from edgekit.torch_child.loading import Loaded


class UncuttableError(Exception):
    """What crosses the border of the part is no tensor."""


def calls(loaded: Loaded) -> list[str]:
    """Operator and name of every node that computes."""
    return [f"{node.target} {node.name}" for node in _nodes(loaded)]


def cut(loaded: Loaded, first: int, last: int, output: Path) -> None:
    """Write the nodes from ``first`` to ``last`` as a program of its own, for sizes that are all fixed."""
    nodes = _nodes(loaded)
    part = nodes[first : last + 1]
    root, graph, copies = torch.nn.Module(), torch.fx.Graph(), dict[Any, Any]()
    weights = _weights(loaded)
    examples = []
    outside = dict.fromkeys(node for one in part for node in one.all_input_nodes if node not in part)
    # Inputs come first in a graph, whatever is read first.
    for node in sorted(outside, key=lambda node: node.name in weights):
        if node.name in weights:
            root.register_buffer(node.name, weights[node.name])
            copies[node] = graph.get_attr(node.name)
        else:
            examples.append(_example(node))
            copies[node] = graph.placeholder(node.name)
    for node in part:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    # What nobody reads is what the last node is for.
    shown = [node for node in part if any(user not in part for user in node.users)] or part[-1:]
    for node in shown:
        _example(node)
    graph.output(tuple(copies[node] for node in shown))
    module = torch.fx.GraphModule(root, graph)
    torch.export.save(torch.export.export(module.eval(), tuple(examples)), output)


def _nodes(loaded: Loaded) -> list[Any]:
    return [node for node in loaded.program.graph.nodes if node.op == "call_function"]


def _weights(loaded: Loaded) -> dict[str, Any]:
    """Parameters, buffers and constants by the names of their placeholders."""
    signature, program = loaded.program.graph_signature, loaded.program
    named = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    stored = {**program.constants, **program.state_dict}
    return {placeholder: stored[name].detach() for placeholder, name in named.items()}


def _example(node: Any) -> Any:
    """A value like that of a node; sizes that are free are 1."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        raise UncuttableError(node.name)
    shape = [size if isinstance(size, int) else 1 for size in value.shape]
    is_real = value.dtype.is_floating_point
    return torch.rand(shape, dtype=value.dtype) if is_real else torch.zeros(shape, dtype=value.dtype)
