"""A float model beside its quantized version, and what quantization changes at each place."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import flatbuffer
from edgekit.artifact import Artifact, Format, align
from edgekit.calibration import Samples
from edgekit.debugging.graph import Graph, Grid, Value
from edgekit.debugging.onnx import OnnxGraph
from edgekit.debugging.pairing import Pairing, pair
from edgekit.debugging.structure import CLIPS
from edgekit.debugging.tflite import TfliteGraph
from edgekit.errors import ModelError
from edgekit.passes._layers_tflite import TFLiteTwins
from edgekit.passes._moving import KEEPING_GRID
from edgekit.passes.correct_bias import corrected_bias
from edgekit.pipeline import Settings, run
from edgekit.plan import Candidate, Effort, Equalize, plan_quantization
from edgekit.ranges import RangeMethod
from edgekit.recipe import Mode, Recipe
from edgekit.tensor import Array, Quantization

# The engine of each format that takes a precision for every layer.
_ENGINES = {Format.TFLITE: "ai_edge_quantizer", Format.ONNX: "onnxruntime"}
_INTEGERS = frozenset({"int8", "uint8", "int16"})
# The largest weight in 8 bits.
_LEVELS = 127
# Where output and input channels lie in the weights of an operator.
_AXES: Mapping[str, tuple[int, int | None]] = {
    "CONV_2D": (0, -1), "DEPTHWISE_CONV_2D": (-1, None), "FULLY_CONNECTED": (0, -1), "TRANSPOSE_CONV": (0, -1),
    "Conv": (0, 1), "MatMul": (-1, 0),
}  # fmt: skip
# The largest in 4, in size.
_NARROW = 8


@dataclass(frozen=True)
class Place:
    """What quantization changes at one operator of the float model: its weights, and the tensor that it writes.

    ``weights`` are real numbers by the keys of the float file's constants: what the quantized integers stand for.
    ``grid`` is that of the tensor, None where it stays real. ``bits`` are those of the weights. ``names`` are what
    rules of a recipe find it by: an activation function that the engine computes together with a layer of weights
    belongs to that layer. ``reads`` are the keys of what it reads, and ``matrix`` is that of its weights.
    """

    value: Value
    weights: Mapping[str, Array]
    grid: Grid | None
    bits: int | None
    keeps_grid: bool
    kind: str
    names: tuple[str, ...]
    reads: tuple[str, ...]
    matrix: str | None
    is_output: bool

    @property
    def key(self) -> str:
        """That of the tensor in the float file."""
        return self.value.key

    @property
    def output_axis(self) -> int | None:
        """Where the output channels lie in the weights; None where that is not known."""
        return _AXES.get(self.kind, (None, None))[0]

    @property
    def input_axis(self) -> int | None:
        """Where the input channels lie in the weights; None where each output reads one of its own."""
        return _AXES.get(self.kind, (None, None))[1]


@dataclass(frozen=True)
class Subject:
    """The float model as the engine reads it, its quantized version, and the samples that both are run on.

    ``inputs`` are by the names of the float file's inputs: ``{"x": (64, 32, 32, 3)}``. ``biases`` take back what
    rounding each layer's own weights does to its means, by the keys of the float file's; there are none where
    ``quantize`` corrects none.
    """

    original: Artifact
    quantized: Artifact
    graph: Graph
    places: tuple[Place, ...]
    inputs: Mapping[str, Array]
    recipe: Recipe
    mode: Mode
    hybrid: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    quantized_graph: Graph | None = None
    biases: Mapping[str, Array] = field(default_factory=dict)

    def corrected(self) -> "Subject":
        """The same with the corrected biases in place of those that the engine rounded."""
        places = tuple(
            replace(
                place,
                weights=dict(place.weights) | {k: self.biases[k] for k in place.weights if k in self.biases},
            )
            for place in self.places
        )
        return replace(self, places=places)

    def rounded(self, *, weights: Place | None = None, tensor: Place | None = None) -> bytes:
        """The float file with the weights of one place rounded, or the tensor of one, and the rest as it is."""
        if weights is not None and self.quantized_graph is not None and weights.key in self.hybrid:
            # The kernel rounds its inputs by itself: the quantized file with all other weights real again.
            others = [real for key, real in self.hybrid.items() if key != weights.key]
            return self.quantized_graph.rounded({k: v for real in others for k, v in real.items()}, {})
        grids = {} if tensor is None or tensor.grid is None else {tensor.key: tensor.grid}
        return self.graph.rounded({} if weights is None else weights.weights, grids)

    def alone(self, number: int) -> bytes:
        """The float file with one layer quantized: its weights and what it writes."""
        place = self.places[number]
        if place.key in self.hybrid:
            return self.rounded(weights=place)
        return self.graph.rounded(place.weights, {} if place.grid is None else {place.key: place.grid})

    def mixed(self, tensors: Sequence[float], weights: Sequence[float]) -> bytes:
        """The float file with everything rounded, but finer or not at all where layers are spared.

        Args:
            tensors: For each place how much of the noise of rounding its tensor is left: 1 for all of it, 0 where it
                stays real; anything between stands for 16 bits.
            weights: The same of its weights; what is between stands for 8 bits, or for float16.
        """
        if self.quantized_graph is not None and self.hybrid:
            real = [
                self.hybrid.get(p.key, {}) for p, part in zip(self.places, weights, strict=True) if part < 1
            ]
            return self.quantized_graph.rounded({k: v for values in real for k, v in values.items()}, {})
        grids, constants = {}, dict[str, Array]()
        for place, tensor, part in zip(self.places, tensors, weights, strict=True):
            if place.grid is not None and tensor > 0:
                grids[place.key] = place.grid if tensor == 1 else _wide(place.grid)
            if part == 1:
                constants |= place.weights
            elif part > 0 and place.matrix is not None:
                constants[place.matrix] = self._finer(place)
        return self.graph.rounded(constants, grids)

    def _finer(self, place: Place) -> Array:
        """A layer's weights in 8 bits, with a scale for each output channel."""
        values = self.graph.constant(str(place.matrix))
        axis = place.output_axis or 0
        moved = np.moveaxis(values, axis, 0)
        largest = np.abs(moved).reshape(len(moved), -1).max(axis=1)
        step = np.where(largest > 0, largest / _LEVELS, 1.0).reshape(-1, *[1] * (moved.ndim - 1))
        return np.asarray(np.moveaxis(np.rint(moved / step) * step, 0, axis), np.float32)


