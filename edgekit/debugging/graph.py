"""The nouns of tracing: a model's inner tensors, and what a format offers to make them visible."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgekit.tensor import Array, Quantization

INPUT = "INPUT"
# What the cut file calls the input that stands for an inner tensor.
_FED = "fed:"


@dataclass(frozen=True)
class Weight:
    """A constant that an operator reads: its name, and the grid that its values lie on.

    ``step`` is the distance of neighbouring values, shaped to be multiplied with the constant; None where it
    holds real numbers, of 16 bits where ``is_half``. ``noise`` is the power of rounding to that grid, as a share of
    the constant's own power: step^2 / 12 over the mean square.
    """

    key: str
    shape: tuple[int, ...]
    step: Array | None = None
    is_half: bool = False
    noise: float = 0.0

    @property
    def is_matrix(self) -> bool:
        """Whether it is multiplied with what the operator reads, and no bias or scalar."""
        return len(self.shape) >= 2


@dataclass(frozen=True)
class Value:
    """An input of a model, or a tensor that an operator writes; in the order in which operators run.

    ``key`` is the name under which the exposed file gives it, ``name`` what people call it. ``shape`` has None
    where a size is free. ``inputs`` are the keys of the inner tensors and the names of the model's inputs that its
    operator reads, in order, and ``weights`` its constants by their place among the operator's inputs;
    ``has_unknown_grid`` says that some of those are integers of a kind that is not read here.
    """

    key: str
    name: str
    kind: str
    shape: tuple[int | None, ...]
    dtype: str
    quantization: Quantization | None
    inputs: tuple[str, ...]
    weights: Mapping[int, Weight]
    is_conversion: bool = False
    has_unknown_grid: bool = False

    @property
    def is_input(self) -> bool:
        """Whether it is an input of the model, which no operator writes."""
        return self.kind == INPUT

    @property
    def is_hybrid(self) -> bool:
        """Whether its operator rounds real inputs by itself to multiply them with integer weights."""
        return self.quantization is None and any(weight.step is not None for weight in self.weights.values())


@dataclass(frozen=True)
class Hidden:
    """A tensor that cannot be made visible, and why: ``Hidden("state", "it is a variable", ...)``.

    ``value`` is None for what lies inside of control flow.
    """

    name: str
    reason: str
    value: Value | None = None


@dataclass(frozen=True)
class Grid:
    """Where the values of a quantized tensor can lie: its scale, its zero point, and the type of its integers."""

    quantization: Quantization
    dtype: str

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest real number on it."""
        limits = np.iinfo(self.dtype)
        scale, point = self.quantization.scales[0], self.quantization.zero_points[0]
        return scale * (limits.min - point), scale * (limits.max - point)


class Graph(Protocol):
    """A model file whose inner tensors can be made visible: see ``tflite.py`` and ``onnx.py``."""

    @property
    def values(self) -> Sequence[Value]:
        """The inputs, then what operators write, in the order in which they run."""

    @property
    def hidden(self) -> Sequence[Hidden]:
        """What cannot be seen."""

    @property
    def outputs(self) -> Mapping[str, str]:
        """The key of each output by its name."""

    def expose(self, keys: Collection[str]) -> bytes:
        """The file with these tensors as its outputs, under their keys."""

    def cut(self, keys: Collection[str], watched: Collection[str], weights: Mapping[str, Array]) -> bytes:
        """The file cut at these tensors: what reads one reads the input ``fed(key)`` instead.

        The outputs are the same tensors as their operators write them, under their keys. So each operator computes
        from what it is given, whatever those before it made.

        Args:
            keys: Where to cut.
            watched: Tensors that become outputs too, and are not cut.
            weights: New values of constants, by their keys.
        """

    def rounded(self, weights: Mapping[str, Array], grids: Mapping[str, Grid]) -> bytes:
        """The file with other constants, and with some of its tensors rounded to a grid and back to real numbers.

        Args:
            weights: New values of constants, real numbers, by their keys; what was stored as integers becomes real.
            grids: The grid of each tensor to be rounded, by its key; what reads it reads the rounded values.
        """

    def constant(self, key: str) -> Array:
        """A constant as it is stored: real numbers, or integers without their scale."""


def rounding_noise(values: Array, step: Array) -> float:
    """See ``Weight.noise``: the values are integers around zero, times ``step`` they are real."""
    power = float(np.mean(np.square(values * step, dtype=np.float64)))
    return float(np.mean(np.square(step, dtype=np.float64))) / 12 / power if power > 0 else 0.0


def fed(key: str) -> str:
    """The name of the input of a cut file that stands for a tensor."""
    return _FED + key
