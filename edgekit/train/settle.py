"""A model after quantization-aware training made to compute in whole numbers, as its ``.tflite`` file does.

Fake quantization leaves two things to chance: biases between the steps that the file can hold, and sums that lie so
near to the middle of two steps that float arithmetic falls to the other side. One such value moves others behind it,
and after ten layers a fifth of all values differ by a step.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgekit.errors import ModelError
from edgekit.train.fake_quant import FakeQuant, FakeQuantWeights
from edgekit.train.graph import Call, Graph, Make, copy_layer, copying, unique_names
from edgekit.train.joins import FakeQuantConversion, FakeQuantPair
from edgekit.train.qat import JOINING
from edgekit.train.tables import FakeQuantTable


def settle(model: Any) -> None:
    """Round the biases of a model of ``apply_qat`` in place, and let its layers compute as XNNPACK does.

    Training it again undoes the second of it.
    """
    graph = Graph(model)
    for calls in graph.uses.values():
        layer = calls[0].operation
        if isinstance(layer, FakeQuantWeights):
            _settle(layer, [(_before(graph, call.inputs[0]), _after(graph, call)) for call in calls])
        elif isinstance(layer, FakeQuantPair):
            _settle_pair(layer, graph, calls[0])
        elif isinstance(layer, FakeQuantConversion):
            _settle_conversion(layer, _before(graph, calls[0].inputs[0]), _after(graph, calls[0]))
        elif isinstance(layer, FakeQuantTable):
            before = _before(graph, calls[0].inputs[0])
            layer.grid = {"input": before.grid()[0]} if before else None
        elif isinstance(layer, FakeQuant):
            layer.settled = True
    # What Keras traced before knows nothing of it.
    model.train_function = model.test_function = model.predict_function = None


def settled(model: Any) -> Any:
    """A copy of a model of ``apply_qat`` that computes what its ``.tflite`` file computes; the model stays as it is.

    Raises:
        ModelError: It was never trained.
    """
    graph = Graph(model)
    roundings = [call.operation for call in graph.layers() if isinstance(call.operation, FakeQuant)]
    if unseen := [rounding.name for rounding in roundings if not float(np.asarray(rounding.seen))]:
        raise ModelError(
            "EK790",
            f"{len(unseen)} ranges of activations are not known, such as that of {unseen[0]}: "
            "the model was never trained.",
            "Call fit first; without training, model(samples, training=True) finds ranges.",
        )
    twin = graph.build(_once_each(graph))
    wrappers = [layer for layer in twin.layers if isinstance(layer, FakeQuantWeights)]
    for wrapper in {id(wrapper.layer): wrapper for wrapper in wrappers}.values():
        # A compiler that rounds them anew may take the other side of a middle.
        wrapper.layer.kernel.assign(wrapper.rounded(wrapper.layer.kernel))
    settle(twin)
    return twin


def _once_each(graph: Graph) -> Make:
    """Copies of layers; those with kernels have one around the same kernel for each use, whose grids differ."""
    plain, names = copying(graph), unique_names(graph)
    made: dict[int, FakeQuantWeights] = {}

    def make(call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        layer, key = call.operation, id(call.operation)
        if not isinstance(layer, FakeQuantWeights):
            return plain(call, args, kwargs)
        if key not in made:
            new = made[key] = copy_layer(layer, names[key])
        else:
            new = layer.around(made[key].layer, f"{names[key]}_use_{graph.uses[key].index(call)}")
        result = new(*args, **kwargs)
        new.set_weights(layer.get_weights())
        return result

    return make


def _settle(layer: FakeQuantWeights, ends: list[tuple[FakeQuant | None, FakeQuant | None]]) -> None:
    before, after = ends[0]
    if before is None:
        return
    input_scale, _zero = before.grid()
    step = np.float32(input_scale) * np.asarray(layer.scales())
    if layer.layer.bias is not None:
        layer.layer.bias.assign(np.round(np.asarray(layer.layer.bias) / step) * step)
    whole = after is not None and before.bits == after.bits
    if len(set(ends)) > 1 or not whole or after is None:
        return  # used twice, with two scales: there is no single grid
    output_scale, zero_point = after.grid()
    layer.grid = {
        "bits": after.bits,
        "weight_scales": np.asarray(layer.scales()).tolist(),
        "input_scale": input_scale,
        "output_scale": output_scale,
        "output_zero_point": zero_point,
    }


def _settle_pair(layer: FakeQuantPair, graph: Graph, call: Call) -> None:
    first, second, output = (
        *(_before(graph, number) for number in call.inputs),
        _after(graph, call),
    )
    if first is None or second is None or output is None:
        return
    names = {"first": first, "second": second, "output": output}
    layer.grid = {"bits": output.bits, **{name: rounding.grid()[0] for name, rounding in names.items()}}


def _settle_conversion(layer: FakeQuantConversion, given: FakeQuant | None, output: FakeQuant | None) -> None:
    if given is not None and output is not None and given.bits == output.bits == 8:
        layer.grid = {"input": given.grid()[0], "output": output.grid()[0]}


def _before(graph: Graph, number: int) -> FakeQuant | None:
    """The rounding of a tensor that a call reads: values pass some layers unchanged."""
    while number in graph.producer:
        maker = graph.producer[number]
        if isinstance(maker.operation, FakeQuant):
            return maker.operation
        if len(maker.inputs) != 1 or isinstance(maker.operation, FakeQuantWeights):
            return None
        number = maker.inputs[0]
    return None


def _after(graph: Graph, call: Call) -> FakeQuant | None:
    """The rounding of what a call gives, behind the activation that is fused with it and what joins it to others."""
    reader = graph.only_consumer(call.outputs[0])
    while reader is not None and type(reader.operation).__name__ in (
        "Activation",
        "ReLU",
        "Relu",
        "Relu6",
        *JOINING,
    ):
        reader = graph.only_consumer(reader.outputs[0])
    return reader.operation if reader and isinstance(reader.operation, FakeQuant) else None


@contextmanager
def as_trained(model: Any) -> Iterator[None]:
    """Let the layers of a model compute with fake quantization alone, which is what the converter understands."""
    grids = (FakeQuantConversion, FakeQuantPair, FakeQuantTable, FakeQuantWeights)
    name = {FakeQuant: "settled", **dict.fromkeys(grids, "grid")}
    layers = [layer for layer in model._flatten_layers() if type(layer) in name]
    before = [getattr(layer, name[type(layer)]) for layer in layers]
    for layer in layers:
        setattr(layer, name[type(layer)], None)
        if isinstance(layer, FakeQuantWeights):
            layer.store(True)
    try:
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            setattr(layer, name[type(layer)], value)
            if isinstance(layer, FakeQuantWeights):
                layer.store(False)
