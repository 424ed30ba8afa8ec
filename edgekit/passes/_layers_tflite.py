"""The layers that a float ``.tflite`` and its quantized twin share, and how to change those of the twin."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgekit import flatbuffer
from edgekit.errors import ModelError
from edgekit.passes import _graph
from edgekit.passes._activations import activations
from edgekit.passes._layers import Activation, Call, Change, Floats, Layer, Probe, Window, same_padding
from edgekit.sampling import in_batches
from edgekit.tensor import Array, Quantization, dequantize, quantize


@dataclass(frozen=True)
class _Tensors:
    """Where a layer's tensors are: its input in both files, the others in the quantized one."""

    float_input: int
    integer_input: int
    weights: int
    bias: int
    # The axis of output channels in the stored weights.
    axis: int


@dataclass(frozen=True)
class TFLiteTwins:
    """See ``Twins``. Both files have a signature with the same names."""

    original: bytes
    quantized: bytes

    @cached_property
    def layers(self) -> list[Layer]:
        """See ``Twins``: found by the order of operators."""
        return [layer for layer, _ in self._paired]

    @cached_property
    def activations(self) -> list[Activation]:
        """See ``Twins``."""
        reads = {layer.position: tensors.float_input for layer, tensors in self._paired}
        return activations(flatbuffer.read(self.original), reads)

    @cached_property
    def float_probe(self) -> Probe:
        """See ``Twins``."""
        places = {layer.position: tensors.float_input for layer, tensors in self._paired}
        return TFLiteProbe(self.original, places)

    @cached_property
    def probe(self) -> Probe:
        """See ``Twins``."""
        places = {layer.position: tensors.integer_input for layer, tensors in self._paired}
        return TFLiteProbe(self.quantized, places)

    def changed(self, changes: Mapping[int, Change]) -> Self:
        """See ``Twins``."""

        def edit(tree: flatbuffer.Model) -> None:
            for layer, tensors in self._paired:
                if layer.position in changes:
                    _apply(tree, layer, tensors, changes[layer.position])

        return replace(self, quantized=flatbuffer.rewrite(self.quantized, edit))

    @cached_property
    def _paired(self) -> list[tuple[Layer, _Tensors]]:
        return _paired(flatbuffer.read(self.original), flatbuffer.read(self.quantized))


