"""Change how images lie in the inputs and outputs of an ``.onnx`` model: NHWC or NCHW."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import ModelError
from edgekit.passes.set_layout import AWAY_FROM, TO_NCHW, TO_NHWC, Layout, LayoutChange
from edgekit.tensor import Array

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

_SPATIAL = frozenset(
    {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool", "GlobalAveragePool"}
    | {"GlobalMaxPool", "BatchNormalization", "InstanceNormalization", "SpaceToDepth", "DepthToSpace"}
)
# What leaves every value, or its neighbourhood, in its place.
_ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Min", "Max", "Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "PRelu", "Elu"}
    | {
        "HardSwish",
        "HardSigmoid",
        "Gelu",
        "Abs",
        "Neg",
        "Exp",
        "Sqrt",
        "Pow",
        "Cast",
        "Identity",
        "Pad",
        "Concat",
    }
    | {"QuantizeLinear", "DequantizeLinear"}
)


def set_layout_onnx(model: bytes, layout: Layout) -> LayoutChange:
    """Let every image that goes in or out lie as asked; inside nothing changes.

    How an image lies is found from the first operator that tells: convolutions and poolings of ONNX take NCHW, and
    converters transpose what lies otherwise. Such a transposition goes where it becomes superfluous.

    Args:
        model: The file's bytes, with an input of shape (1, 3, 32, 32) that a convolution reads.
        layout: ``"nhwc"``: the input of the new file has shape (1, 32, 32, 3).

    Returns:
        The new file's bytes, or ``model`` itself where nothing lies otherwise. Its outputs are those of ``model`` bit
        for bit without ONNX Runtime's own changes to the graph, which is checked on random inputs.

    Raises:
        ModelError: The outputs would differ, or the model has inner graphs.
    """
    import onnx

    proto = onnx.load_from_string(model)
    graph = proto.graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    ends = dict(_ends(graph, inputs, graph.output))
    moved = {name: found for name, found in ends.items() if found is not None and found != layout}
    unknown = tuple(name for name, found in ends.items() if found is None)
    if not moved:
        return LayoutChange(model, (), unknown)
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        raise _impossible("it has conditions or loops, whose graphs use the same names")
    for value in [*inputs, *graph.output]:
        if value.name in moved:
            _move(graph, value, AWAY_FROM[moved[value.name]], is_output=value in list(graph.output))
    _cancel(graph)
    result: bytes = proto.SerializeToString()
    _check_equal(model, result, moved)
    return LayoutChange(result, tuple(moved), unknown)


def images_in(model: "ModelProto") -> list[str]:
    """The inputs in which images lie as convolutions of ONNX read them, NCHW: ``["image"]``."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    return [name for name, found in _ends(model.graph, inputs, []) if found == "nchw"]


def _ends(
    graph: "GraphProto", inputs: "Sequence[ValueInfoProto]", outputs: "Sequence[ValueInfoProto]"
) -> Iterator[tuple[str, Layout | None]]:
    """Inputs and outputs of rank four with their layout, None where nothing tells."""
    for values, forward in ((inputs, True), (outputs, False)):
        for value in values:
            if len(value.type.tensor_type.shape.dim) == 4:
                yield value.name, _layout(graph, value.name, forward=forward)


def _layout(graph: "GraphProto", start: str, *, forward: bool) -> Layout | None:
    """How an image lies, from the operators that follow it, or that it comes from."""
    waiting, seen = [start], set()
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        for node in graph.node:
            near, far = (node.input, node.output) if forward else (node.output, node.input)
            if name not in near:
                continue
            if node.op_type == "Transpose":
                order = _order(node)
                if order in (TO_NHWC, TO_NCHW):
                    return "nchw" if (order == TO_NHWC) is forward else "nhwc"
            elif node.op_type in _SPATIAL:
                return "nchw"
            elif node.op_type in _ELEMENTWISE:
                waiting += list(far)
    return None


def _move(graph: "GraphProto", value: "ValueInfoProto", order: Sequence[int], *, is_output: bool) -> None:
    """Put a transposition behind an input, or before an output, which keeps its name."""
    from onnx import helper

    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    inner = next(name for number in count() if (name := f"{value.name}__inside{number}") not in taken)
    for node in graph.node:
        _rename(node, value.name, inner)
    sizes = list(value.type.tensor_type.shape.dim)
    shape = type(value.type.tensor_type.shape)(dim=[sizes[axis] for axis in order])
    value.type.tensor_type.shape.CopyFrom(shape)
    back = list(order) if is_output else [list(order).index(axis) for axis in range(4)]
    ends = (inner, value.name) if is_output else (value.name, inner)
    graph.node.insert(
        len(graph.node) if is_output else 0, helper.make_node("Transpose", [ends[0]], [ends[1]], perm=back)
    )


def _cancel(graph: "GraphProto") -> None:
    """Take out transpositions that undo each other, and those that nothing reads."""
    makers = {node.output[0]: node for node in graph.node if node.op_type == "Transpose"}
    outputs = {value.name for value in graph.output}
    inputs = {value.name for value in graph.input}
    for second in list(makers.values()):
        first = makers.get(second.input[0])
        if first is None or (_order(first), _order(second)) not in ((TO_NHWC, TO_NCHW), (TO_NCHW, TO_NHWC)):
            continue
        origin, result = first.input[0], second.output[0]
        if result in outputs and origin in inputs | outputs:
            continue  # an input of the model is no operator's to write
        graph.node.remove(second)
        old, new = (origin, result) if result in outputs else (result, origin)
        for node in graph.node:
            _rename(node, old, new)
    read = {name for node in graph.node for name in node.input} | outputs
    for node in [node for node in graph.node if node.op_type == "Transpose" and node.output[0] not in read]:
        graph.node.remove(node)


def _rename(node: "NodeProto", old: str, new: str) -> None:
    node.input[:] = [new if name == old else name for name in node.input]
    node.output[:] = [new if name == old else name for name in node.output]


def _order(node: "NodeProto") -> tuple[int, ...] | None:
    return next((tuple(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)


def _check_equal(before: bytes, after: bytes, moved: dict[str, Layout]) -> None:
    """Run both on the same random images, which lie as each wants them."""

    def moving(values: dict[str, Array]) -> dict[str, Array]:
        return {
            name: np.ascontiguousarray(value.transpose(AWAY_FROM[moved[name]])) if name in moved else value
            for name, value in values.items()
        }

    old, new = _session(before), _session(after)
    random = np.random.default_rng(0)
    inputs = {
        value.name: random.integers(
            0, 2, [size if isinstance(size, int) else 1 for size in value.shape]
        ).astype(_DTYPES.get(value.type, "float32"))
        for value in old.get_inputs()
    }
    try:
        wanted, given = _run(old, inputs), _run(new, moving(inputs))
    except Exception as error:
        raise _impossible("ONNX Runtime does not run it so", detail=str(error)) from error
    if any(value.tobytes() != given[name].tobytes() for name, value in moving(wanted).items()):
        raise _impossible("the outputs would change")


_DTYPES = {
    "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(int8)": "int8", "tensor(uint8)": "uint8",
    "tensor(int32)": "int32", "tensor(int64)": "int64", "tensor(bool)": "bool",
}  # fmt: skip


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: Any, inputs: dict[str, Array]) -> dict[str, Array]:
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _impossible(reason: str, detail: str = "") -> ModelError:
    message = f"The layout cannot be changed: {reason}."
    return ModelError("EK386", message, "Leave --layout at keep.", detail=detail)
