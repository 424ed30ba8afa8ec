"""A Keras model as a flat list of calls, from which another one can be built: the tool of every compression.

Nested models are opened up, a layer that is used twice stays one layer, and operations such as ``x + y`` are
calls like those of layers. Keras shows its graph in private attributes only: they are read here and nowhere else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras

from edgekit.errors import ModelError

Make = Callable[["Call", Sequence[Any], Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Call:
    """One use of an operation: ``inputs`` and ``outputs`` are numbers of tensors in the graph.

    ``name`` is the layer's own, after the names of the models around it: ``"block/conv1"``.
    """

    name: str
    operation: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def is_layer(self) -> bool:
        """Whether it is a layer and not an operation such as ``x + y``."""
        return isinstance(self.operation, keras.layers.Layer)


@dataclass(frozen=True)
class _Tensor:
    """Stands for a tensor in the arguments of a call."""

    number: int


class Graph:
    """The calls of a model in an order in which they can be made.

    Args:
        model: A built Functional or Sequential model of Keras 3, with nested models of these kinds.

    Raises:
        ModelError: The model, or one inside of it, is subclassed: its graph is code and cannot be read.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._specs: list[Any] = []
        calls: list[Call] = []
        self.inputs = tuple(self._number(tensor) for tensor in _functional(model).inputs)
        self.outputs = tuple(self._trace(_functional(model), self.inputs, "", calls))
        self.calls = tuple(calls)

    @cached_property
    def consumers(self) -> dict[int, tuple[Call, ...]]:
        """Who reads a tensor; a tensor without readers is missing."""
        found: dict[int, list[Call]] = {}
        for call in self.calls:
            for number in dict.fromkeys(call.inputs):
                found.setdefault(number, []).append(call)
        return {number: tuple(calls) for number, calls in found.items()}

    @cached_property
    def producer(self) -> dict[int, Call]:
        """Who makes a tensor; the inputs of the model are missing."""
        return {number: call for call in self.calls for number in call.outputs}

    @cached_property
    def uses(self) -> dict[int, tuple[Call, ...]]:
        """The calls of an operation by its ``id``: more than one where it is shared."""
        found: dict[int, list[Call]] = {}
        for call in self.calls:
            found.setdefault(id(call.operation), []).append(call)
        return {key: tuple(calls) for key, calls in found.items()}

    def layers(self) -> Iterator[Call]:
        """The first use of each layer."""
        return (calls[0] for calls in self.uses.values() if calls[0].is_layer)

    def only_consumer(self, number: int) -> Call | None:
        """The one reader of a tensor, None where there are several or where it is an output of the model."""
        readers = self.consumers.get(number, ())
        alone = len(readers) == 1 and number not in self.outputs and readers[0].inputs.count(number) == 1
        return readers[0] if alone else None

    def spec(self, number: int) -> Any:
        """Shape and type of a tensor, as a KerasTensor."""
        return self._specs[number]

    def build(self, make: Make) -> Any:
        """A new model: ``make`` is asked for each call and gives the tensors that it makes.

        Weights are the business of ``make``; ``copying`` makes the usual answer.
        """
        values: dict[int, Any] = {}
        for number, original in zip(self.inputs, _functional(self.model).inputs, strict=True):
            spec = self.spec(number)
            values[number] = keras.Input(
                batch_shape=spec.shape, dtype=spec.dtype, name=original.name.split(":")[0]
            )
        run(self.calls, values, make)
        inputs = _like(self.model, "_inputs_struct", [values[number] for number in self.inputs])
        outputs = _like(self.model, "_outputs_struct", [values[number] for number in self.outputs])
        return keras.Model(inputs, outputs, name=self.model.name)

    def _number(self, tensor: Any) -> int:
        self._specs.append(tensor)
        return len(self._specs) - 1

    def _trace(self, model: Any, inputs: Sequence[int], prefix: str, calls: list[Call]) -> list[int]:
        """Add the calls of a model; ``inputs`` are the tensors that it is called with."""
        known = {id(tensor): number for tensor, number in zip(model.inputs, inputs, strict=True)}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                operation = node.operation
                given = [known[id(tensor)] for tensor in node.arguments.keras_tensors]
                if isinstance(operation, keras.Model):
                    inner = _functional(operation)
                    ordered = _as_taken(operation, node, known)
                    made = self._trace(inner, ordered, f"{prefix}{operation.name}/", calls)
                else:
                    made = [self._number(tensor) for tensor in node.outputs]
                    args, kwargs = keras.tree.map_structure(
                        lambda leaf, known=known: (
                            _Tensor(known[id(leaf)]) if isinstance(leaf, keras.KerasTensor) else leaf
                        ),
                        (node.arguments.args, node.arguments.kwargs),
                    )
                    name = f"{prefix}{operation.name}"
                    calls.append(Call(name, operation, tuple(given), tuple(made), tuple(args), kwargs))
                known.update(zip(map(id, node.outputs), made, strict=True))
        return [known[id(tensor)] for tensor in model.outputs]


