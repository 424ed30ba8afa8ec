"""How much noise the quantization of each layer causes, measured place by place.

The float file is run once as it is, and once for each place with the weights of one operator rounded, or one tensor
rounded by a QUANTIZE and a DEQUANTIZE: the grids and the integers are those that the engine chose for the file
quantized as a whole. So the noise of each place is measured where it counts, at the model's outputs, through all
layers behind it, and the engine writes one file in place of one for each layer. Exact is the noise of each place by
itself, up to the arithmetic of integer kernels; that the noise of several places adds up is an approximation (see
``mixing``).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgekit.artifact import Artifact, Format
from edgekit.errors import ModelError
from edgekit.formats import open_artifact
from edgekit.layerwise.sensitivity import LayerSensitivity, Shares, ranked
from edgekit.layerwise.subject import Place, Subject
from edgekit.reference import Reference
from edgekit.runtimes import open_session
from edgekit.tensor import Array

# ONNX Runtime's optimizations would merge the added operators with others, and compute something else.
_RUNTIMES = {Format.TFLITE: "litert", Format.ONNX: "onnxruntime_unoptimized"}
Progress = Callable[[int, int], None]
# Channels this much smaller than the largest carry nothing: pruned ones, or those that a ReLU has closed.
_DEAD = 1e-6


@dataclass(frozen=True)
class Seen:
    """The smallest and the largest value of a tensor over the samples, and the imbalance of its channels."""

    low: float
    high: float
    imbalance: float | None


class Outputs:
    """The float model's outputs, and how far those of other files are from them."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self._subject, self._folder = subject, folder
        self._exact = Reference(subject.original, subject.inputs, self._run(subject.original))

    def noise(self, content: bytes) -> Shares:
        """The power of the error of each output of an edited float file, as a share of the output's power."""
        path = self._folder / f"measured.{self._subject.original.format}"
        path.write_bytes(content)
        # What goes in and out is that of the float file: to read it again would take as long as to run it.
        return self._noise(self._run(replace(self._subject.original, path=path)))

    def noise_of(self, artifact: Artifact) -> Shares:
        """The same for another version of the model, in the runtime that people use."""
        return self._noise(self._exact.outputs_of(artifact))

    def _noise(self, measured: Mapping[str, Array]) -> Shares:
        return tuple(_noise(exact, measured[name]) for name, exact in self._exact.outputs.items())

    def _run(self, artifact: Artifact) -> Mapping[str, Array]:
        session = open_session(artifact, _RUNTIMES[artifact.format])
        try:
            return session.run(self._subject.inputs)
        finally:
            session.close()


def measure(
    subject: Subject, outputs: Outputs, folder: Path, progress: Progress | None = None
) -> tuple[LayerSensitivity, ...]:
    """Every layer with the noise that it causes, the largest share first.

    Args:
        subject: The model, and what its quantization changes.
        outputs: The float model's outputs.
        folder: Where files may lie for a moment.
        progress: Called with the numbers of measurements done and of all.

    Raises:
        ModelError: The model cannot be run.
    """
    seen = _seen(subject, folder)
    zero = tuple(0.0 for _ in subject.original.outputs)
    total = sum(bool(place.weights) + (place.grid is not None) for place in subject.places)
    layers, done = [], 0
    for number, place in enumerate(subject.places):
        noises = {"weights": zero, "activations": zero}
        if place.weights:
            noises["weights"] = outputs.noise(subject.rounded(weights=place))
            done += 1
        if place.grid is not None:
            noises["activations"] = outputs.noise(subject.rounded(tensor=place))
            done += 1
        layers.append(_layer(subject, number, noises, seen.get(place.key)))
        if progress:
            progress(done, total)
    return tuple(ranked(layers))


