"""A student made of a model: the same layers with fewer channels, and fresh weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from edgekit.errors import ModelError, UsageError
from edgekit.train.graph import Call, Graph, Make, copy_layer, unique_names

# Options that say how wide a layer's output is.
_SIZES = ("filters", "units", "output_dim", "key_dim", "value_dim")


def thin(model: Any, width: float) -> Any:
    """A new model with ``width`` times the channels in every layer but those that make the outputs.

    Args:
        model: A Functional or Sequential Keras 3 model.
        width: 0.5 for half of the channels.

    Raises:
        UsageError: The width is not above 0.
        ModelError: Layers do not fit each other at that width.
    """
    if not 0 < width <= 4:
        raise UsageError("EK763", f"A width of {width:g} makes no student.", "Give --student width:0.5.")
    graph = Graph(model)
    kept = _making_outputs(graph)
    made: dict[int, Any] = {}
    names = unique_names(graph)

    def make(call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        try:
            if not call.is_layer:
                return call.operation(*args, **kwargs)
            layer = made.get(id(call.operation))
            if layer is None:
                layer = _thinned(call, names, 1.0 if id(call.operation) in kept else width, args)
                made[id(call.operation)] = layer
            result = layer(*args, **kwargs)
        except ValueError as error:
            raise ModelError(
                "EK763",
                f"At width {width:g} the layer {call.name!r} does not fit those before it.",
                "Try another width, or give a student of your own as a file.",
                detail=str(error),
            ) from error
        if isinstance(call.operation, keras.layers.Normalization):
            layer.set_weights(call.operation.get_weights())  # measured on data, not trained
        return result

    answer: Make = make
    return graph.build(answer)


def _thinned(call: Call, names: Mapping[int, str], width: float, args: Sequence[Any]) -> Any:
    config = _scaled(call.operation.get_config(), width)
    changes = {key: value for key, value in config.items() if key != "name"}
    if isinstance(call.operation, keras.layers.Reshape) and args and None not in args[0].shape[1:]:
        # Reshapes to (1, 1, channels), as squeeze-and-excite blocks have them, follow the channels.
        changes["target_shape"] = _reshaped(tuple(changes["target_shape"]), args[0].shape[1:])
    return copy_layer(call.operation, names[id(call.operation)], **{**changes, "trainable": True})


def _scaled(config: Mapping[str, Any], width: float) -> dict[str, Any]:
    """A configuration with its sizes scaled, also those of a layer inside of a wrapper."""
    scaled: dict[str, Any] = {}
    for key, value in config.items():
        if key in _SIZES and isinstance(value, int):
            scaled[key] = max(1, round(value * width))
        elif key in ("layer", "backward_layer", "cell", "config") and isinstance(value, dict):
            scaled[key] = _scaled(value, width)
        else:
            scaled[key] = value
    return scaled


def _reshaped(target: tuple[int, ...], given: Sequence[int]) -> tuple[int, ...]:
    import math

    if -1 in target or math.prod(target) == math.prod(given) or math.prod(given) % math.prod(target[:-1]):
        return target
    return (*target[:-1], -1)


def _making_outputs(graph: Graph) -> set[int]:
    """The layers with sizes of their own that are the last ones before an output, by their ``id``."""
    kept: set[int] = set()
    seen: set[int] = set()
    waiting = list(graph.outputs)
    while waiting:
        number = waiting.pop()
        call = graph.producer.get(number)
        if call is None or number in seen:
            continue
        seen.add(number)
        if call.is_layer and _scaled(call.operation.get_config(), 2.0) != _scaled(
            call.operation.get_config(), 1.0
        ):
            kept.add(id(call.operation))
        else:
            waiting += call.inputs
    return kept
