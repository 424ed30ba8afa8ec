"""Give a quantized ``.onnx`` other ranges of activations: what its quantizer writes when it is told them.

Another run of the quantizer takes many times as long, because it rounds every weight again.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgekit.passes._activations_onnx import ranged
from edgekit.passes._onnx_constants import Constants
from edgekit.ranges import Range
from edgekit.tensor import Array

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

_BIAS = 2


def set_ranges_onnx(model: bytes, ranges: Mapping[str, Range]) -> bytes:
    """Write scales and zero points anew.

    Args:
        model: A file with QuantizeLinear and DequantizeLinear around its operators.
        ranges: The least and the largest value by the names of tensors: ``{"image": (0.0, 255.0)}``. Tensors that
            share a scale have one range.

    Returns:
        The new file's bytes. Biases stand for the same real numbers as before, up to their rounding.
    """
    import onnx

    changed = onnx.load_from_string(model)
    biases = list(_biases(changed.graph))
    tensors = {tensor.name: tensor for tensor in changed.graph.initializer}
    for node in changed.graph.node:
        ends = [ranges[name] for name in ranged(node) if name in ranges]
        grid = [tensors[name] for name in node.input[1:] if name in tensors]
        if ends and len(grid) == len(("scale", "zero_point")):
            for tensor, value in zip(grid, _grid(ends[0], grid[1].data_type), strict=True):
                tensor.CopyFrom(onnx.numpy_helper.from_array(value.reshape(tensor.dims), tensor.name))
    constants = Constants(changed.graph)
    for node, bias, steps in biases:
        constants.write_bias(node, _BIAS, bias, steps)
    constants.drop_unused()
    result: bytes = changed.SerializeToString()
    return result


def _biases(graph: "GraphProto") -> "Iterator[tuple[NodeProto, Array, Array]]":
    """The nodes with a bias in steps of their sums, its real numbers, and the steps of their weights."""
    constants = Constants(graph)
    for node in graph.node:
        if node.op_type == "DequantizeLinear":  # its zero point is no bias
            continue
        found = [constants.read(name) for name in node.input[1 : _BIAS + 1]]
        # A constant input keeps its scale, whatever the ranges of activations are.
        if len(found) == _BIAS and constants.step_behind(node.input[0]) is None:
            continue
        if len(found) == _BIAS and found[0] and found[1] and found[1].dtype == "int32":
            yield node, found[1].values, found[0].steps


def _grid(ends: Range, data_type: int) -> tuple[Array, Array]:
    """The scale and the zero point of a range, by the quantizer's own formula."""
    from onnx import TensorProto, helper
    from onnxruntime.quantization.quant_utils import compute_scale_zp, get_qmin_qmax_for_qType

    # With 16 bits the kernels take no zero point.
    is_symmetric = data_type == TensorProto.INT16
    limits = get_qmin_qmax_for_qType(data_type, symmetric=is_symmetric)
    zero_point, scale = compute_scale_zp(*(np.array(end, np.float32) for end in ends), *limits, is_symmetric)
    return np.asarray(scale, np.float32), np.asarray(zero_point, helper.tensor_dtype_to_np_dtype(data_type))
