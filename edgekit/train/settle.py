"""A model after quantization-aware training made to compute in whole numbers, as its ``.tflite`` file does.

Fake quantization leaves two things to chance: biases between the steps that the file can hold, and sums that lie so
near to the middle of two steps that float arithmetic falls to the other side. One such value moves others behind it,
and after ten layers a fifth of all values differ by a step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgekit.train.fake_quant import FakeQuant, FakeQuantWeights
from edgekit.train.graph import Call, Graph


def settle(model: Any) -> None:
    """Round the biases of a model of ``apply_qat`` in place, and let its layers compute as XNNPACK does.

    Training it again undoes the second of it.
    """
    graph = Graph(model)
    for calls in graph.uses.values():
        layer = calls[0].operation
        if isinstance(layer, FakeQuantWeights):
            _settle(layer, [(_before(graph, call), _after(graph, call)) for call in calls])
        elif isinstance(layer, FakeQuant):
            layer.settled = layer.bits == 8
    # What Keras traced before knows nothing of it.
    model.train_function = model.test_function = model.predict_function = None


def _settle(layer: FakeQuantWeights, ends: list[tuple[FakeQuant | None, FakeQuant | None]]) -> None:
    before, after = ends[0]
    if before is None or layer.layer.bias is None:
        return
    input_scale, _zero = before.grid()
    step = np.float32(input_scale) * np.asarray(layer.scales())
    layer.layer.bias.assign(np.round(np.asarray(layer.layer.bias) / step) * step)
    whole = after is not None and before.bits == after.bits == 8
    if len(set(ends)) > 1 or not whole or after is None:
        return  # used twice, with two scales: there is no single grid
    output_scale, zero_point = after.grid()
    layer.grid = {
        "input_scale": input_scale,
        "output_scale": output_scale,
        "output_zero_point": zero_point,
    }


def _before(graph: Graph, call: Call) -> FakeQuant | None:
    """The rounding of what a call reads: values pass some layers unchanged."""
    number = call.inputs[0]
    while number in graph.producer:
        maker = graph.producer[number]
        if isinstance(maker.operation, FakeQuant):
            return maker.operation
        if len(maker.inputs) != 1 or isinstance(maker.operation, FakeQuantWeights):
            return None
        number = maker.inputs[0]
    return None


def _after(graph: Graph, call: Call) -> FakeQuant | None:
    """The rounding of what a call gives, behind the activation that is fused with it."""
    reader = graph.only_consumer(call.outputs[0])
    if reader is not None and not isinstance(reader.operation, FakeQuant):
        reader = graph.only_consumer(reader.outputs[0])
    return reader.operation if reader and isinstance(reader.operation, FakeQuant) else None


@contextmanager
def as_trained(model: Any) -> Iterator[None]:
    """Let the layers of a model compute with fake quantization alone, which is what the converter understands."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, FakeQuant | FakeQuantWeights)]
    name = {FakeQuant: "settled", FakeQuantWeights: "grid"}
    before = [getattr(layer, name[type(layer)]) for layer in layers]
    for layer in layers:
        setattr(layer, name[type(layer)], None)
    try:
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            setattr(layer, name[type(layer)], value)
