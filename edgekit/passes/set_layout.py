"""Change how images lie in the inputs and outputs of a ``.tflite`` model: NHWC or NCHW."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgekit import flatbuffer
from edgekit.errors import ModelError
from edgekit.passes import _graph
from edgekit.tensor import Array

Layout = Literal["nhwc", "nchw"]

TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
# What moves an image that lies so into the other layout.
AWAY_FROM = {"nhwc": TO_NCHW, "nchw": TO_NHWC}
_SPATIAL = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"}
    | {"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE"}
)
# What leaves every value, or its neighbourhood, in its place.
_ELEMENTWISE = frozenset(
    {"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "PRELU"}
    | {"ELU", "HARD_SWISH", "LOGISTIC", "TANH", "GELU", "ABS", "NEG", "EXP", "SQRT", "RSQRT", "SQUARE"}
    | {"QUANTIZE", "DEQUANTIZE", "CAST", "PAD", "PADV2", "MIRROR_PAD", "CONCATENATION"}
)


@dataclass(frozen=True)
class LayoutChange:
    """The new file, the names of the tensors that lie otherwise now, and of those whose layout is not known."""

    model: bytes
    moved: tuple[str, ...]
    unknown: tuple[str, ...]


def set_layout(model: bytes, layout: Layout) -> LayoutChange:
    """Let every image that goes in or out lie as asked; inside nothing changes.

    How an image lies is found from the first operator that tells: convolutions and poolings of ``.tflite`` take NHWC,
    and converters transpose what lies otherwise. Such a transposition goes where it becomes superfluous.

    Args:
        model: The file's bytes, with an input of shape (1, 3, 32, 32) that is transposed to (1, 32, 32, 3).
        layout: ``"nhwc"``: the input of the new file has shape (1, 32, 32, 3).

    Returns:
        The new file's bytes, or ``model`` itself where nothing lies otherwise. Its outputs are those of ``model`` bit
        for bit with the reference kernels, which is checked on random inputs.

    Raises:
        ModelError: The file is unreadable or too large, or its outputs would differ.
    """
    tree = flatbuffer.read(model)
    ends = dict(_ends(tree))
    moved = {index: found for index, found in ends.items() if found is not None and found != layout}
    unknown = tuple(_name(tree, index) for index, found in ends.items() if found is None)
    if not moved:
        return LayoutChange(model, (), unknown)
    _graph.check_order_is_free(tree)
    result = flatbuffer.rewrite(model, lambda fresh: _move_all(fresh, moved))
    _check_equal(tree, model, result, moved)
    return LayoutChange(result, tuple(_name(tree, index) for index in moved), unknown)


def _ends(tree: flatbuffer.Model) -> Iterator[tuple[int, Layout | None]]:
    """Inputs and outputs of rank four with their layout, None where nothing tells."""
    graph = tree.subgraphs[0]
    for index in _graph.numbers(graph.inputs):
        if len(_graph.numbers(graph.tensors[index].shape)) == 4:
            yield index, _layout(tree, index, forward=True)
    for index in _graph.numbers(graph.outputs):
        if len(_graph.numbers(graph.tensors[index].shape)) == 4:
            yield index, _layout(tree, index, forward=False)


def _layout(tree: flatbuffer.Model, start: int, *, forward: bool) -> Layout | None:
    """How an image lies, from the operators that follow it, or that it comes from."""
    graph = tree.subgraphs[0]
    waiting, seen = [start], set()
    while waiting:
        index = waiting.pop(0)
        if index in seen:
            continue
        seen.add(index)
        for operator in graph.operators or []:
            near, far = _graph.numbers(operator.inputs), _graph.numbers(operator.outputs)
            if not forward:
                near, far = far, near
            if index not in near:
                continue
            kind = _kind(tree, operator)
            if kind == "TRANSPOSE":
                if found := _transposed(tree, operator, forward=forward):
                    return found
            elif kind in _SPATIAL:
                return "nhwc"
            elif kind in _ELEMENTWISE:
                waiting += [i for i in far if i >= 0 and len(_graph.numbers(graph.tensors[i].shape)) == 4]
    return None


def _transposed(tree: flatbuffer.Model, operator: Any, *, forward: bool) -> Layout | None:
    """What a transposition says of its input, or of its output: the converters' ways lead to NHWC and back."""
    order = _order(tree, operator)
    if order == TO_NHWC:
        return "nchw" if forward else "nhwc"
    if order == TO_NCHW:
        return "nhwc" if forward else "nchw"
    return None


