"""Arithmetic on tensors: affine quantization, and how far two tensors are apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Quantization:
    """How the integers of a tensor stand for real numbers: ``real = scale * (integer - zero_point)``.

    A per-tensor quantization has one scale and one zero point; a per-channel one has as many as the
    tensor is long along ``axis``: a weight of shape (16, 3, 3, 8) with axis 0 has 16 scales.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0

    def __post_init__(self) -> None:
        if not self.scales or len(self.scales) != len(self.zero_points):
            raise ValueError(f"{len(self.scales)} scales but {len(self.zero_points)} zero points")
        if any(not math.isfinite(scale) or scale < 0 for scale in self.scales):
            raise ValueError(f"a scale is negative or not finite: {min(self.scales)}")

    @property
    def per_channel(self) -> bool:
        """Whether each channel has a scale of its own."""
        return len(self.scales) > 1


def quantize(values: Array, quantization: Quantization, dtype: str) -> Array:
    """Real numbers to integers, rounded half to even and clipped to the range of ``dtype``.

    This is the arithmetic of LiteRT's QUANTIZE kernel and of ONNX QuantizeLinear.

    >>> quantize(np.array([-1.0, 0.0, 0.26]), Quantization((0.5,), (3,)), "int8").tolist()
    [1, 3, 4]
    """
    scale, zero_point = _broadcast(values.ndim, quantization)
    limits = np.iinfo(dtype)
    # In place after the copy: quantizing inputs is most of what feeding a small model costs.
    reals = values.astype(np.float32)
    reals /= scale
    np.rint(reals, out=reals)
    reals += zero_point
    np.clip(reals, limits.min, limits.max, out=reals)
    return reals.astype(dtype)


def dequantize(integers: Array, quantization: Quantization) -> NDArray[np.float32]:
    """Integers to the real numbers that they stand for.

    >>> dequantize(np.array([1, 3], np.int8), Quantization((0.5,), (3,))).tolist()
    [-1.0, 0.0]
    """
    scale, zero_point = _broadcast(integers.ndim, quantization)
    return ((integers.astype(np.float32) - zero_point) * scale).astype(np.float32)


def _broadcast(ndim: int, quantization: Quantization) -> tuple[Floats, Floats]:
    """Scales and zero points shaped so that they multiply along the quantized axis."""
    scales = np.asarray(quantization.scales, np.float32)
    zero_points = np.asarray(quantization.zero_points, np.float32)
    if not quantization.per_channel:
        return scales[0], zero_points[0]
    shape = [1] * ndim
    shape[quantization.axis] = -1
    return scales.reshape(shape), zero_points.reshape(shape)


@dataclass(frozen=True)
class Difference:
    """How far a tensor is from its reference: SNR in dB and the largest absolute difference."""

    snr_db: float
    max_abs: float


def difference(reference: Array, candidate: Array) -> Difference:
    """Compare tensors of the same shape.

    ``snr_db = 10 log10(sum(reference^2) / sum((reference - candidate)^2))``: infinite where they are
    equal, minus infinite where the candidate holds a NaN or an infinity that the reference does not.

    >>> difference(np.array([3.0, 4.0]), np.array([3.0, 4.5]))
    Difference(snr_db=20.0, max_abs=0.5)
    """
    exact, measured = reference.astype(np.float64), candidate.astype(np.float64)
    if not np.isfinite(measured).all():
        return Difference(-math.inf, math.inf)
    error = exact - measured
    noise = float(np.sum(error * error))
    max_abs = float(np.max(np.abs(error), initial=0.0))
    if noise == 0.0:
        return Difference(math.inf, 0.0)
    signal = float(np.sum(exact * exact))
    return Difference(10 * math.log10(signal / noise) if signal else -math.inf, max_abs)


def element_count(shape: Sequence[int | None]) -> int:
    """Number of elements, a dynamic dimension counted as one: ``(None, 32, 32, 3)`` has 3072."""
    return math.prod(1 if size is None else size for size in shape)
