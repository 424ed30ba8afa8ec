"""The layers that a float file and its quantized twin share, and what flows into them on samples."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgekit.tensor import Array, difference

_SAMPLES = 128

Item = TypeVar("Item")

Floats = NDArray[np.float64]
# By the position of the layer.
Means = dict[int, Floats]


@dataclass(frozen=True)
class Layer:
    """A convolution or fully connected layer in both files.

    ``weights`` are those of the float file and ``rounded`` the real numbers that the quantized one stands for,
    both with the inputs of one group and then the output channels last: (3, 3, 8, 16) for a convolution, (3, 3, 1,
    16) for a depthwise one, (64, 10) for a fully connected layer. Group g of ``groups`` reads the g-th part of
    the input channels and gives the g-th part of the output channels. ``bias`` is that of the float file and
    ``rounded_bias`` that of the quantized one, one real number per output channel; so are ``steps``, the scales of
    the integers, which go up to ``limit``. Where ``is_per_channel`` is false, the file has one step for all of them.
    """

    position: int
    weights: Floats
    rounded: Floats
    bias: Floats
    rounded_bias: Floats
    steps: Floats
    limit: int
    window: "Window | None"
    groups: int = 1
    is_per_channel: bool = True

    def columns(self, weights: Floats) -> Floats:
        """Weights as one matrix per group: (3, 3, 1, 16) of 16 groups to (16, 9, 1), (64, 10) to (1, 64, 10)."""
        return weights.reshape(-1, self.groups, weights.shape[-1] // self.groups).transpose(1, 0, 2)

    def shaped(self, columns: Floats) -> Floats:
        """What ``columns`` made of weights, as weights again."""
        return columns.transpose(1, 0, 2).reshape(self.weights.shape)

    def rows(self, values: Array) -> Array:
        """What each sum reads: (1, 8, 8, 16) into a 3x3 layer of 16 groups to (16, 64, 9); to (1, 64, 144) of one."""
        if self.window is None:
            return values.reshape(1, -1, self.weights.shape[0])
        return self._grouped(np.concatenate([self.window.patches(image) for image in values]))

    def some_rows(self, values: Array, count: int, generator: np.random.Generator) -> Array:
        """The same for at most so many positions of each image, drawn at random; all rows of what is no image."""
        if self.window is None:
            return self.rows(values)
        return self._grouped(np.stack([self.window.some(image, count, generator) for image in values]))

    def _grouped(self, patches: Array) -> Array:
        taps = self.window.kernel[0] * self.window.kernel[1] if self.window else 1
        grouped = patches.reshape(-1, taps, self.groups, self.weights.shape[2]).transpose(2, 0, 1, 3)
        return grouped.reshape(*grouped.shape[:2], -1)

    def mean_output(self, weights: Floats, means: Floats) -> Floats:
        """The mean of each output channel without the bias; ``means`` are those of the inputs, tap by tap."""
        taps = means.reshape(self._taps, self.groups, -1)
        seen = taps.transpose(1, 0, 2).reshape(self.groups, 1, -1)
        return np.asarray((seen @ self.columns(weights)).ravel(), np.float64)

    @property
    def _taps(self) -> int:
        return 1 if self.window is None else self.window.kernel[0] * self.window.kernel[1]


@dataclass(frozen=True)
class Window:
    """How a convolution slides over its input; ``padding`` is of zeros: ((top, bottom), (left, right))."""

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))

    def means(self, image: Array) -> Floats:
        """The mean input under each tap: (height, width, channels) to (kernel, kernel, channels)."""
        return np.asarray(self.patches(image).mean(axis=(0, 1)), np.float64)

    def patches(self, image: Array) -> Array:
        """What each output sees: (height, width, channels) to (rows, columns, kernel, kernel, channels)."""
        padded = np.pad(image, (*self.padding, (0, 0)))
        output = [self._count(padded.shape[axis], axis) for axis in (0, 1)]
        taps = np.empty((*output, *self.kernel, image.shape[-1]), image.dtype)
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                taps[:, :, row, column] = padded[
                    self._reach(row, 0, output[0]), self._reach(column, 1, output[1])
                ]
        return taps

    def some(self, image: Array, count: int, generator: np.random.Generator) -> Array:
        """What at most so many outputs see: (height, width, channels) to (count, kernel, kernel, channels)."""
        sizes = [image.shape[axis] + sum(self.padding[axis]) for axis in (0, 1)]
        height, width = self._count(sizes[0], 0), self._count(sizes[1], 1)
        chosen = generator.choice(height * width, min(count, height * width), replace=False)
        rows, columns = self._taps(chosen // width, 0)[:, :, None], self._taps(chosen % width, 1)[:, None, :]
        # A padded copy of the image would cost more than all of this.
        inside = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
        seen = image[np.clip(rows, 0, image.shape[0] - 1), np.clip(columns, 0, image.shape[1] - 1)]
        return np.asarray(np.where(inside[..., None], seen, 0), image.dtype)

    def _taps(self, outputs: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
        """Where outputs look along an axis of the image without its padding: (8,) to (8, kernel)."""
        taps = np.arange(self.kernel[axis]) * self.dilations[axis]
        return outputs[:, None] * self.strides[axis] + taps - self.padding[axis][0]

    def _count(self, size: int, axis: int) -> int:
        return (size - (self.kernel[axis] - 1) * self.dilations[axis] - 1) // self.strides[axis] + 1

    def _reach(self, tap: int, axis: int, count: int) -> slice:
        first = tap * self.dilations[axis]
        return slice(first, first + (count - 1) * self.strides[axis] + 1, self.strides[axis])


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zeros in front and behind that TensorFlow's SAME adds: what is missing, the smaller half in front."""
    output = -(-size // stride)
    missing = max(0, (output - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return missing // 2, missing - missing // 2


@dataclass(frozen=True)
class Activation:
    """Tensors of the float file that have one range: a value, and copies of it that are only moved about.

    ``layers`` are the positions of those that read one of them. ``is_read_elsewhere`` where another operator does
    (or nothing, as with an output), so that an error counts as it stands.
    """

    names: tuple[str, ...]
    layers: tuple[int, ...]
    is_read_elsewhere: bool


@dataclass(frozen=True)
class Change:
    """What a layer of the quantized file gets; None keeps what is there.

    ``integers`` lie as ``Layer.weights`` do, ``bias`` holds real numbers. Other ``steps`` make the bias be
    rounded anew, because its steps are those of the input times these.
    """

    integers: NDArray[np.int8] | None = None
    bias: Floats | None = None
    steps: Floats | None = None


@dataclass(frozen=True)
class Call:
    """What one run of a file held.

    ``inputs`` are what goes into layers, as it is stored, by their positions; ``values`` are float tensors by their
    names, and of one that is only clipped, what is left of it.
    """

    inputs: Mapping[int, Array]
    values: Mapping[str, Array]


class Probe(ABC):
    """A loaded file whose inner tensors can be read."""

    @abstractmethod
    def outputs(self, samples: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
        """The outputs as real numbers, sample by sample; ``samples`` are real numbers: ``{"x": (256, 32, 32, 3)}``.

        Of an output that a softmax or a sigmoid makes, what goes into that: where it saturates, one cannot see
        which of two files is nearer.
        """

    def inputs(self, layers: Sequence[Layer], samples: Mapping[str, Array]) -> Iterator[tuple[Layer, Array]]:
        """What goes into every layer, as real numbers with channels last, sample by sample."""
        for call in self.calls(layers, (), samples):
            for layer in layers:
                yield layer, self.real(layer, call.inputs[layer.position])

    def means(self, layers: Sequence[Layer], samples: Mapping[str, Array]) -> Means:
        """The mean of every layer's input, tap by tap, over the first 128 samples; by the layer's position."""
        sums = InputSums(layers)
        for call in self.calls(layers, (), some(samples)):
            sums.add(call)
        return sums.means(self)

    @abstractmethod
    def calls(
        self, layers: Sequence[Layer], names: Sequence[str], samples: Mapping[str, Array]
    ) -> Iterator[Call]:
        """What goes into these layers and what these tensors hold, sample by sample."""

    @abstractmethod
    def real(self, layer: Layer, values: Array) -> Array:
        """The real numbers that stored ones stand for, with channels last."""


class InputSums:
    """Sums of what goes into layers, from which their means come."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        self._sums: dict[int, Floats] = {}
        self._rows: Counter[int] = Counter()

    def add(self, call: Call) -> None:
        """Take in one run of the file."""
        for layer in self._layers:
            values = call.inputs[layer.position]
            flat = values if layer.window else values.reshape(-1, layer.weights.shape[0])
            # One sample after the other is added up in double precision.
            total = flat if len(flat) == 1 else flat.sum(axis=0, dtype=np.float64, keepdims=True)
            if layer.position in self._sums:
                self._sums[layer.position] += total
            else:
                self._sums[layer.position] = total.astype(np.float64)
            self._rows[layer.position] += len(flat)

    def means(self, probe: Probe) -> Means:
        """The mean of every input, tap by tap; ``probe`` is what the runs were of."""
        found = {}
        for layer in self._layers:
            # Means are linear: those of real numbers and of single taps follow from the mean of what is stored.
            mean = probe.real(layer, self._sums[layer.position] / self._rows[layer.position])[0]
            found[layer.position] = mean if layer.window is None else layer.window.means(mean)
        return found


class Twins(Protocol):
    """A float file and the quantized file that was made from it, whatever their format.

    Twins do not change: ``changed`` gives others.
    """

    @property
    def quantized(self) -> bytes:
        """The quantized file."""

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers that both files have, in the order in which they run; none where the files do not match."""

    @property
    def activations(self) -> Sequence[Activation]:
        """The values of the float file that the quantized one has ranges for."""

    @property
    def float_probe(self) -> Probe:
        """The float file, loaded."""

    @property
    def probe(self) -> Probe:
        """The quantized file, loaded.

        Raises:
            ModelError: The runtime cannot run it.
        """

    def changed(self, changes: Mapping[int, Change]) -> Self:
        """The twins after changes in the quantized file, by the positions of layers."""


def snr_db(probe: Probe, held_back: Mapping[str, Array], exact: list[dict[str, Array]]) -> float:
    """The SNR of the worst output, where ``exact`` are the float model's."""
    return worst_snr_db(exact, list(probe.outputs(held_back)))


def worst_snr_db(exact: Sequence[Mapping[str, Array]], measured: Sequence[Mapping[str, Array]]) -> float:
    """The SNR in dB of the worst output over all samples, which both hold by the same names."""
    return min(
        difference(np.array([row[name] for row in exact]), np.array([row[name] for row in measured])).snr_db
        for name in exact[0]
    )


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made while the one before it is used."""
    with ThreadPoolExecutor(1) as thread:
        pending = thread.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = thread.submit(next, items, None)
            yield item


def some(samples: Mapping[str, Array]) -> dict[str, Array]:
    """The first 128 samples, which are enough for means and covariances."""
    return {name: values[:_SAMPLES] for name, values in samples.items()}


def others(samples: Mapping[str, Array]) -> dict[str, Array]:
    """All but those."""
    return {name: values[_SAMPLES:] for name, values in samples.items()}
