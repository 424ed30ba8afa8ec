"""Quantization-aware training: the model with the rounding of the device in it, to be trained for a while."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras

from edgekit.train.batch_norm import fold_batch_norm
from edgekit.train.fake_quant import FakeQuant, FakeQuantWeights, Ranges
from edgekit.train.graph import Call, Graph, copy_layer, copying, unique_names
from edgekit.train.joins import PAIRS, FakeQuantConversion, FakeQuantPair
from edgekit.train.spelled_out import norms_as_convolutions, separated
from edgekit.train.tables import FUNCTIONS, FakeQuantTable

_KERNELS = ("Conv1D", "Conv2D", "Conv2DTranspose", "Dense", "DepthwiseConv2D")
# Values pass as they are: the scale of the input is the scale of the output.
_PASSING = (
    "Cropping1D", "Cropping2D", "Dropout", "Flatten", "MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D",
    "GlobalMaxPooling2D", "Permute", "RepeatVector", "Reshape", "SpatialDropout1D", "SpatialDropout2D", "ZeroPadding1D",
    "ZeroPadding2D", "GaussianNoise", "GaussianDropout", "Identity",
    "UpSampling1D", "UpSampling2D", "ActivityRegularization",
)  # fmt: skip
# TFLite's kernels for these round to the scale of their input.
_AVERAGING = ("AveragePooling1D", "AveragePooling2D")
# TFLite's kernels for these give a scale of their own, whatever was trained.
_FIXED = {"softmax": (0.0, 255 / 256), "sigmoid": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}
# TFLite wants one scale for all that they join, and the converter has their inputs made in it.
JOINING = ("Concatenate", "Maximum", "Minimum")
_FUSED = ("linear", "relu", "relu6")
# What TFLite has integer kernels for, beside the above.
_INTEGER = ("Add", "Average", "Concatenate", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "InputLayer",
            "LeakyReLU", "Maximum", "Minimum", "Multiply", "PReLU", "Rescaling", "Subtract")  # fmt: skip
_INTEGER_FUNCTIONS = (*_FUSED, *_FIXED, "silu", "gelu", "hard_silu", "leaky_relu")
_FUNCTIONS = ("Activation", "ReLU", "Softmax")


@dataclass(frozen=True)
class QATOptions:
    """How to quantize while training.

    ``weight_bits`` is 8 or 4, ``activation_bits`` 8 or 16. ``exclude`` are regular expressions: layers whose names
    match stay float, and those that ``eight_bit`` match keep weights of 8 bits. ``ranges``, of activations, is
    ``"moving"`` or ``"learned"``; ``weight_ranges`` is ``"largest"``, ``"learned"``, or ``"auto"``: learned where 4
    bits have few steps to lose.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    per_channel: bool = True
    ranges: Ranges = "moving"
    weight_ranges: Literal["auto", "largest", "learned"] = "auto"
    exclude: tuple[str, ...] = ()
    eight_bit: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.weight_bits not in (4, 8):
            raise ValueError(f"weights of {self.weight_bits} bits: 8 and 4 are possible")
        if self.activation_bits not in (8, 16):
            raise ValueError(f"activations of {self.activation_bits} bits: 8 and 16 are possible")

    def bits_of(self, kind: str, name: str) -> int:
        """Bits of the weights of a layer: 8 where TFLite has no kernel of 4, or a slow one that saves few bytes."""
        wide = kind in ("Conv2DTranspose", "DepthwiseConv2D") or (kind == "Conv1D" and not self.per_channel)
        return 8 if wide or self.activation_bits != 8 or self.widens(name) else self.weight_bits

    def excludes(self, name: str) -> bool:
        """Whether the layer of this name stays float."""
        return any(re.search(pattern, name) for pattern in self.exclude)

    def widens(self, name: str) -> bool:
        """Whether the layer of this name was asked to keep weights of 8 bits."""
        return any(re.search(pattern, name) for pattern in self.eight_bit)


def apply_qat(model: Any, options: QATOptions | None = None) -> Any:
    """A new model that computes as its int8 twin will; train it, then export it.

    Batch normalizations are folded first. Weights are copied; the ranges of activations are found while training.

    Args:
        model: A Functional or Sequential Keras 3 model.
        options: Bits, ranges, and what stays float.

    Raises:
        ModelError: The model is subclassed.
    """
    options = options or QATOptions()
    graph = Graph(norms_as_convolutions(fold_batch_norm(separated(model))))
    return graph.build(_Quantizing(graph, options))


