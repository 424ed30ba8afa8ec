"""Where the first value that is no number comes from: the labels, a layer, or the loss."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from edgekit.train.graph import Call, Graph


def where(model: Any, batches: Iterable[Any]) -> str:
    """What follows "the loss is no number any more": ``"; the first layer with such weights is dense"``.

    Args:
        model: As training left it.
        batches: What it was trained on, as ``(x, y)``.
    """
    broken = next((layer.name for layer in _leaves(model) if not _all_finite(layer.variables)), None)
    named: list[str] = []
    inner: Any = None
    for x, y in batches:
        if not _all_finite(keras.tree.flatten(y)):
            return "; there are such labels"
        if broken or _all_finite(keras.tree.flatten(model(x, training=False))):
            continue
        inner = inner or _opened(model, named)
        for name, values in zip(named, inner(x, training=False), strict=True):
            if not _finite(values):
                return f"; the first layer that gives such values is {name}"
    if broken:
        return f"; the first layer with such weights is {broken}"
    return "; all weights, labels and outputs are numbers, and the loss of them is none"


def _leaves(model: Any) -> list[Any]:
    return [layer for layer in model._flatten_layers() if not list(getattr(layer, "layers", ()))]


def _opened(model: Any, names: list[str]) -> Any:
    """The same layers in a model that gives what each of them gives; their names are added in that order."""
    graph = Graph(model)
    made: list[Any] = []

    def make(call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        given = call.operation(*args, **kwargs)
        for tensor in keras.tree.flatten(given):
            names.append(call.name)
            made.append(tensor)
        return given

    return keras.Model(graph.build(make).inputs, made)


def _all_finite(values: Iterable[Any]) -> bool:
    return all(map(_finite, values))


def _finite(values: Any) -> bool:
    array = np.asarray(values)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
