"""Balance the channels of a float ``.onnx`` file, so that int8 has less to lose: what ``equalize`` does, for ONNX.

Layers that give and take factors are Conv, Gemm and BatchNormalization; Relu, LeakyRelu, Clip from 0 to 6, pools,
Flatten and sums let them pass. A batch norm counts as a depthwise layer, for that is what it is to its channels.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import onnx_model
from edgekit.passes import _channel_scales as scales
from edgekit.passes._scaling_groups import Floats, Graph, Weighted, find_groups
from edgekit.passes.equalize import CHECKED, FIRST_SAMPLES, SAMPLES, WORTH_DB, Changes, Equalization, planned
from edgekit.tensor import Array, difference

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

# The names that the search for groups knows; what is not here lets no factor through.
_KINDS = {
    "Conv": "CONV_2D", "Gemm": "FULLY_CONNECTED", "BatchNormalization": "DEPTHWISE_CONV_2D", "Relu": "RELU",
    "LeakyRelu": "LEAKY_RELU", "MaxPool": "MAX_POOL_2D", "GlobalMaxPool": "MAX_POOL_2D", "Flatten": "RESHAPE",
    "AveragePool": "AVERAGE_POOL_2D", "GlobalAveragePool": "AVERAGE_POOL_2D", "Reshape": "RESHAPE", "Add": "ADD",
    "Identity": "SQUEEZE", "Dropout": "SQUEEZE",
}  # fmt: skip
_RELU6 = (0.0, 6.0)
_EPSILON = 1e-5
_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})


def equalize_onnx(
    model: "ModelProto", samples: Mapping[str, Array], *, imbalance_db: float = WORTH_DB
) -> Equalization:
    """Balance the channels of a float model.

    Args:
        model: The model with all its weights; it stays as it is.
        samples: What the ranges of activations are taken from, by input name: ``{"x": (256, 3, 32, 32)}``.
        imbalance_db: Everything is left alone unless a group of channels is expected to gain so much.

    Returns:
        The new file's bytes, or those of ``model`` where nothing is to be gained, or where the outputs changed.
    """
    import onnx

    content: bytes = model.SerializeToString()
    bound = onnx.load_from_string(content)
    onnx_model.bind_batch(bound, 1)
    if not all(_is_usual(value) for value in bound.graph.input):
        return Equalization(content)
    graph = _OnnxGraph(onnx.shape_inference.infer_shapes(bound))
    # A batch norm behind a convolution becomes part of it: what is between them is never rounded.
    groups = [
        group for group in find_groups(graph) if not all(graph.is_norm(taker) for taker in group.takers)
    ]
    changes = Changes()
    for count in (FIRST_SAMPLES, SAMPLES):
        some = {name: values[:count] for name, values in samples.items()}
        seen = scales.gathered(_values(model, graph, scales.needed(groups), some) if groups else ())
        changes = planned(graph, groups, seen)
        if max(changes.gains, default=0.0) < imbalance_db:
            return Equalization(content)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for layer in changes.layers.values():
        graph.write(result, layer)
    few = {name: values[:CHECKED] for name, values in samples.items()}
    exact, measured = (_outputs(one, few) for one in (model, result))
    same_db = min(difference(one, other).snr_db for one, other in zip(exact, measured, strict=True))
    return changes.judged(content, result.SerializeToString(), same_db)


class _OnnxGraph(Graph):
    """The main graph with numbers for names, and the channels of every tensor last."""

    def __init__(self, model: "ModelProto") -> None:
        from onnx import numpy_helper

        proto = model.graph
        values = [*proto.input, *proto.output, *proto.value_info]
        self._shapes = {value.name: _shape(value) for value in values if _is_float(value)}
        given = {value.name for value in proto.input}
        self.constants: dict[str, Array] = {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in proto.initializer
            if tensor.name not in given
        }
        self.nodes = list(proto.node)
        names = [name for node in self.nodes for name in (*node.input, *node.output)]
        names += [value.name for value in (*proto.input, *proto.output)]
        self.names = list(dict.fromkeys(names))
        self.numbers = {name: index for index, name in enumerate(self.names)}
        self.graph = SimpleNamespace(inputs=self._of(proto.input), outputs=self._of(proto.output))
        self.operators = [
            SimpleNamespace(
                inputs=[self.numbers[name] for name in node.input if name],
                outputs=[self.numbers[name] for name in node.output if name],
            )
            for node in self.nodes
        ]
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.kinds = [self._kind(node) for node in self.nodes]
        self.uses = Counter(name for node in self.nodes for name in node.input)
        self.readers = {}
        for position, operator in enumerate(self.operators):
            for index in operator.inputs:
                self.readers.setdefault(index, []).append(position)
        self.layers = {layer.position: layer for layer in self._layers()}

    def _of(self, values: Any) -> list[int]:
        return [self.numbers[value.name] for value in values]

    def _kind(self, node: "NodeProto") -> str:
        if any(one.HasField("g") or one.graphs for one in node.attribute):
            return "CALL"
        if node.op_type == "Clip":
            bounds = [self.constants.get(name) for name in node.input[1:3]]
            if len(bounds) == 2 and all(one is not None for one in bounds):
                return "RELU6" if tuple(float(one) for one in bounds if one is not None) == _RELU6 else "CLIP"
        kind: str = _KINDS.get(node.op_type, node.op_type)
        ranks = (
            [len(self._shapes.get(name, ())) for name in (node.input[0], node.output[0])]
            if node.input
            else []
        )
        # A flattened image keeps its channels together; another shape may mix them. So may a sum of both kinds.
        is_mixed = kind == "RESHAPE" and (ranks[1] != 2 or ranks[0] < 2)
        is_mixed |= kind == "ADD" and any(self._positions(name) > 1 for name in node.input)
        return "CALL" if is_mixed else kind

    def is_norm(self, layer: Weighted) -> bool:
        """Whether a layer is a batch norm."""
        return bool(self.nodes[layer.position].op_type == "BatchNormalization")

    def shape(self, index: int) -> tuple[int, ...]:
        """A tensor's shape as if its channels were last: (1, 3, 32, 32) is (1, 32, 32, 3)."""
        batch, channels, *spatial = (*self._shapes[self.names[index]], 1, 1)[: max(2, self._rank(index))]
        return (batch, *spatial, channels)

    def _rank(self, index: int) -> int:
        return len(self._shapes[self.names[index]])

    def is_real(self, index: int) -> bool:
        """Whether a tensor holds computed real numbers, and its shape is known."""
        name = self.names[index]
        shape = self._shapes.get(name, ())
        return name not in self.constants and len(shape) > 1 and all(size > 0 for size in shape)

    def activation(self, position: int) -> str:
        """ONNX fuses none; a Clip is its own."""
        return "RELU6" if self.kinds[position] == "RELU6" else "NONE"

    def spatial(self, index: int) -> int:
        """Of how many positions a flattened image consists; 1 for all else."""
        return self._positions(self.names[index])

    def _positions(self, name: str) -> int:
        maker = self.makers.get(name)
        if maker is None or len(self._shapes.get(name, ())) != 2 or maker.op_type in _LAYERS:
            return 1
        shape = self._shapes.get(maker.input[0], ())
        return self._positions(maker.input[0]) if len(shape) == 2 else int(np.prod(shape[2:]))

    def channels_last(self, index: int, values: Array) -> Array:
        """Rows of channels; in a flattened image the positions of a channel lie side by side."""
        positions = self.spatial(index)
        if values.ndim == 2 and positions > 1:
            return values.reshape(len(values), -1, positions).swapaxes(1, 2).reshape(len(values), -1)
        return np.moveaxis(values, 1, -1)

    def _layers(self) -> Iterator[Weighted]:
        for position, node in enumerate(self.nodes):
            read = {"Conv": self._conv, "Gemm": self._gemm, "BatchNormalization": self._norm}.get(
                node.op_type
            )
            names = [name for name in node.input[1:] if name]
            is_own = all(name in self.constants and self.uses[name] == 1 for name in names)
            if (
                read is None
                or not is_own
                or not all(self.is_real(self.numbers[n]) for n in (node.input[0], node.output[0]))
            ):
                continue
            found = read(node)
            if found is not None:
                weights, bias, pads = found
                is_depthwise = weights.ndim == 3
                ends = [self.numbers[name] for name in (node.input[0], node.output[0])]
                kind = "DEPTHWISE_CONV_2D" if is_depthwise else self.kinds[position]
                multiplier = weights.shape[-1] // self.shape(ends[0])[-1] if is_depthwise else 1
                source, made = ends
                yield Weighted(position, kind, source, made, -1, -1, weights, bias, "NONE", pads, multiplier)

    def _conv(self, node: "NodeProto") -> tuple[Floats, Floats | None, bool] | None:
        weights = self.constants[node.input[1]].astype(np.float64)
        groups = _attribute(node, "group", 1)
        pads = any(_attribute(node, "pads", [])) or _attribute(node, "auto_pad", b"NOTSET") not in {
            b"NOTSET",
            b"VALID",
        }
        bias = self._bias(node)
        if groups == 1:
            return np.moveaxis(weights, (1, 0), (-2, -1)).reshape(1, -1, *weights.shape[1::-1]), bias, pads
        is_depthwise = weights.shape[1] == 1 and groups == self.shape(self.numbers[node.input[0]])[-1]
        return (weights.reshape(len(weights), -1).T[:, None], bias, pads) if is_depthwise else None

    def _gemm(self, node: "NodeProto") -> tuple[Floats, Floats | None, bool] | None:
        plain = _attribute(node, "alpha", 1.0) == _attribute(node, "beta", 1.0) == 1 and not _attribute(
            node, "transA", 0
        )
        if not plain:
            return None
        weights = self.constants[node.input[1]].astype(np.float64)
        weights = weights.T if _attribute(node, "transB", 0) else weights
        positions = self.spatial(self.numbers[node.input[0]])
        rows = weights.reshape(-1, positions, weights.shape[1]).swapaxes(0, 1)
        return rows.reshape(weights.shape), self._bias(node), False

    def _norm(self, node: "NodeProto") -> tuple[Floats, Floats | None, bool] | None:
        if len(node.output) > 1 or self._positions(node.input[0]) > 1:
            return None
        gamma, beta, mean, variance = (self.constants[name].astype(np.float64) for name in node.input[1:])
        factor = gamma / np.sqrt(variance + _attribute(node, "epsilon", _EPSILON))
        return factor[None, None], beta - mean * factor, False

    def _bias(self, node: "NodeProto") -> Floats | None:
        return self.constants[node.input[2]].astype(np.float64).ravel() if len(node.input) > 2 else None

    def write(self, model: "ModelProto", layer: Weighted) -> None:
        """Put a layer's constants in place."""
        node = self.nodes[layer.position]
        stored = {tensor.name: tensor for tensor in model.graph.initializer}
        new: dict[str, Floats] = {}
        shape = self.constants[node.input[1]].shape
        if node.op_type == "BatchNormalization":
            variance = self.constants[node.input[4]].astype(np.float64)
            new[node.input[1]] = layer.weights.ravel() * np.sqrt(
                variance + _attribute(node, "epsilon", _EPSILON)
            )
            new[node.input[2]] = np.zeros(shape) if layer.bias is None else layer.bias
            new[node.input[3]] = np.zeros(shape)
        else:
            new[node.input[1]] = self._stored(node, layer, shape)
            if layer.bias is not None:
                new[node.input[2]] = layer.bias.reshape(self.constants[node.input[2]].shape)
        for name, values in new.items():
            from onnx import numpy_helper

            stored[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))

    def _stored(self, node: "NodeProto", layer: Weighted, shape: tuple[int, ...]) -> Floats:
        """Weights as the node has them."""
        if layer.is_depthwise:
            return layer.weights[:, 0].T.reshape(shape)
        if node.op_type == "Conv":
            taps = layer.weights.reshape(*shape[2:], shape[1], shape[0])
            return np.moveaxis(taps, (-2, -1), (1, 0))
        positions = self.spatial(layer.source)
        rows = layer.weights.reshape(positions, -1, layer.weights.shape[-1]).swapaxes(0, 1)
        weights = rows.reshape(layer.weights.shape)
        return weights.T if _attribute(node, "transB", 0) else weights


