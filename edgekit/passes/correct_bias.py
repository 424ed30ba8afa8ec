"""Take out of a quantized ``.tflite`` the mean shift that rounding its weights caused.

Rounding the weights of a layer moves the mean of each output channel by
``sum_taps (w - w_rounded) * mean(x)``, and the next layers add their own shifts to it. On a public
depthwise-separable network that shift is most of what int8 costs: 4.2 points, of which 0.5 are left when the
biases take it back. This is the empirical bias correction of Nagel et al., "Data-Free Quantization through
Weight Equalization and Bias Correction" (ICCV 2019, section 4.2), computed from the inputs' means, so that
activation functions behind a layer do not matter; it needs samples, but no labels.
"""

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

_SAMPLES = 128
# Round 0 takes the float model's means; each further one measures those of the corrected model, in which one
# more layer sees inputs whose own shift is gone.
_ROUNDS = 3
# A smaller gain in SNR on some dozens of samples may be chance.
_WORTH_DB = 0.5
# Where outputs are this near, a round that gains less than a tenth of a dB is the last one. Where they are far,
# the first round may gain nothing yet: layers behind others see inputs that are still shifted.
_NEAR_DB, _STEP_DB = 20.0, 0.1

_Means = dict[int, NDArray[np.float64]]


@dataclass(frozen=True)
class Correction:
    """The corrected file and the SNR in dB of its worst output, before and after, on samples held back."""

    model: bytes
    snr_before_db: float
    snr_after_db: float


def correct_bias(
    quantized: bytes, original: bytes, *, calibration: Mapping[str, Array], held_back: Mapping[str, Array]
) -> Correction:
    """Correct the biases of convolutions and fully connected layers.

    Args:
        quantized: A file with integer weights and activations, made from ``original`` operator by operator.
        original: The float file; both have a signature with the same names.
        calibration: Samples that the means are taken from, by input name: ``{"x": (256, 32, 32, 3)}``.
        held_back: Other samples; a correction that brings their outputs less than 0.5 dB nearer is not kept.

    Returns:
        The nearest of the files that were tried, ``quantized`` itself included.
    """
    layers = _layers(flatbuffer.read(original), flatbuffer.read(quantized))
    exact = list(_Probe(original).outputs(held_back))
    before = best_snr = _snr(_Probe(quantized), held_back, exact)
    best = current = quantized
    if layers:
        wanted = _Probe(original).means(layers, calibration, side="float_input")
        means = wanted
        for round_index in range(_ROUNDS):
            if round_index:
                means = _Probe(current).means(layers, calibration, side="integer_input")
            current = flatbuffer.rewrite(current, lambda tree, seen=means: _apply(tree, layers, wanted, seen))  # type: ignore[misc]
            snr = _snr(_Probe(current), held_back, exact)
            if best_snr >= _NEAR_DB and snr < best_snr + _STEP_DB:
                break
            if snr > best_snr:
                best, best_snr = current, snr
    if best_snr < before + _WORTH_DB:
        return Correction(quantized, before, before)
    return Correction(best, before, best_snr)


