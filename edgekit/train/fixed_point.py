"""How TFLite's own integer kernels scale a sum: by a factor of 31 bits, rounding twice."""

from typing import Any

import tensorflow as tf

_BITS = 31


def rounded_twice(total: Any, step: Any, output: Any) -> Any:
    """Sums in steps of the output.

    Args:
        total: Whole numbers as float32, ``(..., channels)``.
        step: The size of one of them, a scalar or ``(channels,)``.
        output: The size of a step of the output.

    Returns:
        Whole numbers as float32. First the product with the factor's 31 bits is rounded, then what a shift leaves
        of it, both times half upwards; so a value just below the middle may be rounded up.
    """
    factor = tf.cast(step, tf.float64) / tf.cast(output, tf.float64)
    exponent = tf.floor(tf.math.log(factor) / tf.math.log(tf.constant(2.0, tf.float64))) + 1
    multiplier = tf.round(factor * 2.0 ** (_BITS - exponent))
    shift = tf.maximum(-exponent, 0.0)
    # A product of an int32 and a factor of 31 bits has more digits than float64 keeps.
    whole = tf.cast(total, tf.int64) * tf.cast(2.0 ** tf.maximum(exponent, 0.0), tf.int64)
    product = whole * tf.cast(multiplier, tf.int64)
    half = tf.constant(1 << (_BITS - 1), tf.int64)
    high = (product + half) // (1 << _BITS)
    power = tf.cast(2.0**shift, tf.int64)
    return tf.cast((high + power // 2) // power, tf.float32)
