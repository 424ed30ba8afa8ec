"""How TFLite's own integer kernels scale a sum: by a factor of 31 bits, rounding once or twice."""

from typing import Any

import numpy as np
import tensorflow as tf

_BITS = 31


def rounded_twice(total: Any, factor: Any) -> Any:
    """Sums in steps of the output.

    Args:
        total: Whole numbers as float32 or float64, ``(..., channels)``.
        factor: The size of one of them in steps of the output, in float64: a scalar or ``(channels,)``.

    Returns:
        Whole numbers as float64. First the product with the factor's 31 bits is rounded, then what a shift leaves
        of it, both times half upwards; so a value just below the middle may be rounded up.
    """
    fraction, exponent = np.frexp(np.asarray(factor, np.float64))
    multiplier = np.round(fraction * 2.0**_BITS).astype(np.int64)
    # A product of an int32 and a factor of 31 bits has more digits than float64 keeps.
    whole = tf.cast(total, tf.int64) * np.left_shift(1, np.maximum(exponent, 0), dtype=np.int64)
    high = (whole * multiplier + (1 << (_BITS - 1))) // (1 << _BITS)
    power = np.left_shift(1, np.maximum(-exponent, 0), dtype=np.int64)
    return tf.cast((high + power // 2) // power, tf.float64)


def rounded_once(total: Any, factor: float) -> Any:
    """Values in other steps: the product with the factor's 31 bits, rounded half upwards.

    Args:
        total: Whole numbers below 2**31, of any type.
        factor: The size of one of them in the other steps.

    Returns:
        Whole numbers as int64.
    """
    fraction, exponent = np.frexp(np.float64(factor))
    multiplier, shift = int(np.round(fraction * 2.0**_BITS)), _BITS - int(exponent)
    return (tf.cast(total, tf.int64) * multiplier + 2 ** (shift - 1)) // 2**shift


def reduced(factor: Any) -> Any:
    """The factor that kernels of 16-bit activations use for it: 15 bits of its 31.

    Args:
        factor: In float64, a scalar or ``(channels,)``.
    """
    fraction, exponent = np.frexp(np.asarray(factor, np.float64))
    halves = np.minimum(np.floor(np.round(fraction * 2.0**_BITS) / 2.0**16 + 0.5), 2.0**15 - 1)
    return halves * 2.0 ** (exponent - 15.0)
