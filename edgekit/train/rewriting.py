"""What TensorFlow's converter cannot write, put into its file afterwards: scales per channel, widths of 4 and 64 bits.

The converter fails on scales per channel of kernels that it reshapes. It is given such a kernel as whole numbers with
the scale 1, and the bias in steps of each channel, so that it finds the right integers; here they get their scales.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from edgekit import flatbuffer
from edgekit.errors import ModelError
from edgekit.train.fake_quant import FakeQuantWeights

# The weights and the bias among the inputs of an operator.
_PLACES = {
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (1, 3),
}
# From this version on a fully connected operator has scales per channel.
_CHANNELWISE_VERSION = 12
_SIGMOID_SCALE = 1 / 32768


def editing(layers: Sequence[FakeQuantWeights], *, wide: bool) -> Callable[[bytes], bytes]:
    """What is to be done to the bytes of a converted file.

    Args:
        layers: All with rounded weights.
        wide: Whether activations have 16 bits: biases then need 64.

    Returns:
        A function from the file to the file. It raises ModelError where it does not find a kernel.
    """
    channelwise = [layer for layer in layers if layer.whole_numbers]
    narrow = [layer for layer in layers if layer.bits == 4]

    def edit(content: bytes) -> bytes:
        def change(model: Any) -> None:
            if channelwise:
                _put_scales(model, channelwise)
            if narrow:
                _narrow_all(model, narrow)
            if wide:
                _widen(model)
                _give_sigmoids_their_scale(model)

        return flatbuffer.rewrite(content, change) if channelwise or narrow or wide else content

    return edit


def _operators(model: Any) -> Iterator[tuple[Any, str, Any, Any]]:
    """Each operator with weights: its code, its name, the tensor of its weights and that of its bias or None."""
    from ai_edge_litert import schema_py_generated as schema

    names = {getattr(schema.BuiltinOperator, name): name for name in _PLACES}
    for graph in model.subgraphs:
        for operator in graph.operators or []:
            code = model.operatorCodes[operator.opcodeIndex]
            name = names.get(code.builtinCode)
            if name is None:
                continue
            weights, bias = _PLACES[name]
            has_bias = len(operator.inputs) > bias and operator.inputs[bias] >= 0
            yield (
                code,
                name,
                graph.tensors[operator.inputs[weights]],
                graph.tensors[operator.inputs[bias]] if has_bias else None,
            )


def _put_scales(model: Any, layers: Sequence[FakeQuantWeights]) -> None:
    known = [(_as_stored(layer), np.asarray(layer.scales(), np.float32), layer) for layer in layers]
    found: set[str] = set()
    given: dict[int, Any] = {}
    for code, name, weights, bias in _operators(model):
        # Operators may have one kernel in common, and each its own bias.
        if id(weights) not in given and _has_scale_of_one(weights):
            values, channels = _integers(model, weights), tuple(weights.shape)[:1]
            same = [
                entry for entry in known if entry[1].shape == channels and np.array_equal(values, entry[0])
            ]
            for _values, scales, _layer in same[:1]:
                found.update(other.name for _stored, its, other in same if np.array_equal(its, scales))
                given[id(weights)] = scales
                _set_scales(weights, scales)
        if id(weights) not in given:
            continue
        if bias is not None and id(bias) not in given:
            given[id(bias)] = np.float32(bias.quantization.scale[0]) * given[id(weights)]
            _set_scales(bias, given[id(bias)])
        if name == "FULLY_CONNECTED":
            code.version = max(code.version, _CHANNELWISE_VERSION)
    if missing := [layer.name for layer in layers if layer.name not in found]:
        raise ModelError(
            "EK743",
            f"The converter changed the kernels of {', '.join(missing)}: their scales per channel cannot be stored.",
            "Train with one scale per layer (--per-tensor).",
        )


def _as_stored(layer: FakeQuantWeights) -> Any:
    """The integers of a kernel in the order in which the file has them."""
    whole = np.asarray(layer.whole_kernel()).astype(np.int8)
    return np.moveaxis(whole, layer.channel_axis, 0).ravel()


def _has_scale_of_one(tensor: Any) -> bool:
    scale = tensor.quantization.scale if tensor.quantization is not None else None
    return scale is not None and len(scale) > 0 and np.allclose(scale, 1, atol=1e-6)


def _integers(model: Any, tensor: Any) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    data = np.frombuffer(bytes(memoryview(model.buffers[tensor.buffer].data)), np.int8)
    if tensor.type != schema.TensorType.INT4:
        return data
    # Two to a byte, the first in the lower half.
    both = np.stack([np.left_shift(data, 4) >> 4, data >> 4], axis=-1).ravel()
    return both[: int(np.prod(tensor.shape))]


def _narrow_all(model: Any, layers: Sequence[FakeQuantWeights]) -> None:
    """Store weights of 4 bits, two to a byte, where the converter took 8 bits for them.

    Where it reshaped a kernel the integers are right. Where two calls share one, it rounded the 15 values to 255.
    """
    from ai_edge_litert import schema_py_generated as schema

    known = [(_as_stored(layer), layer) for layer in layers]
    grown: dict[int, Any] = {}  # how much larger the steps of a kernel are now
    done: set[int] = set()
    for _code, name, weights, bias in _operators(model):
        if name != "TRANSPOSE_CONV" and weights.type == schema.TensorType.INT8:
            values = _integers(model, weights)
            for stored, layer in known:
                if np.array_equal(values, stored):
                    _narrow(model, weights)
                    break
                if _is_rounded(weights, values, layer):
                    before = np.asarray(weights.quantization.scale)
                    scales = np.broadcast_to(np.asarray(layer.scales(), np.float32), before.shape)
                    weights.buffer = _add_buffer(model, stored)
                    weights.quantization.scale = scales
                    _narrow(model, weights)
                    grown[id(weights)] = scales / before
                    break
        # Each call has a bias of its own.
        if id(weights) in grown and bias is not None and id(bias) not in done:
            done.add(id(bias))
            _restep(model, bias, grown[id(weights)])


def _is_rounded(weights: Any, values: Any, layer: FakeQuantWeights) -> bool:
    """Whether these integers of 8 bits are a layer's real weights, but for half a step."""
    kernel = np.moveaxis(np.asarray(layer.rounded(layer.layer.kernel)), layer.channel_axis, 0)
    if kernel.size != values.size or kernel.shape[0] != weights.shape[0]:
        return False
    scale = np.asarray(weights.quantization.scale).reshape(-1, 1)
    apart = np.abs(values.reshape(len(kernel), -1) * scale - kernel.reshape(len(kernel), -1))
    return bool((apart <= 0.51 * scale).all())