@dataclass(frozen=True)
class Care:
    """The options of ``quantize`` for the accuracy of static recipes, as far as they are followed here."""

    effort: Effort = "low"
    ranges: RangeMethod = "auto"
    equalize: Equalize = "auto"


def open_subject(
    source: Artifact,
    recipe: Recipe,
    samples: Samples,
    folder: Path,
    *,
    output: Format,
    care: Care = Care(),
) -> Subject:
    """Convert a model to what the engine reads, quantize it, and find what changed at each operator.

    Args:
        source: The float model, of any format.
        recipe: How it is quantized.
        samples: What calibrates, and the samples held back on which noise is measured.
        folder: Where the files may lie.
        output: The format of the quantized file.
        care: What else of ``quantize`` decides what the file becomes.

    Raises:
        UsageError: No engine can do that.
        ModelError: The model cannot be quantized, or the two versions have nothing in common.
    """
    name = _ENGINES[output]
    candidate = plan_quantization(
        source.format, output, recipe, engine_name=name, effort=care.effort, equalize=care.equalize
    ).candidates[0]
    last = max(
        candidate.steps.index(step) for step in ("quantize", "ranges_and_biases") if step in candidate.steps
    )
    settings = Settings(
        recipe,
        samples.calibration,
        samples.held_back,
        ranges=care.ranges,
        effort=care.effort,
        equalize=care.equalize,
    )
    produced = run(Candidate(name, candidate.steps[: last + 1]), source, settings, folder)
    original, quantized = produced.original, produced.artifact
    names = align(source.inputs, original.inputs)
    calibration, held_back = (
        {names[one]: values for one, values in part.items()}
        for part in (samples.calibration, samples.held_back)
    )
    graphs: tuple[Graph, Graph] = (
        (TfliteGraph(original.path), TfliteGraph(quantized.path))
        if output is Format.TFLITE
        else (OnnxGraph(original.path), OnnxGraph(quantized.path))
    )
    pairing = _paired(original, quantized, graphs)
    biases = {}
    if output is Format.TFLITE and {"correct_bias", "ranges_and_biases"} & set(candidate.steps):
        biases = _corrected(original.path.read_bytes(), quantized.path.read_bytes(), calibration)
    mode = recipe.default.mode
    is_hybrid = mode is Mode.DYNAMIC and output is Format.TFLITE
    return Subject(
        original,
        quantized,
        graphs[0],
        _places(graphs, pairing),
        held_back,
        recipe,
        mode,
        _real_weights(graphs[0], pairing) if is_hybrid else {},
        graphs[1] if is_hybrid else None,
        biases,
    )


def planned(source: Format, output: Format, recipe: Recipe, effort: Effort = "low") -> Candidate:
    """The steps from a format to a quantized file, by the engine that takes a precision for every layer.

    Raises:
        UsageError: It cannot follow the recipe.
    """
    plan = plan_quantization(source, output, recipe, engine_name=_ENGINES[output], effort=effort)
    return plan.candidates[0]


def _wide(grid: Grid) -> Grid:
    """Sixteen bits for the values that eight bits hold: symmetric around zero, as the kernels have it."""
    largest = max(-grid.range[0], grid.range[1])
    return Grid(Quantization((largest / np.iinfo(np.int16).max,), (0,)), "int16")


def _paired(original: Artifact, quantized: Artifact, graphs: tuple[Graph, Graph]) -> Pairing:
    inputs, outputs = (
        align(getattr(original, side), getattr(quantized, side)) for side in ("inputs", "outputs")
    )
    found = pair(*graphs, inputs=inputs, outputs=outputs)
    if all(one.a.is_input for one in found.pairs):
        raise ModelError(
            "EK560",
            f"No layer of {original.path.name} could be found again in its quantized version.",
            "Please report it; `edgekit debug` compares the two tensor by tensor.",
        )
    return found