def _layer(
    subject: Subject, number: int, noises: Mapping[str, Shares], seen: Seen | None
) -> LayerSensitivity:
    place = subject.places[number]
    places = {other.key: index for index, other in enumerate(subject.places)}
    return LayerSensitivity(
        place=number,
        names=place.names,
        operator=place.kind,
        precision=subject.recipe.precision_of(place.kind, place.names).name,
        weight_bits=place.bits,
        activation_bits=None if place.grid is None else 8 * np.dtype(place.grid.dtype).itemsize,
        weights_noise=noises["weights"],
        activations_noise=noises["activations"],
        reads=tuple(dict.fromkeys(places[key] for key in place.reads if key in places)),
        keeps_grid=place.keeps_grid,
        is_output=place.is_output,
        weights_imbalance=_weights_imbalance(subject, place, place.output_axis),
        inputs_imbalance=_weights_imbalance(subject, place, place.input_axis),
        activations_imbalance=None if seen is None else seen.imbalance,
        calibrated_range=None if place.grid is None else place.grid.range,
        seen_range=None if seen is None else (seen.low, seen.high),
    )


def _noise(exact: Array, measured: Array) -> float:
    one = exact.astype(np.float64)
    error = one - measured.astype(np.float64)
    noise, signal = float(np.sum(error * error)), float(np.sum(one * one))
    if noise == 0:
        return 0.0
    return noise / signal if signal > 0 and np.isfinite(noise) else float("inf")


def _weights_imbalance(subject: Subject, place: Place, axis: int | None) -> float | None:
    """The largest weight of the widest channel over that of the narrowest one, along an axis of the weights."""
    if place.matrix is None or axis is None:
        return None
    values = np.abs(np.moveaxis(subject.graph.constant(place.matrix), axis, 0))
    return imbalance(values.reshape(len(values), -1).max(axis=1))


def imbalance(largest: Array) -> float | None:
    """The largest over the smallest of the channels' largest values; channels of nothing do not count.

    >>> imbalance(np.array([8.0, 2.0, 0.0]))
    4.0
    """
    alive = largest[largest > _DEAD * np.max(largest, initial=0.0)]
    return float(np.max(alive) / np.min(alive)) if len(alive) else None


def _seen(subject: Subject, folder: Path) -> dict[str, Seen]:
    """What the float model's tensors hold on the samples; by key."""
    found = {
        place.key: Seen(float(np.min(values)), float(np.max(values)), None)
        for place in subject.places
        if place.value.is_input and (values := subject.inputs[place.key]).size
    }
    keys = [place.key for place in subject.places if place.grid is not None and place.key not in found]
    if not keys:
        return found
    path = folder / f"exposed.{subject.original.format}"
    path.write_bytes(subject.graph.expose(keys))
    session = open_session(open_artifact(path))
    axis = 1 if subject.original.format is Format.ONNX else -1
    try:
        rows = [_extremes(session.run(sample), axis) for sample in _one_by_one(subject.inputs)]
    except ModelError:
        # Tensors without a batch axis cannot be put together; what they hold is then not known.
        return found
    finally:
        session.close()
    for key in keys:
        lows, highs = (np.array([row[key][side] for row in rows]) for side in (0, 1))
        low, high = lows.min(axis=0), highs.max(axis=0)
        channels = imbalance(np.maximum(np.abs(low), np.abs(high))) if len(low) > 1 else None
        found[key] = Seen(float(low.min()), float(high.max()), channels)
    return found


def _extremes(outputs: Mapping[str, Array], axis: int) -> dict[str, tuple[Array, Array]]:
    """The smallest and the largest value of each channel of each tensor."""
    found = {}
    for key, values in outputs.items():
        rows = np.moveaxis(values, axis, 0) if values.ndim >= 2 else values[None]
        rows = rows.reshape(len(rows), -1)
        found[key] = (rows.min(axis=1), rows.max(axis=1))
    return found


def _one_by_one(inputs: Mapping[str, Array]) -> Iterable[dict[str, Array]]:
    count = len(next(iter(inputs.values())))
    return ({name: values[index : index + 1] for name, values in inputs.items()} for index in range(count))