def _move_all(tree: flatbuffer.Model, moved: dict[int, Layout]) -> None:
    graph = tree.subgraphs[0]
    outputs = set(_graph.numbers(graph.outputs))
    for index, found in moved.items():
        _move(tree, index, AWAY_FROM[found], is_output=index in outputs)
    _cancel(tree)
    used = {*_graph.numbers(graph.inputs), *outputs}
    for operator in graph.operators:
        used |= {*_graph.numbers(operator.inputs), *_graph.numbers(operator.outputs)}
    _graph.remove_tensors(tree, 0, set(range(len(graph.tensors))) - used)


def _move(tree: flatbuffer.Model, index: int, order: Sequence[int], *, is_output: bool) -> None:
    """Put a transposition behind an input, or before an output, which keeps its number and its name."""
    from ai_edge_litert import schema_py_generated as schema

    graph = tree.subgraphs[0]
    end = graph.tensors[index]
    inner = schema.TensorT(
        name=(end.name or b"") + b"/inside",
        type=end.type,
        shape=_graph.numbers(end.shape),
        shapeSignature=end.shapeSignature,
        quantization=end.quantization,
    )
    graph.tensors.append(inner)
    place = len(graph.tensors) - 1
    for operator in graph.operators:
        for field in ("inputs", "outputs"):
            setattr(
                operator,
                field,
                [place if i == index else i for i in _graph.numbers(getattr(operator, field))],
            )
    shape = _graph.numbers(end.shape)
    end.shape = [shape[axis] for axis in order]
    if end.shapeSignature is not None:
        signature = _graph.numbers(end.shapeSignature)
        end.shapeSignature = [signature[axis] for axis in order]
    back = order if is_output else [list(order).index(axis) for axis in range(4)]
    ends = (place, index) if is_output else (index, place)
    # Versions 1 to 6 of TRANSPOSE differ in types and rank; 2 has int8 and int16 is version 4.
    version = {schema.TensorType.FLOAT32: 1, schema.TensorType.INT16: 4}.get(end.type, 2)
    operator = schema.OperatorT(
        opcodeIndex=_graph.operator_code(tree, schema.BuiltinOperator.TRANSPOSE, version),
        inputs=[ends[0], _constant(tree, back)],
        outputs=[ends[1]],
        builtinOptionsType=schema.BuiltinOptions.TransposeOptions,
        builtinOptions=schema.TransposeOptionsT(),
    )
    graph.operators = [*graph.operators, operator] if is_output else [operator, *graph.operators]


def _cancel(tree: flatbuffer.Model) -> None:
    """Take out transpositions that undo each other."""
    graph = tree.subgraphs[0]
    makers = {
        operator.outputs[0]: operator for operator in graph.operators if _kind(tree, operator) == "TRANSPOSE"
    }
    outputs = set(_graph.numbers(graph.outputs))
    for second in list(makers.values()):
        first = makers.get(second.inputs[0])
        orders = (_order(tree, first), _order(tree, second)) if first is not None else None
        if first is None or orders not in ((TO_NHWC, TO_NCHW), (TO_NCHW, TO_NHWC)):
            continue
        origin, result = first.inputs[0], second.outputs[0]
        if result in outputs:
            _write_directly(tree, origin, result, second)
        else:
            for operator in graph.operators:
                operator.inputs = [origin if i == result else i for i in _graph.numbers(operator.inputs)]
            graph.operators = [operator for operator in graph.operators if operator is not second]
    read = {index for operator in graph.operators for index in _graph.numbers(operator.inputs)} | outputs
    graph.operators = [
        operator
        for operator in graph.operators
        if _kind(tree, operator) != "TRANSPOSE" or operator.outputs[0] in read
    ]