class TFLiteProbe(Probe):
    """See ``Probe``; ``places`` are the tensors that go into layers, by the layers' positions."""

    def __init__(self, content: bytes, places: Mapping[int, int]) -> None:
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
        self._outputs = _before_squashing(content, signature["outputs"])
        self._batch = int(self._interpreter.get_input_details()[0]["shape"][0])
        self._details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}
        self._places = places

    def outputs(self, samples: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
        """See ``Probe``."""
        for _ in self._runs(samples):
            yield {name: self._output(index) for name, index in self._outputs.items()}

    def tensors(self, indices: Iterable[int], samples: Mapping[str, Array]) -> Iterator[tuple[int, Array]]:
        """Any tensors as real numbers, sample by sample."""
        wanted = list(indices)
        for _ in self._runs(samples):
            for index in wanted:
                yield index, self._output(index)

    def calls(
        self, layers: Sequence[Layer], names: Sequence[str], samples: Mapping[str, Array]
    ) -> Iterator[Call]:
        """See ``Probe``."""
        numbers = {detail["name"]: index for index, detail in self._details.items()} if names else {}
        read = self._interpreter.get_tensor
        for _ in self._runs(samples):
            inputs = {layer.position: read(self._places[layer.position]) for layer in layers}
            yield Call(inputs, {name: read(numbers[name]) for name in names})

    def real(self, layer: Layer, values: Array) -> Array:
        """See ``Probe``."""
        parameters = _quantization(self._details[self._places[layer.position]])
        if parameters is None:
            return values
        if values.dtype.kind == "f":
            return np.asarray((values - parameters.zero_points[0]) * parameters.scales[0])
        return dequantize(values, parameters)

    def _runs(self, samples: Mapping[str, Array]) -> Iterator[None]:
        for batch in in_batches(samples, self._batch):
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

    def _output(self, index: int) -> Array:
        values: Array = self._interpreter.get_tensor(index)
        parameters = _quantization(self._details[index])
        return values if parameters is None else dequantize(values, parameters)


def _before_squashing(content: bytes, outputs: Mapping[str, int]) -> dict[str, int]:
    """The inputs of the softmax or sigmoid that make outputs; an output itself where none does."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = schema.BuiltinOperator
    model = schema.Model.GetRootAs(content, 0)
    graph, makers = model.Subgraphs(0), dict[int, tuple[int, int]]()
    for operator in map(graph.Operators, range(graph.OperatorsLength())):
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if operator.InputsLength():
            for made in map(operator.Outputs, range(operator.OutputsLength())):
                makers[made] = (kind, operator.Inputs(0))
    found = {}
    for name, output in outputs.items():
        place = output
        while makers.get(place, (-1, 0))[0] in {kinds.QUANTIZE, kinds.DEQUANTIZE}:
            place = makers[place][1]
        is_squashed = makers.get(place, (-1, 0))[0] in {kinds.SOFTMAX, kinds.LOGISTIC}
        found[name] = makers[place][1] if is_squashed else output
    return found


def _quantization(detail: Mapping[str, Any]) -> Quantization | None:
    parameters = detail["quantization_parameters"]
    if not len(parameters["scales"]) or np.dtype(detail["dtype"]).kind not in "iu":
        return None
    return Quantization(tuple(map(float, parameters["scales"])), tuple(map(int, parameters["zero_points"])))


def _paired(original: flatbuffer.Model, quantized: flatbuffer.Model) -> list[tuple[Layer, _Tensors]]:
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


def _layer(
    position: int, original: tuple[Any, Any], quantized: tuple[Any, Any]
) -> tuple[Layer, _Tensors] | None:
    """One layer, None where the operator is another or has no weights and bias to correct."""
    from ai_edge_litert import schema_py_generated as schema

    (float_tree, one), (integer_tree, other) = original, quantized
    kinds = schema.BuiltinOperator
    kind = _builtin(float_tree, one)
    if kind not in {kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D, kinds.FULLY_CONNECTED} or len(one.inputs) < 3:
        return None
    weights, bias = (constant(float_tree, index) for index in one.inputs[1:3])
    rounded, rounded_bias = (constant(integer_tree, index) for index in other.inputs[1:3])
    if weights is None or bias is None or rounded is None or rounded_bias is None:
        return None
    stored = integer_tree.subgraphs[0].tensors[other.inputs[1]]
    if stored.type not in {schema.TensorType.INT8, schema.TensorType.INT4}:
        return None  # a layer that was kept float
    axis = 3 if kind == kinds.DEPTHWISE_CONV_2D else 0
    channels = int(float_tree.subgraphs[0].tensors[one.inputs[0]].shape[-1])
    groups = channels if axis else channels // weights.shape[-1]
    is_connected = kind == kinds.FULLY_CONNECTED
    layer = Layer(
        position,
        _channels_last(weights, axis),
        _channels_last(rounded, axis),
        bias.ravel(),
        rounded_bias.ravel(),
        np.broadcast_to(scales(stored, weights.ndim).ravel(), bias.size),
        7 if stored.type == schema.TensorType.INT4 else 127,
        None if is_connected else _window(float_tree, one),
        1 if is_connected else groups,
        is_per_channel=len(stored.quantization.scale) > 1,
    )
    source, weights_tensor, bias_tensor = (int(index) for index in other.inputs[:3])
    return layer, _Tensors(int(one.inputs[0]), source, weights_tensor, bias_tensor, axis)


def _window(tree: flatbuffer.Model, operator: Any) -> Window:
    from ai_edge_litert import schema_py_generated as schema

    graph, options = tree.subgraphs[0], operator.builtinOptions
    image, shape = (graph.tensors[operator.inputs[index]].shape for index in (0, 1))
    kernel = (int(shape[1]), int(shape[2]))
    strides = (int(options.strideH), int(options.strideW))
    dilations = (int(options.dilationHFactor), int(options.dilationWFactor))
    rows, columns = (
        same_padding(int(image[1 + place]), kernel[place], strides[place], dilations[place])
        if options.padding == schema.Padding.SAME
        else (0, 0)
        for place in (0, 1)
    )
    return Window(kernel, strides, dilations, (rows, columns))


def _channels_last(weights: Floats, axis: int) -> Floats:
    """(16, 3, 3, 8) to (3, 3, 8, 16); depthwise weights (1, 3, 3, 16) to (3, 3, 1, 16)."""
    return np.moveaxis(weights, 0, -2 if axis == 3 else -1)


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


def set_constant(tree: flatbuffer.Model, index: int, values: NDArray[np.float64]) -> None:
    """Write other real numbers into a float constant, stored as they lie there."""
    _replace(tree, tree.subgraphs[0].tensors[index], np.ascontiguousarray(values, "<f4").tobytes())


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


def _apply(tree: flatbuffer.Model, layer: Layer, tensors: _Tensors, change: Change) -> None:
    """Write a change into the quantized file."""
    weights, bias = (tree.subgraphs[0].tensors[index] for index in (tensors.weights, tensors.bias))
    if change.integers is not None:
        _replace(tree, weights, _stored_weights(change.integers, weights, tensors.axis))
    if change.steps is not None:
        if not layer.is_per_channel and len(set(change.steps)) > 1:
            raise ValueError("this layer has one step for all of its channels")
        steps = change.steps if layer.is_per_channel else change.steps[:1]
        weights.quantization.scale = steps.astype(np.float32)
        # The sums are in steps of the input times those of the weights, and so is the bias that is added to them.
        (step,) = tree.subgraphs[0].tensors[tensors.integer_input].quantization.scale
        bias.quantization.scale = (step * steps).astype(np.float32)
    if change.bias is not None or change.steps is not None:
        _set_bias(tree, bias, layer.rounded_bias if change.bias is None else change.bias)


def _set_bias(tree: flatbuffer.Model, tensor: Any, bias: Floats) -> None:
    from ai_edge_litert import schema_py_generated as schema

    dtype = np.int64 if tensor.type == schema.TensorType.INT64 else np.int32
    limits = np.iinfo(dtype)
    integers = np.clip(np.rint(bias / scales(tensor, 1)), limits.min, limits.max).astype(dtype)
    _replace(tree, tensor, integers.tobytes())


def _stored_weights(integers: NDArray[np.int8], tensor: Any, axis: int) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    content = np.ascontiguousarray(np.moveaxis(integers, -2 if axis == 3 else -1, 0)).ravel()
    if tensor.type == schema.TensorType.INT4:
        # Two numbers a byte, the lower half first.
        halves = np.append(content, [0] * (content.size % 2)).astype(np.int8).view(np.uint8) & 15
        content = (halves[::2] | (halves[1::2] << 4)).view(np.int8)
    return content.tobytes()


def _replace(tree: flatbuffer.Model, tensor: Any, content: bytes) -> None:
    """Give a tensor a buffer of its own: equal constants of different layers may have shared one."""
    from ai_edge_litert import schema_py_generated as schema

    tree.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
    tensor.buffer = len(tree.buffers) - 1
