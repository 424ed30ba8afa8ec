"""Sums and products of two tensors and changes of scale, as a device computes them once the scales are known."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgekit.train.fixed_point import rounded_once, rounded_twice

PAIRS = ("Add", "Multiply", "Subtract")

_SIGNS = {"Add": 1, "Subtract": -1}
# XNNPACK's factors of a sum have so many digits after the first.
_DIGITS = 20
_PLACES = np.float32(256)
# TFLite's own sum of 16 bits takes so many places along.
_SHIFTED = 2.0**15


@keras.saving.register_keras_serializable("edgekit")
class FakeQuantPair(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """Joins two tensors that were rounded; ``kind`` is ``"Add"``, ``"Subtract"`` or ``"Multiply"``.

    ``grid`` is what ``settle`` knows of it once it is trained: ``first``, ``second`` and ``output`` are the sizes of
    a step of each, ``bits`` those of all. From there on the result is one of the steps that XNNPACK gives, or TFLite's
    own kernel where there are 16 bits.
    """

    def __init__(self, kind: str, *, grid: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind, self.grid = kind, dict(grid) if grid else None

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The result, not yet limited to the range of the output."""
        if training:
            self.grid = None  # the ranges move on
        first, second = inputs
        if self.grid:
            return self._on_grid(first, second, self.grid)
        if self.kind == "Multiply":
            return first * second
        return first + second if self.kind == "Add" else first - second

    def _on_grid(self, first: Any, second: Any, grid: Mapping[str, float]) -> Any:
        scales = [np.float32(grid[name]) for name in ("first", "second", "output")]
        a, b = tf.round(first / scales[0]), tf.round(second / scales[1])
        wide = grid.get("bits") == 16
        if self.kind == "Multiply":
            steps = (_wide_product if wide else _product)(a, b, scales)
        else:
            steps = (_wide_sum if wide else _sum)(a, b, scales, _SIGNS[self.kind])
        return tf.cast(steps, tf.float32) * scales[2]

    def get_config(self) -> dict[str, Any]:
        """The layer's options."""
        return {**super().get_config(), "kind": self.kind, "grid": self.grid}


@keras.saving.register_keras_serializable("edgekit")
class FakeQuantConversion(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """Passes what was rounded on to where it is joined with others, whose scale it gets.

    ``grid`` has the sizes of a step on both sides, ``input`` and ``output``, once ``settle`` knows them: XNNPACK's
    factor between them has eight binary places.
    """

    def __init__(self, *, grid: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid = dict(grid) if grid else None

    def call(self, x: Any, training: bool | None = None) -> Any:
        """The values as they are, or settled those nearby that the new scale has."""
        if training:
            self.grid = None
        if not self.grid:
            return x
        given, output = np.float32(self.grid["input"]), np.float32(self.grid["output"])
        factor = float(np.rint(_PLACES * (given / output)))
        return tf.floor(tf.round(x / given) * factor / _PLACES + 0.5) * output

    def get_config(self) -> dict[str, Any]:
        """The layer's options."""
        return {**super().get_config(), "grid": self.grid}


def _sum(a: Any, b: Any, scales: list[np.float32], sign: int) -> Any:
    """Both factors are whole numbers, and the result is rounded half upwards."""
    factors = scales[0] / scales[2], scales[1] / scales[2]
    _fraction, exponent = np.frexp(max(factors))
    power = 2.0 ** (_DIGITS + 1 - int(exponent))
    first, second = (float(np.rint(np.float64(factor) * power)) for factor in factors)
    total = tf.cast(a, tf.float64) * first + tf.cast(b, tf.float64) * (sign * second)
    return tf.floor(total / power + 0.5)


def _product(a: Any, b: Any, scales: list[np.float32]) -> Any:
    """The factor is a float32, and the result is rounded half to even."""
    return tf.round(a * b * (scales[0] * scales[1] / scales[2]))


def _wide_sum(a: Any, b: Any, scales: list[np.float32], sign: int) -> Any:
    """Both are brought to steps of twice the larger scale, each rounded once, and the sum to those of the output."""
    twice = 2 * np.float64(max(scales[:2]))
    first, second = (
        rounded_once(value * _SHIFTED, scale / twice) for value, scale in zip((a, b), scales[:2], strict=True)
    )
    return rounded_twice(first + sign * second, twice / (_SHIFTED * scales[2]))


def _wide_product(a: Any, b: Any, scales: list[np.float32]) -> Any:
    product = tf.cast(a, tf.float64) * tf.cast(b, tf.float64)
    return rounded_twice(product, scales[0] * scales[1] / scales[2])