@dataclass(frozen=True)
class _Layer:
    """A convolution or fully connected layer in both files.

    ``weights`` are those of the float file and ``rounded`` the real numbers that the quantized one stands
    for, both with output channels last: (3, 3, 8, 16) for a convolution, (3, 3, 16) for a depthwise one, (64,
    10) for a fully connected layer. ``bias`` has one real number per output channel.
    """

    position: int
    float_input: int
    integer_input: int
    weights: NDArray[np.float64]
    rounded: NDArray[np.float64]
    bias: NDArray[np.float64]
    bias_tensor: int
    window: "_Window | None"
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
class _Window:
    """How a convolution slides over its input: kernel, strides, dilations, output size, padding kind."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    output: tuple[int, int]
    is_same: bool

    def means(self, image: Array) -> NDArray[np.float64]:
        """The mean input under each tap: (height, width, channels) to (kernel, kernel, channels)."""
        padded = np.pad(image, (*(self._padding(image.shape[axis], axis) for axis in (0, 1)), (0, 0)))
        taps = np.empty((*self.kernel, image.shape[-1]))
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                rows, columns = self._reach(row, 0), self._reach(column, 1)
                taps[row, column] = padded[rows, columns].mean(axis=(0, 1))
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


class _Probe:
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

    def means(self, layers: list[_Layer], samples: Mapping[str, Array], *, side: str) -> _Means:
        """The mean of every layer's input, tap by tap, over the samples; by the layer's position."""
        sums: dict[int, NDArray[np.float64]] = {}
        rows: Counter[int] = Counter()
        for _ in self._runs(samples, min(_SAMPLES, len(next(iter(samples.values()))))):
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

    def _taps(self, layer: _Layer, side: str, mean: NDArray[np.float64]) -> NDArray[np.float64]:
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


def _snr(probe: _Probe, held_back: Mapping[str, Array], exact: list[dict[str, Array]]) -> float:
    measured = list(probe.outputs(held_back))
    return min(
        difference(np.array([row[name] for row in exact]), np.array([row[name] for row in measured])).snr_db
        for name in exact[0]
    )


def _layers(original: flatbuffer.Model, quantized: flatbuffer.Model) -> list[_Layer]:
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


def _layer(position: int, original: tuple[Any, Any], quantized: tuple[Any, Any]) -> _Layer | None:
    """One layer, None where the operator is another or has no weights and bias to correct."""
    from ai_edge_litert import schema_py_generated as schema

    (float_tree, one), (integer_tree, other) = original, quantized
    kinds = schema.BuiltinOperator
    kind = _builtin(float_tree, one)
    if kind not in {kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D, kinds.FULLY_CONNECTED} or len(one.inputs) < 3:
        return None
    weights, bias = (_constant(float_tree, index) for index in one.inputs[1:3])
    rounded = _constant(integer_tree, other.inputs[1])
    if weights is None or bias is None or rounded is None or _constant(integer_tree, other.inputs[2]) is None:
        return None
    is_depthwise = kind == kinds.DEPTHWISE_CONV_2D
    window = None if kind == kinds.FULLY_CONNECTED else _window(float_tree, one)
    return _Layer(
        position,
        int(one.inputs[0]),
        int(other.inputs[0]),
        _channels_last(weights, is_depthwise=is_depthwise),
        _channels_last(rounded, is_depthwise=is_depthwise),
        bias.ravel(),
        int(other.inputs[2]),
        window,
        is_depthwise,
    )


def _window(tree: flatbuffer.Model, operator: Any) -> _Window:
    from ai_edge_litert import schema_py_generated as schema

    graph, options = tree.subgraphs[0], operator.builtinOptions
    kernel, output = graph.tensors[operator.inputs[1]].shape, graph.tensors[operator.outputs[0]].shape
    return _Window(
        (int(kernel[1]), int(kernel[2])),
        (options.strideH, options.strideW),
        (options.dilationHFactor, options.dilationWFactor),
        (int(output[1]), int(output[2])),
        options.padding == schema.Padding.SAME,
    )


def _channels_last(weights: NDArray[np.float64], *, is_depthwise: bool) -> NDArray[np.float64]:
    """(16, 3, 3, 8) to (3, 3, 8, 16); depthwise weights (1, 3, 3, 16) lose their first axis."""
    return weights[0] if is_depthwise else np.moveaxis(weights, 0, -1)


def _constant(tree: flatbuffer.Model, index: int) -> NDArray[np.float64] | None:
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
    return shaped * _scales(tensor, shaped.ndim)


def _scales(tensor: Any, ndim: int) -> NDArray[np.float64]:
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


def _apply(tree: flatbuffer.Model, layers: list[_Layer], wanted: _Means, seen: _Means) -> None:
    """Set every bias so that the mean output over what the layer sees is that of the float layer."""
    from ai_edge_litert import schema_py_generated as schema

    for layer in layers:
        shift = layer.mean_output(layer.weights, wanted[layer.position]) - layer.mean_output(
            layer.rounded, seen[layer.position]
        )
        tensor = tree.subgraphs[0].tensors[layer.bias_tensor]
        dtype = np.int64 if tensor.type == schema.TensorType.INT64 else np.int32
        limits = np.iinfo(dtype)
        integers = np.rint((layer.bias + shift) / _scales(tensor, 1))
        # A buffer of its own: equal biases of different layers may have shared one.
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(
            np.clip(integers, limits.min, limits.max).astype(dtype).tobytes(), np.uint8
        )
        tree.buffers.append(buffer)
        tensor.buffer = len(tree.buffers) - 1