def _restep(model: Any, bias: Any, factors: Any) -> None:
    """The same bias in steps that are larger by these factors."""
    values = np.frombuffer(bytes(memoryview(model.buffers[bias.buffer].data)), "<i4")
    bias.buffer = _add_buffer(model, np.round(values / factors).astype("<i4"))
    bias.quantization.scale = np.asarray(bias.quantization.scale) * factors


def _add_buffer(model: Any, values: Any) -> int:
    from ai_edge_litert import schema_py_generated as schema

    model.buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
    return len(model.buffers) - 1


def _narrow(model: Any, tensor: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    values = (
        np.resize(_integers(model, tensor), (int(np.prod(tensor.shape)) + 1) // 2 * 2).view(np.uint8) & 15
    )
    tensor.buffer = _add_buffer(model, values[::2] | (values[1::2] << 4))
    tensor.type = schema.TensorType.INT4


def _set_scales(tensor: Any, scales: Any) -> None:
    tensor.quantization.scale = np.asarray(scales, np.float32)
    tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    tensor.quantization.quantizedDimension = 0
    tensor.quantization.min = tensor.quantization.max = None


def _widen(model: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    for _code, _name, _weights, bias in _operators(model):
        if bias is None or bias.type != schema.TensorType.INT32:
            continue
        narrow = np.frombuffer(bytes(memoryview(model.buffers[bias.buffer].data)), "<i4")
        bias.buffer = _add_buffer(model, narrow.astype("<i8"))
        bias.type = schema.TensorType.INT64


def _give_sigmoids_their_scale(model: Any) -> None:
    """The converter writes outputs of 0 to 1, of which the kernel takes nothing but -1 to 1, as was trained."""
    from ai_edge_litert import schema_py_generated as schema

    for graph in model.subgraphs:
        for operator in graph.operators or []:
            code = model.operatorCodes[operator.opcodeIndex]
            made = graph.tensors[operator.outputs[0]]
            if code.builtinCode == schema.BuiltinOperator.LOGISTIC and made.type == schema.TensorType.INT16:
                _set_scales(made, [_SIGMOID_SCALE])
