"""The constants of an ONNX graph with QuantizeLinear and DequantizeLinear: read as real numbers, and written anew."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekit.tensor import Array

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

_RANGES = {"int4": (-8, 7), "uint4": (0, 15)}


@dataclass(frozen=True)
class Stored:
    """A constant: the real numbers that it stands for, and how they are stored.

    ``steps`` and ``zero_points`` have one entry, or one for each position along ``axis``; a float constant has one
    step of 1. ``has_axis`` tells a list of one from a number.
    """

    values: NDArray[np.float64]
    dtype: str
    steps: NDArray[np.float64]
    zero_points: NDArray[np.int64]
    axis: int
    has_axis: bool


class Constants:
    """What is stored in a graph, and who reads it. What is written replaces no constant that others read as well."""

    def __init__(self, graph: "GraphProto") -> None:
        self._graph = graph
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._writers = {name: node for node in graph.node for name in node.output if name}
        self._readers = Counter(name for node in graph.node for name in node.input if name)
        self._readers.update(value.name for value in graph.output)
        self._names = {*self._tensors, *self._writers, *(value.name for value in graph.input)}

    def read(self, name: str) -> Stored | None:
        """A constant, stored as it is or behind a DequantizeLinear; None for what is computed, or has blocks."""
        tensor = self._tensors.get(name)
        if tensor is not None:
            values = self._array(name)
            return Stored(values.astype(np.float64), values.dtype.name, np.ones(1), _no_points(1), 0, False)
        node = self._writers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in self._tensors:
            return None
        attributes = {entry.name: entry.i for entry in node.attribute}
        if node.input[1] not in self._tensors or attributes.get("block_size", 0):
            return None
        integers, scale = self._array(node.input[0]), self._array(node.input[1])
        point = (
            self._array(node.input[2]) if len(node.input) > 2 and node.input[2] else _no_points(scale.size)
        )
        steps, points = scale.ravel().astype(np.float64), point.ravel().astype(np.int64)
        axis = attributes.get("axis", 1)
        shape = [1] * integers.ndim
        if steps.size > 1:
            shape[axis] = -1
        values = (integers.astype(np.float64) - points.reshape(shape)) * steps.reshape(shape)
        return Stored(values, integers.dtype.name, steps, points, axis, scale.ndim == 1)

    def step_behind(self, name: str) -> float | None:
        """The scale of integers that are computed, where a DequantizeLinear with one scale gives this tensor."""
        node = self._writers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] in self._tensors:
            return None
        scale = self._array(node.input[1]) if node.input[1] in self._tensors else np.zeros(0)
        return float(scale.ravel()[0]) if scale.size == 1 else None

    def only_reader(self, name: str) -> "NodeProto | None":
        """The one node that reads a tensor, seen through a rounding to integers and back."""
        readers = [node for node in self._graph.node if name in node.input]
        if len(readers) != 1 or self._readers[name] != 1:
            return None
        if readers[0].op_type in {"QuantizeLinear", "DequantizeLinear"}:
            return self.only_reader(readers[0].output[0])
        return readers[0]

    def write(self, node: "NodeProto", index: int, stored: Stored, numbers: Array) -> None:
        """Give a node another constant: ``numbers`` are what is stored, whole ones where the type is."""
        name = node.input[index] if len(node.input) > index else ""
        fresh = self._store(self._name(f"{node.name}_{index}"), numbers, stored.dtype)
        if stored.dtype == "float32":
            self._set(node, index, fresh)
            return
        from onnx import helper

        output = self._name(f"{node.name}_{index}_real")
        shape = (-1,) if stored.has_axis else ()
        inputs = [
            fresh,
            self._store(f"{fresh}_scale", stored.steps.reshape(shape), "float32"),
            self._store(f"{fresh}_zero_point", stored.zero_points.reshape(shape), stored.dtype),
        ]
        axis = {"axis": stored.axis} if stored.has_axis else {}
        made = helper.make_node("DequantizeLinear", inputs, [output], name=output, **axis)
        # It reads constants alone, so it can stand before everything else; where another was, the order stays.
        before = self._writers.get(name)
        self._graph.node.insert(0 if before is None else list(self._graph.node).index(before), made)
        self._set(node, index, output)

    def write_bias(self, node: "NodeProto", index: int, bias: Array, steps: Array) -> None:
        """Give a layer with these steps of its weights another bias, in real numbers.

        The sums are in steps of the input times those of the weights, and so is the bias that is added to them.
        """
        scale = np.asarray(self.step_behind(node.input[0])) * steps
        fresh = Stored(bias, "int32", scale, _no_points(scale.size), 0, scale.size > 1)
        self.write(node, index, fresh, np.rint(bias / scale))

    def write_on_new_grid(self, node: "NodeProto", index: int, stored: Stored, values: Array) -> None:
        """Give a node other real numbers in one scale of the same type, which is made for them."""
        low, high = _RANGES.get(stored.dtype) or (np.iinfo(stored.dtype).min, np.iinfo(stored.dtype).max)
        if stored.zero_points.any() or low == 0:
            bottom, top = min(0.0, float(values.min())), max(0.0, float(values.max()))
            step = (top - bottom) / (high - low) or 1.0
            point = round(low - bottom / step)
        else:
            step, point = float(np.abs(values).max()) / high or 1.0, 0
        grid = replace(stored, steps=np.array([step]), zero_points=np.array([point]), has_axis=False)
        integers = np.clip(np.rint(values / step) + point, low, high)
        self.write(node, index, grid, integers.reshape(stored.values.shape))

    def drop_unused(self) -> None:
        """Take out what nobody reads any more."""
        graph = self._graph
        outputs = {value.name for value in graph.output}
        read = outputs.union(*(node.input for node in graph.node))
        for node in list(graph.node):
            is_constant = node.op_type == "DequantizeLinear" and node.input[0] in self._tensors
            if is_constant and node.output[0] not in read:
                graph.node.remove(node)
        read = outputs.union(*(node.input for node in graph.node))
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        graph.ClearField("initializer")
        graph.initializer.extend(kept)

    def _array(self, name: str) -> Array:
        from onnx import numpy_helper

        array: Array = numpy_helper.to_array(self._tensors[name])
        return array

    def _set(self, node: "NodeProto", index: int, name: str) -> None:
        node.input.extend([""] * (index + 1 - len(node.input)))
        node.input[index] = name

    def _store(self, name: str, numbers: Array, dtype: str) -> str:
        import ml_dtypes
        from onnx import numpy_helper

        kind = np.dtype(getattr(ml_dtypes, dtype) if dtype in _RANGES else dtype)
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            numbers = np.clip(numbers, limits.min, limits.max)
        tensor = numpy_helper.from_array(
            np.ascontiguousarray(numbers).astype(kind).reshape(np.shape(numbers)), name
        )
        self._graph.initializer.append(tensor)
        self._names.add(name)
        return name

    def _name(self, wanted: str) -> str:
        """A name that nothing has yet."""
        number = 0
        while (name := wanted if not number else f"{wanted}_{number}") in self._names:
            number += 1
        self._names.add(name)
        return name


def _no_points(count: int) -> NDArray[np.int64]:
    return np.zeros(count, np.int64)
