"""The layers that a float ``.tflite`` and its quantized twin share, and what flows into them on samples."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import flatbuffer
from edgekit.errors import ModelError
from edgekit.passes import _graph
from edgekit.sampling import in_batches
from edgekit.tensor import Array, Quantization, dequantize, difference, quantize

SAMPLES = 128

Means = dict[int, NDArray[np.float64]]


@dataclass(frozen=True)
class Layer:
    """A convolution or fully connected layer in both files.

    ``weights`` are those of the float file and ``rounded`` the real numbers that the quantized one stands
    for, both with output channels last: (3, 3, 8, 16) for a convolution, (3, 3, 16) for a depthwise one, (64,
    10) for a fully connected layer. ``bias`` has one real number per output channel, and so has ``steps``, the
    scales of the integers, which go up to ``limit``. The tensors of the weights and of the bias are those of the
    quantized file.
    """

    position: int
    float_input: int
    integer_input: int
    weights: NDArray[np.float64]
    rounded: NDArray[np.float64]
    bias: NDArray[np.float64]
    steps: NDArray[np.float64]
    limit: int
    weights_tensor: int
    bias_tensor: int
    window: "Window | None"
    is_depthwise: bool

    def mean_output(self, weights: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean of each output channel without the bias; ``means`` are those of the inputs, tap by tap."""
        if self.is_depthwise:
            # Output channel c reads input channel c // multiplier.
            seen = np.repeat(means, weights.shape[-1] // means.shape[-1], axis=-1)
            result = (weights * seen).sum(axis=(0, 1))
        else:
            result = np.tensordot(means, weights, axes=means.ndim)
        return np.asarray(result, np.float64)


@dataclass(frozen=True)
class Window:
    """How a convolution slides over its input: kernel, strides, dilations, output size, padding kind."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    output: tuple[int, int]
    is_same: bool

    def means(self, image: Array) -> NDArray[np.float64]:
        """The mean input under each tap: (height, width, channels) to (kernel, kernel, channels)."""
        return np.asarray(self.patches(image).mean(axis=(0, 1)), np.float64)

    def patches(self, image: Array) -> Array:
        """What each output sees: (height, width, channels) to (rows, columns, kernel, kernel, channels)."""
        padded = np.pad(image, (*(self._padding(image.shape[axis], axis) for axis in (0, 1)), (0, 0)))
        taps = np.empty((*self.output, *self.kernel, image.shape[-1]), image.dtype)
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                taps[:, :, row, column] = padded[self._reach(row, 0), self._reach(column, 1)]
        return taps

    def _reach(self, tap: int, axis: int) -> slice:
        first = tap * self.dilations[axis]
        return slice(first, first + (self.output[axis] - 1) * self.strides[axis] + 1, self.strides[axis])

    def _padding(self, size: int, axis: int) -> tuple[int, int]:
        """TensorFlow's SAME padding: what is missing, the smaller half in front."""
        if not self.is_same:
            return 0, 0
        reach = (
            (self.output[axis] - 1) * self.strides[axis] + (self.kernel[axis] - 1) * self.dilations[axis] + 1
        )
        missing = max(0, reach - size)
        return missing // 2, missing - missing // 2


class Probe:
    """A loaded file whose inner tensors can be read."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with warnings.catch_warnings():
            # It warns that kept tensors need memory, which is what they are kept for.
            warnings.simplefilter("ignore", UserWarning)
            self._interpreter = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
        try:
            self._interpreter.allocate_tensors()
        except RuntimeError as error:
            line = str(error).splitlines()[0].rstrip(".")
            message = f"LiteRT cannot run the quantized file: {line}."
            raise ModelError("EK410", message, "Try another recipe or engine.", detail=str(error)) from error
        signature = next(iter(self._interpreter._get_full_signature_list().values()))
        self._inputs: dict[str, int] = signature["inputs"]
        self._outputs: dict[str, int] = signature["outputs"]
        self._batch = int(self._interpreter.get_input_details()[0]["shape"][0])
        self._details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}

    def outputs(self, samples: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
        """The outputs as real numbers, sample by sample."""
        for _ in self._runs(samples, len(next(iter(samples.values())))):
            yield {name: self._real(index) for name, index in self._outputs.items()}

    def inputs(
        self, layers: list[Layer], samples: Mapping[str, Array], *, side: str
    ) -> Iterator[tuple[Layer, Array]]:
        """What goes into every layer, as real numbers, sample by sample; ``side`` is ``"float_input"``."""
        for _ in self._runs(samples, min(SAMPLES, len(next(iter(samples.values()))))):
            for layer in layers:
                yield layer, self._real(getattr(layer, side))

    def means(self, layers: list[Layer], samples: Mapping[str, Array], *, side: str) -> Means:
        """The mean of every layer's input, tap by tap, over the samples; by the layer's position."""
        sums: dict[int, NDArray[np.float64]] = {}
        rows: Counter[int] = Counter()
        for _ in self._runs(samples, min(SAMPLES, len(next(iter(samples.values()))))):
            for layer in layers:
                values = self._interpreter.get_tensor(getattr(layer, side))
                if layer.window is None:
                    values = values.reshape(-1, layer.weights.shape[0])
                sums[layer.position] = sums.get(layer.position, 0.0) + values.sum(axis=0, dtype=np.float64)
                rows[layer.position] += len(values)
        # Means are linear: those of real numbers and of single taps follow from the mean of the integers.
        return {
            layer.position: self._taps(layer, side, sums[layer.position] / rows[layer.position])
            for layer in layers
        }

    def _taps(self, layer: Layer, side: str, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        parameters = _quantization(self._details[getattr(layer, side)])
        if parameters is not None:
            mean = (mean - parameters.zero_points[0]) * parameters.scales[0]
        return mean if layer.window is None else layer.window.means(mean)

    def _runs(self, samples: Mapping[str, Array], count: int) -> Iterator[None]:
        some = {name: values[:count] for name, values in samples.items()}
        for batch in in_batches(some, self._batch):
            self._interpreter.reset_all_variables()
            for name, index in self._inputs.items():
                detail, values = self._details[index], batch[name]
                parameters = _quantization(detail)
                dtype = np.dtype(detail["dtype"])
                ready = (
                    values.astype(dtype) if parameters is None else quantize(values, parameters, dtype.name)
                )
                self._interpreter.set_tensor(index, ready)
            self._interpreter.invoke()
            yield

    def _real(self, index: int) -> Array:
        values: Array = self._interpreter.get_tensor(index)
        parameters = _quantization(self._details[index])
        return values if parameters is None else dequantize(values, parameters)


def _quantization(detail: Mapping[str, Any]) -> Quantization | None:
    parameters = detail["quantization_parameters"]
    if not len(parameters["scales"]) or np.dtype(detail["dtype"]).kind not in "iu":
        return None
    return Quantization(tuple(map(float, parameters["scales"])), tuple(map(int, parameters["zero_points"])))


def snr_db(probe: Probe, held_back: Mapping[str, Array], exact: list[dict[str, Array]]) -> float:
    measured = list(probe.outputs(held_back))
    return min(
        difference(np.array([row[name] for row in exact]), np.array([row[name] for row in measured])).snr_db
        for name in exact[0]
    )


def paired_layers(original: flatbuffer.Model, quantized: flatbuffer.Model) -> list[Layer]:
    """The layers that both files have, found by the order of operators; none where the orders differ."""
    from ai_edge_litert import schema_py_generated as schema

    borders = {schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE}
    floats = list(original.subgraphs[0].operators)
    integers = [o for o in quantized.subgraphs[0].operators if _builtin(quantized, o) not in borders]
    if [_builtin(original, o) for o in floats] != [_builtin(quantized, o) for o in integers]:
        return []
    found = []
    for position, (one, other) in enumerate(zip(floats, integers, strict=True)):
        layer = _layer(position, (original, one), (quantized, other))
        if layer is not None:
            found.append(layer)
    return found


def _builtin(tree: flatbuffer.Model, operator: Any) -> int:
    return _graph.builtin_of(tree.operatorCodes[operator.opcodeIndex])


def _layer(position: int, original: tuple[Any, Any], quantized: tuple[Any, Any]) -> Layer | None:
    """One layer, None where the operator is another or has no weights and bias to correct."""
    from ai_edge_litert import schema_py_generated as schema

    (float_tree, one), (integer_tree, other) = original, quantized
    kinds = schema.BuiltinOperator
    kind = _builtin(float_tree, one)
    if kind not in {kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D, kinds.FULLY_CONNECTED} or len(one.inputs) < 3:
        return None
    weights, bias = (constant(float_tree, index) for index in one.inputs[1:3])
    rounded = constant(integer_tree, other.inputs[1])
    if weights is None or bias is None or rounded is None or constant(integer_tree, other.inputs[2]) is None:
        return None
    is_depthwise = kind == kinds.DEPTHWISE_CONV_2D
    stored = integer_tree.subgraphs[0].tensors[other.inputs[1]]
    window = None if kind == kinds.FULLY_CONNECTED else _window(float_tree, one)
    return Layer(
        position,
        int(one.inputs[0]),
        int(other.inputs[0]),
        _channels_last(weights, is_depthwise=is_depthwise),
        _channels_last(rounded, is_depthwise=is_depthwise),
        bias.ravel(),
        np.broadcast_to(scales(stored, weights.ndim).ravel(), bias.size),
        7 if stored.type == schema.TensorType.INT4 else 127,
        int(other.inputs[1]),
        int(other.inputs[2]),
        window,
        is_depthwise,
    )


def _window(tree: flatbuffer.Model, operator: Any) -> Window:
    from ai_edge_litert import schema_py_generated as schema

    graph, options = tree.subgraphs[0], operator.builtinOptions
    kernel, output = graph.tensors[operator.inputs[1]].shape, graph.tensors[operator.outputs[0]].shape
    return Window(
        (int(kernel[1]), int(kernel[2])),
        (options.strideH, options.strideW),
        (options.dilationHFactor, options.dilationWFactor),
        (int(output[1]), int(output[2])),
        options.padding == schema.Padding.SAME,
    )


def _channels_last(weights: NDArray[np.float64], *, is_depthwise: bool) -> NDArray[np.float64]:
    """(16, 3, 3, 8) to (3, 3, 8, 16); depthwise weights (1, 3, 3, 16) lose their first axis."""
    return weights[0] if is_depthwise else np.moveaxis(weights, 0, -1)


def constant(tree: flatbuffer.Model, index: int) -> NDArray[np.float64] | None:
    """A constant tensor as real numbers, None for an absent or computed one."""
    from ai_edge_litert import schema_py_generated as schema

    if index < 0:
        return None
    tensor = tree.subgraphs[0].tensors[index]
    data = tree.buffers[tensor.buffer].data
    if data is None or not len(data):
        return None
    kinds = schema.TensorType
    content = np.frombuffer(bytes(memoryview(data)), np.uint8)
    if tensor.type == kinds.INT4:
        # Two numbers a byte, the lower half first.
        halves = np.stack([content & 15, content >> 4], axis=1).ravel()[: int(np.prod(tensor.shape))]
        values = np.where(halves > 7, halves.astype(np.int16) - 16, halves)
    else:
        dtypes = {kinds.FLOAT32: "<f4", kinds.INT8: "<i1", kinds.INT32: "<i4", kinds.INT64: "<i8"}
        if tensor.type not in dtypes:
            return None
        values = content.view(dtypes[tensor.type])
    shaped = values.reshape(tensor.shape).astype(np.float64)
    return shaped * scales(tensor, shaped.ndim)


def scales(tensor: Any, ndim: int) -> NDArray[np.float64]:
    """A constant's scales, shaped to multiply it; weights and biases are symmetric."""
    table = tensor.quantization
    if table is None or table.scale is None or not len(table.scale):
        return np.ones(1)
    scales = np.asarray(table.scale, np.float64)
    if len(scales) == 1:
        return scales
    shape = [1] * ndim
    shape[table.quantizedDimension] = -1
    return scales.reshape(shape)


def bias_of(tree: flatbuffer.Model, layer: Layer) -> NDArray[np.float64]:
    """The biases in the quantized file as real numbers."""
    found = constant(tree, layer.bias_tensor)
    return layer.bias if found is None else found.ravel()


def set_bias(tree: flatbuffer.Model, layer: Layer, bias: NDArray[np.float64]) -> None:
    """Write other biases, real numbers, into the quantized file."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = tree.subgraphs[0].tensors[layer.bias_tensor]
    dtype = np.int64 if tensor.type == schema.TensorType.INT64 else np.int32
    limits = np.iinfo(dtype)
    integers = np.clip(np.rint(bias / scales(tensor, 1)), limits.min, limits.max).astype(dtype)
    _replace(tree, tensor, integers.tobytes())


def set_weights(tree: flatbuffer.Model, layer: Layer, integers: NDArray[np.int8]) -> None:
    """Write other integers into the quantized file; they lie as ``Layer.weights`` do."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = tree.subgraphs[0].tensors[layer.weights_tensor]
    stored = integers[None] if layer.is_depthwise else np.moveaxis(integers, -1, 0)
    content = np.ascontiguousarray(stored).ravel()
    if tensor.type == schema.TensorType.INT4:
        # Two numbers a byte, the lower half first.
        halves = np.append(content, [0] * (content.size % 2)).astype(np.int8).view(np.uint8) & 15
        content = (halves[::2] | (halves[1::2] << 4)).view(np.int8)
    _replace(tree, tensor, content.tobytes())


def _replace(tree: flatbuffer.Model, tensor: Any, content: bytes) -> None:
    """Give a tensor a buffer of its own: equal constants of different layers may have shared one."""
    from ai_edge_litert import schema_py_generated as schema

    tree.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
    tensor.buffer = len(tree.buffers) - 1