def run(calls: Sequence[Call], values: dict[int, Any], make: Make) -> None:
    """Make calls on the tensors in ``values``, by number, and add what they give."""
    for call in calls:
        args, kwargs = keras.tree.map_structure(
            lambda leaf: values[leaf.number] if isinstance(leaf, _Tensor) else leaf,
            (call.args, dict(call.kwargs)),
        )
        made = keras.tree.flatten(make(call, args, kwargs))
        values.update(zip(call.outputs, made, strict=True))


def copying(graph: Graph) -> Make:
    """The usual answer to ``Graph.build``: a new layer of the same configuration and the same weights."""
    made: dict[int, Any] = {}
    names = unique_names(graph)

    def make(call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if not call.is_layer:
            return call.operation(*args, **kwargs)
        layer = made.get(id(call.operation))
        if layer is not None:
            return layer(*args, **kwargs)
        layer = made[id(call.operation)] = copy_layer(call.operation, names[id(call.operation)])
        result = layer(*args, **kwargs)
        layer.set_weights(call.operation.get_weights())
        return result

    return make


def copy_layer(layer: Any, name: str, **changes: Any) -> Any:
    """A new layer of the same configuration but for the changes; without weights until it is called."""
    config = {**layer.get_config(), "name": name, **changes}
    # The initial values are replaced at once; a build_config would fix the old shapes.
    return type(layer).from_config(config)


def unique_names(graph: Graph) -> dict[int, str]:
    """A name for each layer by its ``id``, without repetition though nested models may repeat theirs."""
    taken: set[str] = set()
    names: dict[int, str] = {}
    for call in graph.layers():
        plain = call.operation.name
        name = plain if plain not in taken else call.name.replace("/", "_")
        count = 0
        while name in taken:
            count += 1
            name = f"{plain}_{count}"
        taken.add(name)
        names[id(call.operation)] = name
    return names


def _functional(model: Any) -> Any:
    """The model whose graph Keras keeps: a Sequential model holds it inside."""
    inner = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    if inner is None or not hasattr(inner, "_nodes_by_depth"):
        built = isinstance(model, keras.Sequential)
        raise ModelError(
            "EK720",
            f"{model.name} is {'a model without an input shape' if built else 'a subclassed model'}: "
            "there is no graph of layers to work on.",
            "Add an Input to it and save it again."
            if built
            else "Write it as a Functional or Sequential model.",
        )
    return inner


def _as_taken(model: Any, node: Any, known: Mapping[int, int]) -> list[int]:
    """The tensors that a nested model is called with, in the order of its inputs."""
    given = node.arguments.args[0] if node.arguments.args else next(iter(node.arguments.kwargs.values()))
    structure = getattr(_functional(model), "_inputs_struct", None)
    if isinstance(given, dict) and isinstance(structure, dict):
        given = [given[name] for name in structure]
    return [known[id(tensor)] for tensor in keras.tree.flatten(given)]


def _like(model: Any, attribute: str, tensors: list[Any]) -> Any:
    """The tensors in the structure in which the model takes or gives them: one, a list or a dict."""
    structure = getattr(_functional(model), attribute, None)
    if not isinstance(structure, dict) and len(tensors) == 1:
        return tensors[0]  # a model of one input may keep it in a list, and warns when it gets no list
    if structure is None:
        return tensors
    return keras.tree.pack_sequence_as(structure, tensors)
