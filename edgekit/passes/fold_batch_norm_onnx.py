"""Fold the batch norms of an ``.onnx`` file that ONNX Runtime leaves standing.

Its basic optimizations fold a BatchNormalization into the Conv, ConvTranspose or MatMul in front of it. They leave one
behind a Gemm, and one in front of a layer, as networks have that normalize before they convolve: a quantizer would
round the tensor between once more.
"""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_Floats = NDArray[np.float64]
_EPSILON = 1e-5


def fold_batch_norm_onnx(model: "ModelProto") -> int:
    """Fold a BatchNormalization behind a Gemm into it, and one in front of a Conv or Gemm that nothing else reads.

    Padding stands in the way of the latter, for it puts zeros beside what the batch norm has shifted.

    Args:
        model: Changed in place; its outputs differ by float rounding alone.

    Returns:
        How many were folded.
    """
    constants = _Constants(model.graph)
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    folded = sum(constants.fold(norm) for norm in norms)
    if folded:
        constants.drop_unused()
    return folded


class _Constants:
    """A graph whose constants are read and written."""

    def __init__(self, graph: "GraphProto") -> None:
        self._graph = graph
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._fixed = {value.name for value in (*graph.input, *graph.output)}
        self._users = Counter(name for node in graph.node for name in node.input)
        # What an inner graph reads may be anything outside.
        self._is_flat = not any(
            one.HasField("g") or one.graphs for node in graph.node for one in node.attribute
        )

    def fold(self, norm: "NodeProto") -> bool:
        """Fold one batch norm where that is possible."""
        numbers = [self._value(name) for name in norm.input[1:5]]
        if (
            not self._is_flat
            or len(numbers) < 4
            or any(one is None for one in numbers)
            or len(norm.output) > 1
        ):
            return False
        gamma, beta, mean, variance = (one for one in numbers if one is not None)
        factor = gamma / np.sqrt(variance + _attribute(norm, "epsilon", _EPSILON))
        shift = beta - mean * factor
        before = next((node for node in self._graph.node if norm.input[0] in node.output), None)
        after = [node for node in self._graph.node if norm.output[0] in node.input]
        if before is not None and self._is_between(norm.input[0]) and self._behind(before, factor, shift):
            before.output[0] = norm.output[0]
        elif (
            len(after) == 1
            and self._is_between(norm.output[0])
            and self._before(after[0], norm, factor, shift)
        ):
            after[0].input[0] = norm.input[0]
        else:
            return False
        self._graph.node.remove(norm)
        return True

    def drop_unused(self) -> None:
        """Take out constants that nothing reads any more."""
        read = {name for node in self._graph.node for name in node.input} | self._fixed
        kept = [tensor for tensor in self._graph.initializer if tensor.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _is_between(self, name: str) -> bool:
        return self._users[name] == 1 and name not in self._fixed

    def _behind(self, layer: "NodeProto", factor: _Floats, shift: _Floats) -> bool:
        if layer.op_type != "Gemm" or not self._is_plain(layer):
            return False
        weights, bias = self._weights(layer, len(factor))
        if weights is None or bias is None:
            return False
        by_output = factor[:, None] if _attribute(layer, "transB", 0) else factor[None, :]
        self._write(layer, weights * by_output, bias * factor + shift)
        return True

    def _before(self, layer: "NodeProto", norm: "NodeProto", factor: _Floats, shift: _Floats) -> bool:
        if (
            layer.op_type not in {"Conv", "Gemm"}
            or layer.input[0] != norm.output[0]
            or not self._is_plain(layer)
        ):
            return False
        if layer.op_type == "Conv" and _attribute(layer, "group", 1) != 1:
            return False
        is_transposed = layer.op_type == "Conv" or bool(_attribute(layer, "transB", 0))
        stored = self._value(layer.input[1])
        if stored is None or stored.shape[1 if is_transposed else 0] != len(factor):
            return False
        weights, bias = self._weights(layer, stored.shape[0 if is_transposed else 1])
        if weights is None or bias is None:
            return False
        shape = [1] * weights.ndim
        shape[1 if is_transposed else 0] = -1
        axes = tuple(axis for axis in range(weights.ndim) if axis != (0 if is_transposed else 1))
        self._write(layer, weights * factor.reshape(shape), bias + (weights * shift.reshape(shape)).sum(axes))
        return True

    def _is_plain(self, layer: "NodeProto") -> bool:
        """No padding, no factors, nothing transposed but the weights."""
        if (
            _attribute(layer, "alpha", 1.0) != 1
            or _attribute(layer, "beta", 1.0) != 1
            or _attribute(layer, "transA", 0)
        ):
            return False
        pads = next((list(one.ints) for one in layer.attribute if one.name == "pads"), [])
        automatic = next((one.s for one in layer.attribute if one.name == "auto_pad"), b"NOTSET")
        return not any(pads) and automatic in {b"NOTSET", b"VALID"}

    def _weights(self, layer: "NodeProto", outputs: int) -> tuple[_Floats | None, _Floats | None]:
        """Weights and bias that nothing else reads; zeros for an absent bias."""
        if self._users[layer.input[1]] > 1:
            return None, None
        if len(layer.input) < 3 or not layer.input[2]:
            return self._value(layer.input[1]), np.zeros(outputs)
        bias = self._value(layer.input[2])
        fits = bias is not None and bias.size in {1, outputs}
        return self._value(layer.input[1]), np.broadcast_to(
            bias.ravel(), outputs
        ) if fits and bias is not None else None

    def _value(self, name: str) -> _Floats | None:
        from onnx import TensorProto, numpy_helper

        tensor = self._stored.get(name)
        if tensor is None or name in self._fixed or tensor.data_type != TensorProto.FLOAT:
            return None
        return np.asarray(numpy_helper.to_array(tensor), np.float64)

    def _write(self, layer: "NodeProto", weights: _Floats, bias: _Floats) -> None:
        """Give a layer constants of its own."""
        from onnx import numpy_helper

        names = [f"{layer.output[0]}/folded_weights", f"{layer.output[0]}/folded_bias"]
        layer.input[:] = [layer.input[0], *names]
        for name, values in zip(names, (weights, bias), strict=True):
            tensor = numpy_helper.from_array(values.astype(np.float32), name)
            self._graph.initializer.append(tensor)
            self._stored[name] = tensor
            self._users[name] += 1


def _attribute(node: "NodeProto", name: str, default: float) -> float:
    found = next((one for one in node.attribute if one.name == name), None)
    if found is None:
        return default
    return float(found.f) if isinstance(default, float) else int(found.i)