def _is_usual(value: Any) -> bool:
    """Whether an input is of real numbers or integers that samples can be given as, one at a time."""
    from onnx import TensorProto

    kinds = {TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32}
    return bool(value.type.tensor_type.elem_type in kinds and _shape(value)[:1] == (1,))


def _shape(value: Any) -> tuple[int, ...]:
    """A tensor's shape, 0 for what is not known."""
    return tuple(int(size.dim_value) for size in value.type.tensor_type.shape.dim)


def _is_float(value: Any) -> bool:
    from onnx import TensorProto

    return bool(
        value.type.tensor_type.elem_type == TensorProto.FLOAT and value.type.tensor_type.HasField("shape")
    )


def _attribute(node: "NodeProto", name: str, default: Any) -> Any:
    from onnx import helper

    found = next((one for one in node.attribute if one.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _values(
    model: "ModelProto", graph: _OnnxGraph, wanted: set[int], samples: Mapping[str, Array]
) -> Iterator[tuple[int, Array]]:
    """Inner tensors sample by sample, channels last."""
    import onnx

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    present = {value.name for value in (*probe.graph.output, *probe.graph.input)}
    names = [graph.names[index] for index in sorted(wanted)]
    probe.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name not in present
    )
    run = _session(probe)
    for sample in _singly(samples):
        values = {**sample, **run(sample)}
        for name in names:
            index = graph.numbers[name]
            yield index, graph.channels_last(index, values[name])


def _outputs(model: "ModelProto", samples: Mapping[str, Array]) -> list[Array]:
    run = _session(model)
    made = [run(sample) for sample in _singly(samples)]
    return [np.array([one[name] for one in made]) for name in made[0]]


def _singly(samples: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    for index in range(len(next(iter(samples.values())))):
        yield {name: values[index : index + 1] for name, values in samples.items()}


def _session(model: "ModelProto") -> Any:
    """Runs a model on a sample: outputs by name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    types = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
    kinds = {entry.name: types.get(entry.type, np.float32) for entry in session.get_inputs()}
    names = [entry.name for entry in session.get_outputs()]

    def run(sample: Mapping[str, Array]) -> dict[str, Array]:
        given = {name: np.asarray(values, kinds[name]) for name, values in sample.items()}
        return dict(zip(names, session.run(None, given), strict=True))

    return run
