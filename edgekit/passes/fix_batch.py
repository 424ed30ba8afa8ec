"""Bind the free batch of a ``.tflite`` model to a number.

A free batch makes converters compute shapes while the model runs: SHAPE, STRIDED_SLICE, PACK, then a RESHAPE
that no GPU or NPU takes. With the batch known, all that follows from shapes alone is a constant.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit import flatbuffer
from edgekit.errors import ModelError
from edgekit.passes import _graph
from edgekit.tensor import Array

# A larger result, such as the zero state of a recurrent layer, is cheaper to compute than to store.
_LARGEST_CONSTANT_BYTES = 1024


def fix_batch(model: bytes, batch: int = 1) -> bytes:
    """Give a ``.tflite`` model with a free batch a fixed one, and fold what was computed from it.

    Args:
        model: The file's bytes. The first dimension of its inputs is free: ``shape_signature`` is
            ``(-1, 32, 32, 3)``.
        batch: The number of samples that the new model takes at once.

    Returns:
        The new file's bytes, or ``model`` itself where no input has a free dimension. With the reference
        kernels its outputs are those of ``model`` bit for bit, which is checked on random inputs.

    Raises:
        ModelError: The file is unreadable or too large; another dimension than the first is free; it has
            several subgraphs; it does not run with this batch, or its outputs differ.
    """
    tree = flatbuffer.read(model)
    graph = tree.subgraphs[0]
    inputs = [graph.tensors[index] for index in _graph.numbers(graph.inputs)]
    signatures = [_graph.numbers(tensor.shapeSignature) for tensor in inputs]
    if all(-1 not in signature for signature in signatures):
        return model
    if any(-1 in signature[1:] for signature in signatures):
        raise _impossible("sizes other than the batch are free too")
    if len(tree.subgraphs) > 1:
        raise _impossible("it has loops or conditions, whose shapes may change while it runs")
    _graph.check_order_is_free(tree)
    shapes = [
        (batch, *_graph.numbers(tensor.shape)[1:]) if -1 in signature else tuple(_graph.numbers(tensor.shape))
        for tensor, signature in zip(inputs, signatures, strict=True)
    ]
    runs = [_run(model, shapes, seed) for seed in range(2)]
    result = flatbuffer.rewrite(model, lambda fresh: _bind(fresh, runs))
    _check_equal(runs[1], _run(result, shapes, 1))
    return result


@dataclass(frozen=True)
class _Run:
    """One run of a model: its outputs, and every tensor's value by index."""

    outputs: list[Array]
    values: dict[int, Array]


def _run(model: bytes, shapes: Sequence[tuple[int, ...]], seed: int) -> _Run:
    """Run a model on random inputs with the reference kernels, and keep every tensor."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    random = np.random.default_rng(seed)
    try:
        with warnings.catch_warnings():
            # It warns that keeping all tensors needs memory.
            warnings.simplefilter("ignore")
            interpreter = Interpreter(
                model_content=model,
                experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
                experimental_preserve_all_tensors=True,
            )
        details = interpreter.get_input_details()
        for detail, shape in zip(details, shapes, strict=True):
            interpreter.resize_tensor_input(detail["index"], shape)
        interpreter.allocate_tensors()
        for detail, shape in zip(details, shapes, strict=True):
            # Zeros and ones are valid real numbers, integers, indices and flags alike.
            interpreter.set_tensor(detail["index"], random.integers(0, 2, shape).astype(detail["dtype"]))
        interpreter.invoke()
        values = {}
        for detail in interpreter.get_tensor_details():
            try:
                values[detail["index"]] = interpreter.get_tensor(detail["index"])
            except ValueError:
                continue  # a temporary without data
        return _Run([interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()], values)
    except (RuntimeError, ValueError) as error:
        raise _impossible("LiteRT does not run it so", detail=str(error)) from error


def _bind(tree: flatbuffer.Model, runs: Sequence[_Run]) -> None:
    graph = tree.subgraphs[0]
    folded = _fold(tree, runs[0])
    for index, tensor in enumerate(graph.tensors):
        shapes = {run.values[index].shape for run in runs if index in run.values}
        # A shape that differs between runs depends on the data, and stays free.
        if len(shapes) == 1:
            tensor.shape, tensor.shapeSignature = list(shapes.pop()), None
    used = {*_graph.numbers(graph.inputs), *_graph.numbers(graph.outputs)}
    for operator in graph.operators:
        used |= {*_graph.numbers(operator.inputs), *_graph.numbers(operator.outputs)}
    _graph.remove_tensors(tree, 0, folded - used)


def _fold(tree: flatbuffer.Model, run: _Run) -> set[int]:
    """Turn what follows from shapes alone into constants; returns the tensors of the operators removed."""
    from ai_edge_litert import schema_py_generated as schema

    codes = schema.BuiltinOperator
    graph = tree.subgraphs[0]
    stored = {index for index, tensor in enumerate(graph.tensors) if _is_stored(tree, tensor)}
    constant: set[int] = set()
    kept, touched = [], set()
    for operator in graph.operators or []:
        builtin = _graph.builtin_of(tree.operatorCodes[operator.opcodeIndex])
        inputs, outputs = _graph.numbers(operator.inputs), _graph.numbers(operator.outputs)
        known = {index for index in inputs if index >= 0}
        follows = known <= stored | constant and not known.isdisjoint(constant) and builtin in _pure(codes)
        if (builtin in {codes.SHAPE, codes.RANK} or follows) and _may_store(graph, run, outputs):
            constant |= set(outputs)
            touched |= known | set(outputs)
        else:
            kept.append(operator)
    for index in constant:
        data = np.frombuffer(run.values[index].tobytes(), np.uint8)
        graph.tensors[index].buffer = len(tree.buffers)
        tree.buffers.append(schema.BufferT(data=data))
    graph.operators = kept
    return touched


def _pure(codes: Any) -> set[int]:
    """The operators that converters compute shapes with."""
    names = (
        "STRIDED_SLICE SLICE PACK UNPACK CONCATENATION GATHER CAST RESHAPE SQUEEZE EXPAND_DIMS ADD SUB MUL "
        "DIV FLOOR_DIV FLOOR_MOD MAXIMUM MINIMUM REDUCE_PROD SUM RANGE FILL BROADCAST_ARGS EQUAL NOT_EQUAL "
        "LESS GREATER SELECT SELECT_V2 SPLIT SPLIT_V TRANSPOSE"
    )
    return {getattr(codes, name) for name in names.split()}


def _may_store(graph: Any, run: _Run, outputs: Sequence[int]) -> bool:
    """Whether the results are known, small, and nobody's output."""
    given_back = set(_graph.numbers(graph.outputs))
    return all(
        index in run.values
        and index not in given_back
        and run.values[index].nbytes <= _LARGEST_CONSTANT_BYTES
        for index in outputs
    )


def _is_stored(tree: flatbuffer.Model, tensor: Any) -> bool:
    data = tree.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _check_equal(before: _Run, after: _Run) -> None:
    for old, new in zip(before.outputs, after.outputs, strict=True):
        if old.shape != new.shape or old.tobytes() != new.tobytes():
            raise _impossible("its outputs would change")


def _impossible(reason: str, detail: str = "") -> ModelError:
    message = f"The model's batch cannot be fixed: {reason}."
    hint = "Export it with a fixed batch from its source, or use it as it is."
    return ModelError("EK354", message, hint, detail=detail)
