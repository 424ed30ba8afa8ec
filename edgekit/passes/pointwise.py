"""Run convolutions of 1x1 with 4-bit weights as matrix products, for which runtimes have a fast kernel.

LiteRT hands convolutions with 4-bit weights to no delegate: its own kernel widens the weights at each call. XNNPACK
does take FULLY_CONNECTED with 4-bit weights, and over the last axis that is the same sum of products.
"""

from typing import Any

import numpy as np

from edgekit import flatbuffer
from edgekit.passes import _graph

# The first versions of the operator with 4-bit weights, and with a scale for each of the output channels.
_FOUR_BITS, _CHANNELWISE = 10, 12


def pointwise(model: bytes) -> bytes:
    """Write int8 convolutions of 1x1, stride 1, one group and 4-bit weights as FULLY_CONNECTED that keeps the axes.

    The weights (out channels, 1, 1, in channels) become (out channels, in channels): the same bytes in the same
    order. Sums are the same; the kernel that rounds them is another one.

    Args:
        model: The file's bytes.

    Returns:
        The new file's bytes, or ``model`` itself where it has no such convolution.

    Raises:
        ModelError: The file is unreadable or too large.
    """
    found = 0

    def change(tree: flatbuffer.Model) -> None:
        nonlocal found
        for graph in tree.subgraphs:
            found += _rewrite(tree, graph)

    result = flatbuffer.rewrite(model, change)
    return result if found else model


def _rewrite(tree: flatbuffer.Model, graph: Any) -> int:
    """Change one subgraph; gives how many operators became others."""
    operators = list(graph.operators if graph.operators is not None else ())
    fitting = [operator for operator in operators if _fits(tree, graph, operator)]
    others = {
        index
        for operator in operators
        if not any(operator is one for one in fitting)
        for index in _graph.numbers(operator.inputs)
    }
    # Weights that something else reads too keep their shape.
    changed = [operator for operator in fitting if operator.inputs[1] not in others]
    for operator in changed:
        _become_product(tree, graph.tensors[operator.inputs[1]], operator)
    return len(changed)


def _fits(tree: flatbuffer.Model, graph: Any, operator: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    if tree.operatorCodes[operator.opcodeIndex].builtinCode != schema.BuiltinOperator.CONV_2D:
        return False
    given, weights = (graph.tensors[index] for index in operator.inputs[:2])
    if given.type != schema.TensorType.INT8 or weights.type != schema.TensorType.INT4:
        return False
    channels, options = given.shape[-1], operator.builtinOptions
    return list(weights.shape[1:]) == [1, 1, channels] and options.strideH == options.strideW == 1


def _become_product(tree: flatbuffer.Model, weights: Any, operator: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    many = len(weights.quantization.scale) > 1
    if len(weights.shape) == 4:  # a shared layer comes here more than once
        weights.shape = np.asarray([weights.shape[0], weights.shape[3]], np.int32)
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = operator.builtinOptions.fusedActivationFunction
    options.keepNumDims = True
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = options
    version = _CHANNELWISE if many else _FOUR_BITS
    operator.opcodeIndex = _graph.operator_code(tree, schema.BuiltinOperator.FULLY_CONNECTED, version)
