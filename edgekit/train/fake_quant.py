"""Layers that round as the device will: the values between layers, and the weights inside of them.

Both use TensorFlow's fake quantization, whose gradient passes straight through (arXiv:1712.05877, section 3), and
which its converter turns into the very scales that were trained with.
"""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

Ranges = Literal["moving", "learned"]

_MOMENTUM = 0.95
_SMALLEST = 1e-6


@keras.saving.register_keras_serializable("edgekit")
class FakeQuant(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """Rounds what passes to ``bits`` bits over one range for the whole tensor.

    ``ranges`` is ``"moving"`` for a moving average of what was seen, or ``"learned"`` for ends that are trained
    with the weights, from there on. ``fixed`` is the range of an operator that has no choice: softmax's
    ``(0, 255 / 256)``.
    """

    def __init__(
        self,
        bits: int = 8,
        *,
        ranges: Ranges = "moving",
        fixed: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bits, self.ranges, self.fixed = bits, ranges, tuple(fixed) if fixed else None

    def build(self, shape: Any) -> None:  # noqa: ARG002 - Keras's signature
        """The ends of the range, and whether they stand still."""
        low, high = self.fixed or (0.0, 0.0)
        learned = self.ranges == "learned" and not self.fixed
        # Ends of a range are no weights: decaying them would shrink it.
        self.low = self._end("low", low, trainable=learned)
        self.high = self._end("high", high, trainable=learned)
        self.frozen = self._end("frozen", float(bool(self.fixed)), trainable=False)
        self.seen = self._end("seen", float(bool(self.fixed)), trainable=False)

    def _end(self, name: str, value: float, *, trainable: bool) -> Any:
        return self.add_weight(
            name=name, shape=(), initializer=keras.initializers.Constant(value), trainable=trainable
        )

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Round; while training also follow the range."""
        if training and self.fixed:
            return x  # rounded probabilities of 0 have no logarithm, and the range is not to be found
        if training:
            self._follow(x)
        return tf.quantization.fake_quant_with_min_max_vars(x, self.low, self.high, num_bits=self.bits)

    def _follow(self, x: Any) -> None:
        low = tf.minimum(tf.reduce_min(x), 0.0)
        high = tf.maximum(tf.reduce_max(x), _SMALLEST)
        if self.bits == 16:  # int16 activations have no zero point
            high = tf.maximum(high, -low)
            low = -high
        first = self.seen < 0.5
        # Learned ends follow only the first batch: from there the gradient moves them.
        rate = 0.0 if self.ranges == "learned" else (1 - _MOMENTUM) * (1 - self.frozen)
        rate = tf.where(first, 1.0, rate)
        self.low.assign(self.low + rate * (low - self.low))
        self.high.assign(self.high + rate * (high - self.high))
        self.seen.assign(1.0)

    def get_config(self) -> dict[str, Any]:
        """The layer's options."""
        return {**super().get_config(), "bits": self.bits, "ranges": self.ranges, "fixed": self.fixed}


@keras.saving.register_keras_serializable("edgekit")
class FakeQuantWeights(keras.layers.Wrapper):  # type: ignore[misc] # Keras has no types
    """Runs a layer with its kernel rounded to ``bits`` bits, symmetrically, without the lowest value.

    ``per_channel`` has one scale per output channel, else there is one for the whole kernel.
    """

    def __init__(self, layer: Any, bits: int = 8, *, per_channel: bool = True, **kwargs: Any) -> None:
        kwargs.setdefault("name", layer.name)
        super().__init__(layer, **kwargs)
        self.bits, self.per_channel = bits, per_channel

    def call(self, x: Any, training: bool | None = None) -> Any:
        """The layer's outputs with rounded weights."""
        del training  # none of the layers with a kernel behaves differently
        layer = self.layer
        weights = [
            self.rounded(variable) if variable is layer.kernel else variable
            for variable in layer.trainable_variables
        ]
        others = [
            self.rounded(variable) if variable is layer.kernel else variable
            for variable in layer.non_trainable_variables
        ]
        result, _updated = layer.stateless_call(weights, others, x)
        return result

    def rounded(self, kernel: Any) -> Any:
        """The kernel as the device will have it, in real numbers."""
        kernel = tf.convert_to_tensor(kernel)
        depthwise = isinstance(self.layer, keras.layers.DepthwiseConv2D)
        if not self.per_channel:
            most = tf.maximum(tf.reduce_max(tf.abs(kernel)), _SMALLEST)
            most = tf.stop_gradient(most)
            return tf.quantization.fake_quant_with_min_max_vars(
                kernel, -most, most, num_bits=self.bits, narrow_range=True
            )
        shape = kernel.shape
        if depthwise:  # the output channels are the last two axes together
            kernel = tf.reshape(kernel, [*shape[:-2], shape[-2] * shape[-1]])
        axes = list(range(len(kernel.shape) - 1))
        most = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(kernel), axis=axes), _SMALLEST))
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            kernel, -most, most, num_bits=self.bits, narrow_range=True
        )
        return tf.reshape(rounded, shape) if depthwise else rounded

    def get_config(self) -> dict[str, Any]:
        """The layer's options."""
        return {**super().get_config(), "bits": self.bits, "per_channel": self.per_channel}
