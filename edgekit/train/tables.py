"""Softmax, sigmoid and tanh of 16-bit values, as TFLite looks them up in tables."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgekit.tensor import Array
from edgekit.train.fixed_point import rounded_twice

FUNCTIONS = ("softmax", "sigmoid", "tanh")

# Sigmoid from 0 in steps of 1 / 24, in sixteen places.
_POINTS = 256
_PER_ONE = 24
# Exponentials go down to exp(-10); they and reciprocals from 1 to 1 / 2 have so many steps, in fifteen places.
_STEPS = 512
_DEPTH = 10.0
_ONE = 2.0**15


@keras.saving.register_keras_serializable("edgekit")
class FakeQuantTable(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """Applies softmax over the last axis, sigmoid or tanh to values of 16 bits.

    ``grid`` is what ``settle`` knows of it once it is trained: ``input`` is the size of a step of what it is given.
    From there on the result is one of the steps of 1 / 32768 that TFLite gives.
    """

    def __init__(self, function: str, *, grid: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function, self.grid = function, dict(grid) if grid else None

    def call(self, x: Any, training: bool | None = None) -> Any:
        """The function's values."""
        if training:
            self.grid = None  # the ranges move on
        if not self.grid:
            return keras.activations.get(self.function)(x)
        scale = self.grid["input"]
        whole = tf.cast(tf.round(x / np.float32(scale)), tf.int64)
        steps = (
            _softmax(whole, scale) if self.function == "softmax" else _sigmoid(whole, scale, self.function)
        )
        return tf.cast(steps, tf.float32) / _ONE

    def get_config(self) -> dict[str, Any]:
        """The layer's options."""
        return {**super().get_config(), "function": self.function, "grid": self.grid}


def _sigmoid(whole: Any, scale: float, function: str) -> Any:
    """One table for both, of positive values alone: tanh(x) is 2 sigmoid(2x) - 1."""
    tanh = function == "tanh"
    # The input gets the table's own scale by a factor of 15 bits.
    factor, shift = scale * _PER_ONE * 512, 0
    while factor <= (_ONE - 1) / 2 and shift <= 30:
        factor, shift = factor * 2, shift + 1
    given = (whole * int(factor) + 2**shift // 2) // 2**shift
    between = 256 if tanh else 512
    table = _with_lines_between(lambda x: 2 * _ONE / (1 + np.exp(-x)), np.arange(_POINTS + 1) / _PER_ONE)
    table = table[:_POINTS]
    place = tf.minimum(tf.abs(given) // between, _POINTS - 2)
    start, end = tf.gather(table, place), tf.gather(table, place + 1)
    found = start * between + (tf.abs(given) - place * between) * (end - start)
    beyond = tf.abs(given) // between >= _POINTS - 1
    if tanh:
        found = tf.where(beyond, 65535 * 256, found) - 2**23
        return tf.where(given >= 0, found + 128, 127 - found) // 256
    found = tf.where(beyond, 32767 * 1024, found)
    return tf.where(given >= 0, found + 512, 2**25 - found + 511) // 1024


def _softmax(whole: Any, scale: float) -> Any:
    # Rounded half away from zero, all being negative.
    below = rounded_twice(tf.reduce_max(whole, -1, keepdims=True) - whole, scale / (_DEPTH / 65535))
    powers = _looked_up(
        _half_rounded(np.exp, np.linspace(-_DEPTH, 0, _STEPS + 1)), 32767 - tf.cast(below, tf.int64)
    )
    total = tf.reduce_sum(powers, -1, keepdims=True)
    # The sum as 1 + x with x in 16 bits, and a power of two.
    digits = tf.cast(tf.floor(tf.math.log(tf.cast(total, tf.float64) + 0.5) / np.log(2.0)), tf.int64) + 1
    scaled = (total * 2 ** (31 - digits) + 2**13) // 2**14
    reciprocal = _looked_up(
        _half_rounded(lambda x: 1 / (1 + x), np.linspace(0, 1, _STEPS + 1)), scaled - 2**15 - 2**16
    )
    return tf.clip_by_value((powers * reciprocal + 2 ** (digits - 2)) // 2 ** (digits - 1), 0, 32767)


def _looked_up(table: Array, values: Any) -> Any:
    """Values from -32768 to 32767 stand for the table's ends and what is between."""
    values = tf.clip_by_value(values, -32768, 32767) + 32768
    place = values // 128
    start, end = tf.gather(table, place), tf.gather(table, place + 1)
    return start + ((end - start) * (values - place * 128) + 64) // 128


def _with_lines_between(function: Callable[[Array], Array], points: Array) -> Array:
    """Points moved so that the lines between them are as much above the function as below."""
    values = function(points)
    middle = function((points[:-1] + points[1:]) / 2)
    moved = values[:-1] + (middle - (values[:-1] + values[1:]) / 2) / 2
    return np.round([*moved, values[-1]]).astype(np.int64)


def _half_rounded(function: Callable[[Array], Array], points: Array) -> Array:
    """The same with each step of it rounded, half away from zero, as TFLite fills its own tables."""
    values = _ONE * function(points)
    middle = _away(_ONE * function((points[:-1] + points[1:]) / 2))
    line = _away((values[1:] + _away(values[:-1])) / 2)
    moved = _away(values[:-1]) - _away((line - middle) / 2)
    return np.minimum([*moved, _away(values[-1])], _ONE - 1).astype(np.int64)


def _away(values: Array) -> Array:
    return np.copysign(np.floor(np.abs(values) + 0.5), values)