def _write_directly(tree: flatbuffer.Model, origin: int, result: int, second: Any) -> None:
    """Let what makes ``origin`` write the output itself; an input of the model is no operator's to write."""
    graph = tree.subgraphs[0]
    if origin in _graph.numbers(graph.inputs) or origin in _graph.numbers(graph.outputs):
        return
    graph.operators = [operator for operator in graph.operators if operator is not second]
    for operator in graph.operators:
        for field in ("inputs", "outputs"):
            setattr(
                operator,
                field,
                [result if i == origin else i for i in _graph.numbers(getattr(operator, field))],
            )


def _constant(tree: flatbuffer.Model, order: Sequence[int]) -> int:
    from ai_edge_litert import schema_py_generated as schema

    graph = tree.subgraphs[0]
    tree.buffers.append(schema.BufferT(data=np.frombuffer(np.array(order, np.int32).tobytes(), np.uint8)))
    graph.tensors.append(
        schema.TensorT(
            name=b"order%d" % len(graph.tensors),
            type=schema.TensorType.INT32,
            shape=[4],
            buffer=len(tree.buffers) - 1,
        )
    )
    return len(graph.tensors) - 1


def _order(tree: flatbuffer.Model, operator: Any) -> tuple[int, ...] | None:
    """The axes of a transposition, None where they are computed."""
    data = tree.buffers[tree.subgraphs[0].tensors[operator.inputs[1]].buffer].data
    if data is None or len(data) != 16:
        return None
    return tuple(int(axis) for axis in np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.int32))


def _kind(tree: flatbuffer.Model, operator: Any) -> str:
    from ai_edge_litert import schema_py_generated as schema

    builtin = _graph.builtin_of(tree.operatorCodes[operator.opcodeIndex])
    return next((str(name) for name, value in vars(schema.BuiltinOperator).items() if value == builtin), "")


def _name(tree: flatbuffer.Model, index: int) -> str:
    for side in ("inputs", "outputs"):
        for entry in _graph.signature_entries(tree, 0, side):
            if entry.tensorIndex == index:
                return str(entry.name.decode(errors="replace"))
    return str((tree.subgraphs[0].tensors[index].name or b"").decode(errors="replace"))


def _check_equal(tree: flatbuffer.Model, before: bytes, after: bytes, moved: dict[int, Layout]) -> None:
    """Run both on the same random images, which lie as each wants them."""
    graph = tree.subgraphs[0]

    def moving(values: Sequence[Array], indices: Any) -> list[Array]:
        pairs = zip(values, _graph.numbers(indices), strict=True)
        return [value.transpose(AWAY_FROM[moved[i]]) if i in moved else value for value, i in pairs]

    random = np.random.default_rng(0)
    shapes = [_graph.numbers(graph.tensors[index].shape) for index in _graph.numbers(graph.inputs)]
    inputs = [random.integers(-1, 2, shape) for shape in shapes]
    wanted = moving(_run(before, inputs), graph.outputs)
    given = _run(after, moving(inputs, graph.inputs))
    if any(one.tobytes() != other.tobytes() for one, other in zip(wanted, given, strict=True)):
        message = "The layout cannot be changed: the outputs would change."
        raise ModelError("EK386", message, "Leave --layout at keep.")


def _run(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    details = interpreter.get_input_details()
    for detail, value in zip(details, inputs, strict=True):
        interpreter.resize_tensor_input(detail["index"], value.shape)
    interpreter.allocate_tensors()
    for detail, value in zip(details, inputs, strict=True):
        interpreter.set_tensor(detail["index"], value.astype(detail["dtype"]))
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
