"""Cuts a part out of a Keras 3 model, to find the layer that a converter does not take."""

from pathlib import Path
from typing import Any

import keras  # noqa: TID253

from edgekit.tensorflow_child.loading import Loaded
from edgekit.train.graph import Graph, run


class UncuttableError(Exception):
    """The model has no graph of Keras 3."""


def calls(loaded: Loaded) -> list[str]:
    """Kind and name of every call of a layer or an operation."""
    return [f"{type(call.operation).__name__} {call.name}" for call in _graph(loaded).calls]


def cut(loaded: Loaded, first: int, last: int, output: Path) -> None:
    """Write the calls from ``first`` to ``last`` as a model of their own, with the same layers and weights."""
    graph = _graph(loaded)
    part = graph.calls[first : last + 1]
    others = [*graph.calls[:first], *graph.calls[last + 1 :]]
    written = [number for call in part for number in call.outputs]
    wanted = {number for call in others for number in call.inputs} | set(graph.outputs)
    read = dict.fromkeys(number for call in part for number in call.inputs if number not in written)
    values = {number: _input(graph, number) for number in read}
    inputs = list(values.values())
    run(part, values, lambda call, args, kwargs: call.operation(*args, **kwargs))
    # What nobody reads is what the last call is for.
    shown = [number for number in written if number in wanted] or list(part[-1].outputs)
    keras.Model(inputs, [values[number] for number in shown], name=loaded.model.name).save(output)


def _graph(loaded: Loaded) -> Graph:
    if loaded.loader != "keras":
        raise UncuttableError(loaded.loader)
    return Graph(loaded.model)


def _input(graph: Graph, number: int) -> Any:
    spec = graph.spec(number)
    return keras.Input(batch_shape=spec.shape, dtype=spec.dtype, name=f"tensor_{number}")
