"""What a model makes of samples, as they are and read in other ways: scores, errors, extremes of inner tensors."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import tensorflow_process, torch_process
from edgekit.artifact import Artifact, Format, align
from edgekit.data import Dataset
from edgekit.debugging.graph import Graph, Value
from edgekit.debugging.onnx import OnnxGraph
from edgekit.debugging.tflite import TfliteGraph
from edgekit.evidence.readings import AS_GIVEN, Reading
from edgekit.evidence.seen import main_input, prepared
from edgekit.formats import open_artifact
from edgekit.runtimes import Session, open_session
from edgekit.tensor import Array
from edgekit.tensorflow_process import TFLiteExport

_BATCH = 16
# To compare readings takes fewer samples than to know the range of inner tensors.
_READ_OTHERWISE = 128
_GRAPHS: Mapping[Format, Callable[[Path], Graph]] = {Format.TFLITE: TfliteGraph, Format.ONNX: OnnxGraph}
_SOFTMAX, _SIGMOID = frozenset({"SOFTMAX", "Softmax"}), frozenset({"LOGISTIC", "Sigmoid"})
_CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "Conv"})
_ARITHMETIC = frozenset({"MUL", "DIV", "ADD", "SUB"})
_TINY = 1e-30
_Parts = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Behaviour:
    """What a model made of some samples.

    ``extremes`` holds the lowest and highest value of each of t inner tensors, (n, t, 2), named by ``tensors``.
    ``rows`` are the numbers of m of the samples, those that were read in every way: ``scores`` are those of classes,
    (m, classes), before softmax; ``errors`` how far a model that gives its input back is from it, as a share of the
    input's variance, (m,); ``offset`` is how far the channels of the first convolution are from zero, in standard
    deviations over samples and places. ``rescaling`` is what the model does to its main input before anything else:
    times the first and plus the second. ``has_classes`` says that a softmax or sigmoid makes probabilities of the
    scores; without, they may be no classes. What the model does not have is empty or None.
    """

    tensors: tuple[str, ...]
    extremes: Array
    rows: NDArray[np.intp]
    readings: Mapping[str, Reading] = field(default_factory=dict)
    scores: Mapping[str, Array] = field(default_factory=dict)
    errors: Mapping[str, Array] = field(default_factory=dict)
    offset: Mapping[str, float] = field(default_factory=dict)
    rescaling: tuple[float, float] | None = None
    has_classes: bool = False

    def rivals(self, kind: str) -> list[str]:
        """The names of the other readings of a kind: ``"range"``, ``"colors"`` or ``"layout"``."""
        return [name for name, reading in self.readings.items() if reading.kind == kind]


class Subject:
    """The model with its inner tensors visible; other formats are converted to float ``.tflite`` in a folder.

    Args:
        artifact: The model as it was given.
        folder: Where edited and converted files may lie.

    Raises:
        ModelError: It cannot be converted.
    """

    def __init__(self, artifact: Artifact, folder: Path) -> None:
        self._folder = folder
        self.artifact = artifact
        if artifact.format not in _GRAPHS:
            converted = folder / "float.tflite"
            if artifact.format is Format.PYTORCH:
                torch_process.export_tflite(artifact.path, converted)
            else:
                tensorflow_process.export_tflite(artifact.path, converted, TFLiteExport())
            self.artifact = open_artifact(converted)
        self.inputs = artifact.inputs
        self.main = main_input(artifact.inputs).name
        self.main_shape = main_input(artifact.inputs).shape
        self._names = align(artifact.inputs, self.artifact.inputs)
        self.graph = _GRAPHS[self.artifact.format](self.artifact.path)
        self.inner = [value for value in self.graph.values if not value.is_input]

    def open(self, keys: Sequence[str], name: str) -> Session:
        """A session that gives these inner tensors."""
        path = self._folder / f"{name}.{self.artifact.format}"
        path.write_bytes(self.graph.expose(list(dict.fromkeys(keys))))
        return open_session(open_artifact(path))

    def renamed(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Values under the names of the file that is run."""
        return {self._names[name]: values for name, values in arrays.items()}

    def rescaling(self) -> tuple[float, float] | None:
        """Factor and summand that the first layers apply to every value of the main input; None where they do not.

        Of constants that differ from channel to channel the mean counts.
        """
        scale, shift, key = 1.0, 0.0, self._names[self.main]
        while True:
            readers = [value for value in self.inner if key in value.inputs]
            if (
                len(readers) != 1
                or readers[0].kind.upper() not in _ARITHMETIC
                or len(readers[0].weights) != 1
            ):
                break
            (place, weight), kind = next(iter(readers[0].weights.items())), readers[0].kind.upper()
            constant = float(self.graph.constant(weight.key).astype(np.float64).mean())
            if weight.step is not None or (place == 0 and kind == "DIV") or (kind == "DIV" and not constant):
                break
            if kind in {"MUL", "DIV"}:
                factor = constant if kind == "MUL" else 1 / constant
                scale, shift = scale * factor, shift * factor
            elif kind == "ADD":
                shift += constant
            else:
                sign = 1 if place == 1 else -1
                scale, shift = scale * sign, (shift - constant) * sign
            key = readers[0].key
        return None if (scale, shift) == (1.0, 0.0) else (scale, shift)

    def output(self) -> Value | None:
        """The first output as an inner tensor."""
        keys = list(self.graph.outputs.values())
        return next((value for value in self.inner if value.key == keys[0]), None) if keys else None