def float_layers(model: Any) -> list[str]:
    """The names of what computes in float32 in a model of ``apply_qat``, and in its ``.tflite`` file."""
    return [operation.name for operation in model.operations if not _is_integer(operation)]


def _is_integer(operation: Any) -> bool:
    if isinstance(
        operation, FakeQuant | FakeQuantConversion | FakeQuantPair | FakeQuantTable | FakeQuantWeights
    ):
        return True
    kind = type(operation).__name__
    if kind in (*_PASSING, *_AVERAGING, *_INTEGER):
        return True
    function = activation_name(operation)
    known = kind in _FUNCTIONS or function != "linear"
    return known and not getattr(operation, "weights", ()) and function in _INTEGER_FUNCTIONS


class _Quantizing:
    """Answers ``Graph.build``: each call with its weights and its results rounded."""

    def __init__(self, graph: Graph, options: QATOptions) -> None:
        self._graph, self._options = graph, options
        self._names = unique_names(graph)
        self._plain = copying(graph)
        self._wrapped: dict[int, Any] = {}
        self._inputs_done: dict[int, Any] = {}
        self._rounded_by: dict[int, FakeQuant] = {}
        self._conversions = itertools.count()

    def __call__(self, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        args, kwargs = self._inputs_rounded(call, args, kwargs)
        if self._options.excludes(call.name):
            return self._plain(call, args, kwargs)
        kind = type(call.operation).__name__
        if kind in _KERNELS:
            return self._with_kernel(call, args, kwargs)
        if (pair := self._pair(call, args, kwargs)) is not None:
            return self._rounded(call, pair, "linear")
        if kind in _FUNCTIONS and self._has_table(call):
            function = activation_name(call.operation)
            return self._rounded(call, self._table(call, function, call.name)(*args), function)
        if kind in JOINING:
            args, kwargs = self._converted(call, args, kwargs)
        result = self._plain(call, args, kwargs)
        interpolates = getattr(call.operation, "interpolation", "nearest") != "nearest"
        if kind in (*_PASSING, *_AVERAGING) and not interpolates:
            rounding = self._rounded_by.get(id(args[0])) if args else None
            if rounding is not None and kind in _AVERAGING:
                result = rounding(result, averaged=True)
            if rounding is not None:
                self._rounded_by[id(result)] = rounding
            return result
        return self._rounded(call, result, activation_name(call.operation))

    def _inputs_rounded(
        self, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments, with inputs of the model rounded: once, though several calls read them."""
        flat = [leaf for leaf in keras.tree.flatten((args, kwargs)) if isinstance(leaf, keras.KerasTensor)]
        for number, tensor in zip(call.inputs, flat, strict=True):
            floating = "float" in keras.backend.standardize_dtype(tensor.dtype)
            if number in self._graph.inputs and number not in self._inputs_done and floating:
                rounding = self._rounding(f"{self._graph.spec(number).name}_input".replace("/", "_"))
                self._inputs_done[number] = (tensor, self._round(tensor, rounding))
        replaced = {id(before): after for before, after in self._inputs_done.values()}
        rounded: tuple[Any, Any] = keras.tree.map_structure(
            lambda leaf: replaced.get(id(leaf), leaf), (args, kwargs)
        )
        return rounded

    def _with_kernel(self, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        operation, options = call.operation, self._options
        function = activation_name(operation)
        fused = function in _FUSED
        wrapper = self._wrapped.get(id(operation))
        if wrapper is None:
            name = self._names[id(operation)]
            layer = copy_layer(operation, name, activation="linear")
            activation = operation.activation if fused else None
            bits = options.bits_of(type(operation).__name__, name)
            chosen = options.weight_ranges
            ranges = chosen if chosen != "auto" else "learned" if bits == 4 else "largest"
            wrapper = FakeQuantWeights(
                layer, bits, per_channel=options.per_channel, activation=activation, ranges=ranges
            )
            self._wrapped[id(operation)] = wrapper
            result = wrapper(*args, **kwargs)
            layer.set_weights(operation.get_weights())
            wrapper.start()
        else:
            result = wrapper(*args, **kwargs)
        if fused:
            return self._rounded(call, result, "linear")
        result = self._rounding(f"{wrapper.name}_before_{function}", call)(result)
        name = f"{wrapper.name}_{function}"
        if self._options.activation_bits == 16 and function in FUNCTIONS:
            return self._rounded(call, self._table(call, function, name)(result), function)
        result = keras.layers.Activation(operation.activation, name=name)(result)
        return self._rounded(call, result, function)

    def _has_table(self, call: Call) -> bool:
        """Whether it is a function alone that TFLite looks up in a table."""
        last = len(self._graph.spec(call.outputs[0]).shape) - 1
        plain = len(call.args) == 1 and getattr(call.operation, "axis", -1) in (-1, last)
        wide = self._options.activation_bits == 16
        return wide and plain and activation_name(call.operation) in FUNCTIONS

    def _table(self, call: Call, function: str, name: str) -> FakeQuantTable:
        uses = self._graph.uses[id(call.operation)]
        suffix = f"_{uses.index(call)}" if len(uses) > 1 else ""
        return FakeQuantTable(function, name=name.replace("/", "_") + suffix)

    def _pair(self, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The result of two tensors of one rank that are added or multiplied, None for other calls."""
        kind, both = type(call.operation).__name__, keras.tree.flatten((args, kwargs))
        tensors = [leaf for leaf in both if isinstance(leaf, keras.KerasTensor)]
        ranks = [len(tensor.shape) for tensor in tensors]
        if kind not in PAIRS or len(both) != 2 or len(ranks) != 2 or ranks[0] != ranks[1]:
            return None
        uses = self._graph.uses[id(call.operation)]
        suffix = f"_{uses.index(call)}" if len(uses) > 1 else ""
        return FakeQuantPair(kind, name=f"{call.name.replace('/', '_')}_pair{suffix}")(tensors)

    def _converted(self, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
        """The arguments of a joining call: what has a scale already gets another one."""

        def convert(leaf: Any) -> Any:
            if id(leaf) not in self._rounded_by:
                return leaf
            name = f"{call.name.replace('/', '_')}_input_{next(self._conversions)}"
            return FakeQuantConversion(name=name)(leaf)

        converted: tuple[Any, Any] = keras.tree.map_structure(convert, (args, kwargs))
        return converted

    def _rounded(self, call: Call, result: Any, function: str) -> Any:
        """The results of a call, rounded where nothing follows that rounds them together with other things."""
        if self._fuses_with_next(call) or self._is_joined(call, function):
            return result
        name = f"{call.name.replace('/', '_')}_output"
        rounded = [
            self._round(tensor, self._rounding(name, call, _FIXED.get(function)))
            if "float" in keras.backend.standardize_dtype(tensor.dtype)
            else tensor
            for tensor in keras.tree.flatten(result)
        ]
        return keras.tree.pack_sequence_as(result, rounded)

    def _round(self, tensor: Any, rounding: FakeQuant) -> Any:
        rounded = rounding(tensor)
        self._rounded_by[id(rounded)] = rounding
        return rounded

    def _fuses_with_next(self, call: Call) -> bool:
        after = self._graph.only_consumer(call.outputs[0]) if len(call.outputs) == 1 else None
        if after is None or type(call.operation).__name__ not in (*_KERNELS, "Add", "Subtract", "Multiply"):
            return False
        name = type(after.operation).__name__
        return name in ("ReLU", "Relu", "Relu6", "Activation") and activation_name(after.operation) in _FUSED

    def _is_joined(self, call: Call, function: str) -> bool:
        """Whether it is made in the scale of what it is joined to, and for nobody else."""
        after = self._graph.only_consumer(call.outputs[0]) if len(call.outputs) == 1 else None
        kind = type(after.operation).__name__ if after else ""
        return (
            kind in JOINING
            and function not in _FIXED
            and not self._options.excludes(after.name if after else "")
        )

    def _rounding(self, name: str, call: Call | None = None, fixed: Sequence[float] | None = None) -> Any:
        uses = self._graph.uses[id(call.operation)] if call else ()
        suffix = f"_{uses.index(call)}" if call and len(uses) > 1 else ""
        if fixed and self._options.activation_bits == 16:
            fixed = (-1.0, 32767 / 32768)  # int16's fixed scale is one for all
        return FakeQuant(
            self._options.activation_bits, ranges=self._options.ranges, fixed=fixed, name=name + suffix
        )


def activation_name(operation: Any) -> str:
    """The name of the function that a layer applies at its end: ``"relu6"``; ``"linear"`` for none."""
    if isinstance(operation, keras.layers.ReLU):
        plain = operation.negative_slope == 0 and operation.threshold == 0
        return {None: "relu", 6.0: "relu6"}.get(operation.max_value, "other") if plain else "other"
    if isinstance(operation, keras.layers.Softmax):
        return "softmax"
    function = getattr(operation, "activation", None)
    if function is not None:
        return str(getattr(function, "__name__", "other"))
    name = type(operation).__name__.lower()
    return name if name in (*_FUSED, *_FIXED) else "linear"