def _corrected(original: bytes, quantized: bytes, calibration: Mapping[str, Array]) -> dict[str, Array]:
    """Biases that take back what rounding a layer's own weights does to its means, by key."""
    tree, twins = flatbuffer.read(original), TFLiteTwins(original, quantized)
    if not twins.layers:
        return {}
    means = twins.float_probe.means(twins.layers, calibration)
    found: dict[str, Array] = {}
    for layer in twins.layers:
        bias = int(tree.subgraphs[0].operators[layer.position].inputs[2])
        shape = tree.subgraphs[0].tensors[bias].shape
        found[str(bias)] = corrected_bias(layer, means).reshape(shape).astype(np.float32)
    return found


def _places(graphs: tuple[Graph, Graph], pairing: Pairing) -> tuple[Place, ...]:
    """Every operator and input of the float model at which the quantized one differs, in the order of the graph."""
    weights: dict[str, dict[str, Array]] = {}
    grids: dict[str, Grid] = {}
    bits: dict[str, int] = {}
    for found in pairing.pairs:
        one, two = found.a, found.b
        if two.quantization is not None and two.dtype in _INTEGERS and one.dtype == "float32":
            grids.setdefault(one.key, Grid(two.quantization, two.dtype))
        if two.is_conversion:
            continue
        rounded, width = _rounded(graphs, found.a, found.b)
        if rounded:
            weights[one.key] = rounded
            bits[one.key] = width
    fused = _fused(graphs[0], weights, grids)
    found_places = []
    for value in graphs[0].values:
        if value.key in fused.values() or not (value.key in weights or value.key in grids):
            continue
        layer = fused.get(value.key)
        first = value if layer is None else next(one for one in graphs[0].values if one.key == layer)
        found_places.append(
            Place(
                value,
                weights.get(first.key, {}),
                grids.get(value.key),
                bits.get(first.key),
                value.kind in KEEPING_GRID,
                first.kind,
                tuple(dict.fromkeys((first.name, value.name))),
                first.inputs,
                next((weight.key for weight in first.weights.values() if weight.is_matrix), None),
                value.key in graphs[0].outputs.values(),
            )
        )
    return tuple(found_places)


def _fused(graph: Graph, weights: Collection[str], grids: Collection[str]) -> dict[str, str]:
    """Activation functions that are computed with the layer before them: the key of that layer by theirs."""
    readers = Counter(key for value in graph.values for key in value.inputs)
    return {
        value.key: value.inputs[0]
        for value in graph.values
        if value.kind in CLIPS
        and value.inputs[0] in weights
        and value.inputs[0] not in grids
        and readers[value.inputs[0]] == 1
    }


def _rounded(graphs: tuple[Graph, Graph], one: Value, two: Value) -> tuple[dict[str, Array], int]:
    """The float operator's constants as the quantized one has them, and the bits of its weights."""
    found: dict[str, Array] = {}
    width = 32
    for place, weight in two.weights.items():
        own = one.weights.get(place)
        if own is None or own.shape != weight.shape or (weight.step is None and not weight.is_half):
            continue
        values = graphs[0].constant(own.key)
        if values.dtype.kind != "f":
            continue
        stored = graphs[1].constant(weight.key)
        if weight.step is None:
            found[own.key] = stored.astype(np.float32)
        else:
            found[own.key] = _on_grid(values, stored, weight.step)
        if weight.is_matrix:
            width = 16 if weight.step is None else 4 if _is_narrow(stored) else 8
    return (found, width) if width < 32 else ({}, width)


def _on_grid(values: Array, integers: Array, step: Array) -> Array:
    """What the integers stand for; the nearest values of the grid where they have a zero point of their own."""
    step = np.where(step > 0, step, 1.0).astype(np.float32)
    real = integers.astype(np.float32) * step
    if float(np.mean(np.abs(real - values))) <= float(np.mean(step)):
        return real
    return np.asarray(np.rint(values / step) * step, np.float32)


def _is_narrow(integers: Array) -> bool:
    """Whether the integers are of four bits: wider ones go further in at least one channel."""
    return int(np.max(np.abs(integers.astype(np.int32)), initial=0)) <= _NARROW


def _real_weights(graph: Graph, pairing: Pairing) -> dict[str, dict[str, Array]]:
    """For each float operator: the float weights by the keys of the quantized file's constants."""
    found: dict[str, dict[str, Any]] = {}
    for pair_ in pairing.pairs:
        for place, weight in pair_.b.weights.items():
            own = pair_.a.weights.get(place)
            if weight.step is None or own is None or own.shape != weight.shape or not pair_.b.is_hybrid:
                continue
            values = graph.constant(own.key)
            if values.dtype.kind == "f":
                found.setdefault(pair_.a.key, {})[weight.key] = values
    return found