def run(
    subject: Subject,
    dataset: Dataset,
    rows: NDArray[np.intp],
    readings: Sequence[Reading],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Behaviour:
    """Run some samples as they are with all inner tensors visible, and fewer of them in every other reading.

    Args:
        subject: The model.
        dataset: All samples, not bound to the model.
        rows: The numbers of the samples to run, rising; all their values are finite.
        readings: Other readings of the main input.
        progress: Called with the numbers of samples done and of all.

    Raises:
        ModelError: The model fails.
    """
    probe = _Probe(subject)
    every = max(1, len(rows) // _READ_OTHERWISE)
    keys = [value.key for value in subject.inner]
    extremes: list[Array] = []
    seen: dict[str, list[_Parts]] = {name: [] for name in (AS_GIVEN, *(reading.name for reading in readings))}
    with ExitStack() as stack:
        whole, short = subject.open(keys, "whole"), subject.open(probe.keys, "short")
        stack.callback(whole.close)
        stack.callback(short.close)
        for batch in prepared(dataset.subset([int(row) for row in rows]), subject.inputs, _BATCH):
            made = whole.run(subject.renamed(batch.inputs))
            extremes.append(np.stack([_ends(made[key]) for key in keys], axis=1))
            chosen = [row for row in range(batch.count) if (batch.first + row) % every == 0]
            given = {name: values[chosen] for name, values in batch.inputs.items()}
            if chosen:
                seen[AS_GIVEN].append(
                    probe.look({key: values[chosen] for key, values in made.items()}, given)
                )
            for reading in readings if chosen else ():
                read = given | {subject.main: np.ascontiguousarray(reading.apply(given[subject.main]))}
                seen[reading.name].append(probe.look(short.run(subject.renamed(read)), read))
            if progress:
                progress(batch.first + batch.count, len(rows))
    return Behaviour(
        tuple(value.name for value in subject.inner),
        np.concatenate(extremes),
        rows[::every],
        {reading.name: reading for reading in readings},
        rescaling=subject.rescaling(),
        has_classes=probe.has_classes,
        **probe.results(seen),
    )


class _Probe:
    """What is looked at in every reading: the scores of classes or the error, and the first convolution."""

    def __init__(self, subject: Subject) -> None:
        output = subject.output()
        self._main = subject.main
        self._output = output
        self._is_copy = output is not None and _sizes(output.shape) == _sizes(subject.main_shape)
        self._scores = None if output is None or self._is_copy else _before_softmax(output, subject.inner)
        self._conv = next((value for value in subject.inner if value.kind in _CONVOLUTIONS), None)
        self._channel_axis = 1 if subject.artifact.format is Format.ONNX else -1
        # Of several sigmoids each is a yes or no of its own.
        self.has_classes = (
            self._scores is not None
            and output is not None
            and (output.kind in _SOFTMAX or (output.kind in _SIGMOID and not _sizes(output.shape)))
        )
        watched = (self._scores, self._conv, self._output)
        self.keys = list(dict.fromkeys(value.key for value in watched if value is not None))

    def look(self, made: _Parts, given: _Parts) -> dict[str, Array]:
        """What is kept of a batch in one reading."""
        kept: dict[str, Array] = {}
        if self._scores is not None:
            kept["scores"] = made[self._scores.key].reshape(len(given[self._main]), -1).astype(np.float64)
        if self._is_copy and self._output is not None:
            wanted = given[self._main].reshape(len(given[self._main]), -1).astype(np.float64)
            error = made[self._output.key].reshape(wanted.shape) - wanted
            kept["errors"] = np.stack(
                [np.square(error).mean(axis=1), wanted.mean(axis=1), np.square(wanted).mean(axis=1)], axis=1
            )
        if self._conv is not None:
            channels = np.moveaxis(made[self._conv.key], self._channel_axis, -1)
            channels = channels.reshape(len(channels), -1, channels.shape[-1]).astype(np.float64)
            kept["offset"] = np.stack([channels.mean(axis=1), np.square(channels).mean(axis=1)], axis=1)
        return kept

    def results(self, seen: Mapping[str, Sequence[_Parts]]) -> dict[str, dict[str, Any]]:
        """The fields of ``Behaviour`` that go by reading."""
        found: dict[str, dict[str, Any]] = {}
        for name, parts in seen.items():
            for what in parts[0] if parts else ():
                values = np.concatenate([part[what] for part in parts])
                if what == "offset":
                    value: Any = _offset(values)
                elif what == "errors":
                    value = values[:, 0] / max(values[:, 2].mean() - values[:, 1].mean() ** 2, _TINY)
                else:
                    value = (
                        values
                        if (values.shape[1] > 1)
                        else np.concatenate([np.zeros_like(values), values], axis=1)
                    )
                found.setdefault(what, {})[name] = value
        return found


def _before_softmax(output: Value, inner: Sequence[Value]) -> Value | None:
    """The scores of classes: what the last softmax or sigmoid reads, or the output; None where there are none."""
    sizes = _sizes(output.shape)
    if len(sizes) > 1:
        return None
    if output.kind in _SOFTMAX | _SIGMOID:
        source = next((value for value in inner if value.key == output.inputs[0]), None)
        return source if source is not None and _sizes(source.shape) == sizes else output
    return output if sizes else None


def _sizes(shape: Sequence[int | None]) -> tuple[int, ...]:
    """The sides of one sample that are longer than one."""
    return tuple(size or 0 for size in shape[1:] if size != 1)


def _ends(values: Array) -> Array:
    flat = values.reshape(len(values), -1)
    return np.stack([flat.min(axis=1), flat.max(axis=1)], axis=1).astype(np.float64)


def _offset(moments: Array) -> float:
    """From means and mean squares by sample and channel, (n, 2, channels): the median channel's |mean| / deviation."""
    mean, square = moments[:, 0].mean(axis=0), moments[:, 1].mean(axis=0)
    deviation = np.sqrt(np.maximum(square - mean**2, _TINY))
    alive = square > _TINY
    return float(np.median((np.abs(mean) / deviation)[alive])) if alive.any() else 0.0
