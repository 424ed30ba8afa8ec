"""The layers that a float ``.onnx`` and its quantized twin share, and how to change those of the twin.

The twin has pairs of QuantizeLinear and DequantizeLinear around operators that have the names of the float file.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from edgekit.errors import ModelError
from edgekit.passes._activations_onnx import activations, clipped
from edgekit.passes._layers import Activation, Call, Change, Floats, Layer, Probe, Window, same_padding
from edgekit.passes._onnx_constants import Constants
from edgekit.sampling import in_batches
from edgekit.tensor import Array

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_LIMITS = {"int8": 127, "int4": 7}


@dataclass(frozen=True)
class _Places:
    """Where a layer is: its input in both files, its nodes in the quantized one."""

    float_input: str
    integer_input: str
    node: "NodeProto"
    bias_node: "NodeProto"
    bias_index: int


@dataclass(frozen=True)
class OnnxTwins:
    """See ``Twins``. The float file is the prepared one, which the quantizer read."""

    original: bytes
    quantized: bytes

    @cached_property
    def layers(self) -> list[Layer]:
        """See ``Twins``: found by the names of nodes."""
        return [layer for layer, _ in self._paired]

    @cached_property
    def activations(self) -> list[Activation]:
        """See ``Twins``."""
        import onnx

        original, quantized = map(onnx.load_from_string, (self.original, self.quantized))
        reads = {layer.position: places.float_input for layer, places in self._paired}
        return activations(original.graph, quantized.graph, reads)

    @cached_property
    def float_probe(self) -> Probe:
        """See ``Twins``."""
        return OnnxProbe(self.original, {layer.position: p.float_input for layer, p in self._paired})

    @cached_property
    def probe(self) -> Probe:
        """See ``Twins``."""
        return OnnxProbe(self.quantized, {layer.position: p.integer_input for layer, p in self._paired})

    def changed(self, changes: Mapping[int, Change]) -> Self:
        """See ``Twins``."""
        import onnx

        model = onnx.load_from_string(self.quantized)
        constants = Constants(model.graph)
        nodes = {_key(node): node for node in model.graph.node}
        for layer, places in self._paired:
            if layer.position in changes:
                node, bias_node = nodes[_key(places.node)], nodes[_key(places.bias_node)]
                here = replace(places, node=node, bias_node=bias_node)
                _apply(constants, layer, here, changes[layer.position])
        constants.drop_unused()
        return replace(self, quantized=model.SerializeToString())

    @cached_property
    def _paired(self) -> list[tuple[Layer, _Places]]:
        import onnx

        return _paired(onnx.load_from_string(self.original), onnx.load_from_string(self.quantized))


class OnnxProbe(Probe):
    """See ``Probe``; ``places`` are the tensors that go into layers, by the layers' positions.

    The outputs are those of the file as users run it, with every optimization, and nothing exposed but what a softmax
    or a sigmoid at the end reads.
    """

    def __init__(self, content: bytes, places: Mapping[int, str]) -> None:
        import onnx
        from onnx import helper

        self._content = content
        self._places = places
        self._sessions: dict[tuple[frozenset[str], int], Any] = {}
        graph = onnx.load_from_string(content).graph
        stored = {tensor.name for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in stored]
        self._dtypes = {
            value.name: helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in inputs
        }
        dimensions = inputs[0].type.tensor_type.shape.dim
        self._batch = max(1, dimensions[0].dim_value) if dimensions else 1
        self._outputs = {value.name: _before_squashing(graph, value.name) for value in graph.output}

    def outputs(self, samples: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
        """See ``Probe``."""
        wanted = list(self._outputs.values())
        session = self._giving(wanted)
        for feed in self._feeds(samples):
            yield dict(zip(self._outputs, _run(session, wanted, feed), strict=True))

    def calls(
        self, layers: Sequence[Layer], names: Sequence[str], samples: Mapping[str, Array]
    ) -> Iterator[Call]:
        """See ``Probe``."""
        import onnx

        after = clipped(onnx.load_from_string(self._content).graph) if names else {}
        values = {name: name if name in self._dtypes else after.get(name, name) for name in names}
        inputs = {layer.position: self._places[layer.position] for layer in layers}
        wanted = sorted({*values.values(), *inputs.values()} - set(self._dtypes))
        # Of all layers, so that those who ask for one after the other get the same session. In one thread, because
        # whoever asks works on what came before while this runs.
        session = self._giving([*self._places.values(), *wanted], threads=1)
        for feed in self._feeds(samples):
            seen = feed | dict(zip(wanted, _run(session, wanted, feed), strict=True))
            yield Call(
                {position: seen[name] for position, name in inputs.items()},
                {name: seen[left] for name, left in values.items()},
            )

    def real(self, layer: Layer, values: Array) -> Array:
        """See ``Probe``."""
        return _channels_last(values, layer)

    def _feeds(self, samples: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
        for batch in in_batches(samples, self._batch):
            yield {name: values.astype(self._dtypes[name], copy=False) for name, values in batch.items()}

    def _giving(self, names: Iterable[str], *, threads: int = 0) -> Any:
        """A session with these tensors among its outputs; 0 threads are as many as there are cores."""
        key = frozenset(names) - set(self._dtypes), threads
        if key not in self._sessions:
            self._sessions[key] = _exposing(self._content, *key)
        return self._sessions[key]


def _exposing(content: bytes, names: Iterable[str], threads: int) -> Any:
    """The file, loaded, with more tensors among its outputs."""
    import onnx

    model = onnx.load_from_string(content)
    known = {value.name for value in model.graph.output}
    for name in sorted(set(names) - known):
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return _load(model.SerializeToString(), threads)


def _before_squashing(graph: "GraphProto", output: str) -> str:
    """What goes into the softmax or sigmoid that makes an output; the output itself where none does."""
    makers = {name: node for node in graph.node for name in node.output}
    found = output
    while found in makers and makers[found].op_type in {"QuantizeLinear", "DequantizeLinear"}:
        found = makers[found].input[0]
    if found not in makers or makers[found].op_type not in {"Softmax", "Sigmoid"}:
        return output
    return str(makers[found].input[0])


def _load(content: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions too
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Its exceptions have no common ancestor.
        message = f"ONNX Runtime cannot load the quantized file: {str(error).splitlines()[0].rstrip('.')}."
        raise ModelError("EK410", message, "Try another recipe or engine.", detail=str(error)) from error


def _run(session: Any, names: list[str], feed: dict[str, Array]) -> list[Array]:
    if not names:
        return []
    try:
        found: list[Array] = session.run(names, feed)
    except Exception as error:
        message = f"ONNX Runtime failed to run the quantized file: {str(error).splitlines()[0].rstrip('.')}."
        raise ModelError("EK411", message, "Try another recipe or engine.", detail=str(error)) from error
    return found


def _channels_last(values: Array, layer: Layer) -> Array:
    """(n, channels, height, width) to (n, height, width, channels); a sequence (n, channels, length) has width 1."""
    if layer.window is None:
        return values
    image = values if values.ndim == 4 else values[..., None]
    return np.moveaxis(image, 1, -1)


def _key(node: "NodeProto") -> tuple[str, str]:
    return node.name, node.output[0]


def _paired(original: "ModelProto", quantized: "ModelProto") -> list[tuple[Layer, _Places]]:
    floats, integers = Constants(original.graph), Constants(quantized.graph)
    shapes = {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in (*original.graph.input, *original.graph.value_info)
    }
    names = Counter(node.name for node in quantized.graph.node)
    twins = {node.name: node for node in quantized.graph.node if names[node.name] == 1}
    found = []
    for position, one in enumerate(original.graph.node):
        other = twins.get(one.name)
        if other is None or other.op_type != one.op_type or one.op_type not in {"Conv", "Gemm", "MatMul"}:
            continue
        window = _window(one, floats, shapes.get(one.input[0], ())) if one.op_type == "Conv" else None
        if one.op_type == "Conv" and window is None:
            continue
        layer = _layer(position, (floats, one), (integers, other), window)
        if layer is not None:
            found.append(layer)
    return found


def _layer(
    position: int,
    original: "tuple[Constants, NodeProto]",
    quantized: "tuple[Constants, NodeProto]",
    window: Window | None,
) -> tuple[Layer, _Places] | None:
    """One layer, None where its weights are no constant integers, or where nothing holds or takes a bias."""
    (floats, one), (integers, other) = original, quantized
    attributes = _attributes(one)
    if attributes.get("transA", 0) or {attributes.get("alpha", 1.0), attributes.get("beta", 1.0)} != {1.0}:
        return None
    exact, rounded = floats.read(one.input[1]), integers.read(other.input[1])
    biased, biased_other = _biased(floats, one), _biased(integers, other)
    if exact is None or rounded is None or rounded.dtype not in _LIMITS or rounded.zero_points.any():
        return None
    if biased is None or biased_other is None or integers.step_behind(other.input[0]) is None:
        return None
    weights, outputs = _as_columns(exact.values, one), _as_columns(exact.values, one).shape[-1]
    bias, rounded_bias = _bias(floats, biased, outputs), _bias(integers, biased_other, outputs)
    if bias is None or rounded_bias is None or rounded.steps.size not in {1, outputs}:
        return None
    layer = Layer(
        position,
        weights,
        _as_columns(rounded.values, other),
        bias,
        rounded_bias,
        np.broadcast_to(rounded.steps, outputs),
        _LIMITS[rounded.dtype],
        window,
        int(attributes.get("group", 1)),
        is_per_channel=rounded.steps.size > 1,
    )
    return layer, _Places(one.input[0], other.input[0], other, *biased_other)


def _biased(constants: Constants, node: "NodeProto") -> "tuple[NodeProto, int] | None":
    """The node and its input that hold the bias; for a product of matrices that is the sum behind it."""
    if node.op_type != "MatMul":
        return node, 2
    added = constants.only_reader(node.output[0])
    if added is None or added.op_type != "Add":
        return None
    places = [index for index, name in enumerate(added.input) if constants.read(name) is not None]
    return (added, places[0]) if len(places) == 1 else None


def _bias(constants: Constants, place: "tuple[NodeProto, int]", outputs: int) -> Floats | None:
    """The bias, zeros where there is none, None where it is no constant with one number per output channel."""
    node, index = place
    if len(node.input) <= index or not node.input[index]:
        return np.zeros(outputs)
    found = constants.read(node.input[index])
    if found is None or found.values.size != outputs or found.values.shape[-1] != outputs:
        return None
    return found.values.ravel()


def _window(node: "NodeProto", constants: Constants, shape: tuple[int, ...]) -> Window | None:
    """None for convolutions of other ranks, and where the padding depends on a size that is not known."""
    weights = constants.read(node.input[1])
    if weights is None or weights.values.ndim not in {3, 4}:
        return None
    rank, attributes = weights.values.ndim - 2, _attributes(node)
    kernel = weights.values.shape[2:]
    strides = attributes.get("strides") or [1] * rank
    dilations = attributes.get("dilations") or [1] * rank
    pads = attributes.get("pads") or [0] * (2 * rank)
    sides = [(int(pads[axis]), int(pads[axis + rank])) for axis in range(rank)]
    kind = attributes.get("auto_pad", b"NOTSET").decode()
    if kind == "VALID":
        sides = [(0, 0)] * rank
    elif kind.startswith("SAME"):
        if len(shape) != rank + 2 or not all(shape[2:]):
            return None
        sides = [
            same_padding(shape[2 + axis], kernel[axis], strides[axis], dilations[axis])
            for axis in range(rank)
        ]
        # The larger half is in front in the one case and behind in the other.
        sides = [side[::-1] for side in sides] if kind == "SAME_LOWER" else sides
    return Window(
        _pair(kernel, 1),
        _pair(strides, 1),
        _pair(dilations, 1),
        (sides[0], sides[1] if rank == 2 else (0, 0)),
    )


def _pair(numbers: Sequence[int], missing: int) -> tuple[int, int]:
    return int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else missing


def _attributes(node: "NodeProto") -> dict[str, Any]:
    from onnx import helper

    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def _as_columns(weights: Array, node: "NodeProto") -> Array:
    """Weights as ``Layer`` has them: (16, 8, 3, 3) to (3, 3, 8, 16), (10, 64) of a transposed Gemm to (64, 10)."""
    if node.op_type == "Conv":
        image = weights if weights.ndim == 4 else weights[..., None]
        return image.transpose(2, 3, 1, 0)
    return weights.T if _attributes(node).get("transB", 0) else weights


def _as_stored(weights: Array, node: "NodeProto", shape: tuple[int, ...]) -> Array:
    """The way back."""
    if node.op_type == "Conv":
        return weights.transpose(3, 2, 0, 1).reshape(shape)
    return weights.T if _attributes(node).get("transB", 0) else weights


def _apply(constants: Constants, layer: Layer, places: _Places, change: Change) -> None:
    """Write a change into the quantized file."""
    node = places.node
    before = constants.read(node.input[1])
    if before is None:
        raise ValueError("the layer's weights are no constant any more")
    if change.steps is not None and not layer.is_per_channel and len(set(change.steps)) > 1:
        raise ValueError("this layer has one step for all of its channels")
    steps = layer.steps if change.steps is None else change.steps
    integers = np.rint(layer.rounded / layer.steps) if change.integers is None else change.integers
    if change.integers is not None or change.steps is not None:
        stored = replace(before, steps=steps if layer.is_per_channel else steps[:1])
        constants.write(node, 1, stored, _as_stored(integers, node, before.values.shape))
    if change.bias is not None or change.steps is not None:
        bias = layer.rounded_bias if change.bias is None else change.bias
        _write_bias(constants, places, bias, steps if layer.is_per_channel else steps[:1])


def _write_bias(constants: Constants, places: _Places, bias: Floats, steps: Floats) -> None:
    node, index = places.bias_node, places.bias_index
    name = node.input[index] if len(node.input) > index else ""
    stored = constants.read(name) if name else None
    if stored is not None and stored.dtype == "float32":
        constants.write(node, index, stored, bias.reshape(stored.values.shape))
    elif stored is None or stored.dtype == "int32":
        shape = bias.shape if stored is None else stored.values.shape
        constants.write_bias(node, index, bias.reshape(shape), steps)
    else:
        constants.write_on_new_grid(node, index, stored, bias)
