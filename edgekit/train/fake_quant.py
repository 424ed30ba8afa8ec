"""Layers that round as the device will: the values between layers, and the weights inside of them.

Both use TensorFlow's fake quantization, whose gradient passes straight through (arXiv:1712.05877, section 3), and
which its converter turns into the very scales that were trained with.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from edgekit.train.fixed_point import reduced, rounded_twice

# The converter fails on scales per channel of the other kernels, which it reshapes or transposes.
_CONVERTED_PER_CHANNEL = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)

Ranges = Literal["moving", "learned"]
WeightRanges = Literal["largest", "learned"]

_MOMENTUM = 0.95
_SMALLEST = 1e-6
_FINE = {8: 1024.0, 16: 128.0}
_LEAST_FACTOR = 0.05
# Learned ends follow so many batches before they are learned: one batch says little about them.
_FOLLOWED = 50.0


@tf.custom_gradient  # type: ignore[untyped-decorator] # TensorFlow has no types
def _slowed(value: Any, rate: Any) -> Any:
    """The value itself, with a gradient that is multiplied by the rate."""
    return tf.identity(value), lambda upstream: (upstream * rate, None)


@keras.saving.register_keras_serializable("edgekit")
class FakeQuant(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """Rounds what passes to ``bits`` bits over one range for the whole tensor.

    ``ranges`` is ``"moving"`` for a moving average of what was seen, or ``"learned"`` for ends that are
    trained with the weights after such an average of 50 batches: as factors of it, so that the same learning rate fits
    ranges of any size, and with the gradient of arXiv:1902.08153, section 2.2, which is small where many values make
    it. ``fixed`` is the range of an operator that has no choice: softmax's
    ``(0, 255 / 256)``. ``settled`` is what ``settle`` makes of it once it is trained.
    """

    def __init__(
        self,
        bits: int = 8,
        *,
        ranges: Ranges = "moving",
        fixed: Sequence[float] | None = None,
        settled: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bits, self.ranges, self.fixed = bits, ranges, tuple(fixed) if fixed else None
        self.settled = settled

    def build(self, shape: Any) -> None:  # noqa: ARG002 - Keras's signature
        """The ends of the range, and whether they stand still."""
        low, high = self.fixed or (0.0, 0.0)
        learned = self.ranges == "learned" and not self.fixed
        # Ends of a range are no weights: decaying them would shrink it.
        self.low = self._end("low", low, trainable=False)
        self.high = self._end("high", high, trainable=False)
        self.factors = [
            self._end(f"{name}_factor", 1.0, trainable=True) for name in ("low", "high") if learned
        ]
        self.frozen = self._end("frozen", float(bool(self.fixed)), trainable=False)
        self.seen = self._end("seen", float(bool(self.fixed)), trainable=False)

    def _end(self, name: str, value: float, *, trainable: bool) -> Any:
        return self.add_weight(
            name=name,
            shape=(),
            initializer=keras.initializers.Constant(value),
            trainable=trainable,
            aggregation="mean",  # over the devices that share a batch
        )

    def ends(self, rate: Any = 1.0) -> tuple[Any, Any]:
        """The lowest and the highest value; their gradient is multiplied by ``rate``."""
        low, high = self.low, self.high
        if self.factors:
            low, high = (
                end * _slowed(tf.maximum(factor, _LEAST_FACTOR), rate)
                for end, factor in zip((low, high), self.factors, strict=True)
            )
        # int16 activations have no zero point, and one value more below than above.
        return (-high * (32768 / 32767), high) if self.bits == 16 and not self.fixed else (low, high)

    def call(self, x: Any, training: bool | None = None, averaged: bool = False) -> Any:
        """Round; while training also follow the range. ``averaged`` is for the mean of values rounded by this."""
        if averaged:
            # An average says nothing about the range of what it averages.
            return self._mean(x) if self.settled else self._rounded(x)
        if training and self.fixed:
            return x  # rounded probabilities of 0 have no logarithm, and the range is not to be found
        if training:
            self.settled = False
            self._follow(x)
        return self._rounded(x, training)

    def _rounded(self, x: Any, training: bool | None = None) -> Any:
        if self.settled and self.bits == 16:
            # In TensorFlow's fake quantization, 16 bits leave float32 seven for what is to be rounded.
            step = self._step()
            return tf.clip_by_value(tf.round(x / step), -32768.0, 32767.0) * step
        rate = 1.0
        if self.factors:
            values = tf.cast(tf.maximum(tf.size(x) // tf.maximum(tf.shape(x)[0], 1), 1), tf.float32)
            learning = tf.cast(self.seen >= _FOLLOWED, tf.float32) * (1 - self.frozen)
            rate = learning / tf.sqrt(values * (2 ** (self.bits - 1) - 1))
        low, high = self.ends(rate)
        rounded = tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=self.bits)
        if not self.factors or not training:
            return rounded
        # TensorFlow's gradient of the ends knows what is cut off alone; a step also moves what is rounded to it.
        step = (high - low) / (2**self.bits - 1)
        within = tf.cast((x >= low) & (x <= high), tf.float32)
        return rounded + tf.stop_gradient(within * (rounded - x) / step) * (step - tf.stop_gradient(step))

    def _mean(self, x: Any) -> Any:
        """TFLite's average: the middle between two steps, which is frequent there, goes away from the integer 0."""
        scale = self._step()
        zero_point = tf.round(-self.ends()[0] / scale) - 2 ** (self.bits - 1)
        # Float noise would hide what is the middle.
        fine = _FINE[self.bits]
        steps = tf.round((x / scale + zero_point) * fine) / fine
        return (tf.sign(steps) * tf.floor(tf.abs(steps) + 0.5) - zero_point) * scale

    def _step(self) -> Any:
        low, high = (tf.cast(end, tf.float64) for end in self.ends())
        return tf.cast((high - low) / (2**self.bits - 1), tf.float32)

    def _follow(self, x: Any) -> None:
        low = tf.minimum(tf.reduce_min(x), 0.0)
        high = tf.maximum(tf.reduce_max(x), _SMALLEST)
        if self.bits == 16:
            high = tf.maximum(high, -low)
        rate = tf.where(self.seen < 0.5, 1.0, (1 - _MOMENTUM) * (1 - self.frozen))
        if self.factors:  # from here on the gradient moves the ends
            rate = tf.where(self.seen < _FOLLOWED, rate, 0.0)
        self.low.assign(self.low + rate * (low - self.low))
        self.high.assign(self.high + rate * (high - self.high))
        self.seen.assign(tf.minimum(self.seen + 1, _FOLLOWED))

    def grid(self) -> tuple[float, int]:
        """Scale and zero point of int8 values, nudged as TensorFlow nudges them."""
        low, high = (float(np.asarray(end)) for end in self.ends())
        scale = np.float32((high - low) / (2**self.bits - 1))
        return float(scale), int(np.round(-low / scale)) - 2 ** (self.bits - 1)

    def get_config(self) -> dict[str, Any]:
        """The layer's options."""
        own = {"bits": self.bits, "ranges": self.ranges, "fixed": self.fixed, "settled": self.settled}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("edgekit")
class FakeQuantWeights(keras.layers.Wrapper):  # type: ignore[misc] # Keras has no types
    """Runs a layer with its kernel rounded to ``bits`` bits, symmetrically, without the lowest value.

    ``per_channel`` has one scale per output channel, else there is one for the whole kernel. ``activation`` is
    applied to what the layer gives. ``ranges`` is ``"largest"`` for a range that ends at the largest weight, or
    ``"learned"`` for an end that is trained with the weights (arXiv:1902.08153): few steps are better used where most
    weights are, and the largest are cut off. ``grid`` is what ``settle`` knows of the layer once it is trained: from
    there on it computes in whole numbers, as the device does.
    """

    def __init__(
        self,
        layer: Any,
        bits: int = 8,
        *,
        per_channel: bool = True,
        activation: Any = None,
        ranges: WeightRanges = "largest",
        grid: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("name", layer.name)
        super().__init__(layer, **kwargs)
        self.bits, self.per_channel = bits, per_channel
        self.activation = keras.activations.get(activation)
        self.ranges = ranges
        self.grid = dict(grid) if grid else None
        self._stored: tuple[Any, Any] | None = None

    @property
    def whole_numbers(self) -> bool:
        """Whether the converter is given whole numbers, for it fails on this kernel's scales per channel."""
        return self.per_channel and not isinstance(self.layer, _CONVERTED_PER_CHANNEL)

    @property
    def is_depthwise(self) -> bool:
        """Whether each input channel has filters of its own."""
        return isinstance(self.layer, keras.layers.DepthwiseConv2D)

    @property
    def channel_axis(self) -> int:
        """Where the output channels are in the kernel; of a depthwise one, the last of its two axes."""
        return 2 if isinstance(self.layer, keras.layers.Conv2DTranspose) else len(self.layer.kernel.shape) - 1

    def build(self, shape: Any) -> None:
        """The layer's weights, and the end of their range where it is learned."""
        super().build(shape)
        if self.ranges == "learned":
            kernel = self._channels_last(tf.convert_to_tensor(self.layer.kernel))
            self.end = self.add_weight(
                name="end", shape=kernel.shape[-1:] if self.per_channel else (), initializer="ones"
            )

    def around(self, layer: Any, name: str) -> "FakeQuantWeights":
        """Another one with the same options around another layer."""
        options = {"per_channel": self.per_channel, "activation": self.activation, "ranges": self.ranges}
        return FakeQuantWeights(layer, self.bits, name=name, **options)

    def one_scale(self) -> None:
        """Have one scale for the whole kernel, which ends at its largest weight."""
        if self.ranges == "learned":
            self._untrack_variable(self.end)  # a copy has none
        self.per_channel, self.ranges = False, "largest"

    def start(self) -> None:
        """Begin with the end that rounds the weights as they are with the smallest squared error."""
        if self.ranges != "learned":
            return
        kernel = np.asarray(self._channels_last(tf.convert_to_tensor(self.layer.kernel)))
        kernel = kernel.reshape(-1, kernel.shape[-1] if self.per_channel else 1)
        largest = np.maximum(np.abs(kernel).max(0), _SMALLEST)
        ends = np.linspace(0.2, 1, 81)[:, None] * largest
        most = 2 ** (self.bits - 1) - 1
        errors = []
        for end in ends:
            rounded = np.clip(np.round(kernel / end * most), -most, most) * end / most
            errors.append(np.square(rounded - kernel).sum(0))
        best = ends[np.argmin(errors, axis=0), np.arange(len(largest))]
        self.end.assign(best.reshape(self.end.shape))

    def call(self, x: Any, training: bool | None = None) -> Any:
        """The layer's outputs with rounded weights."""
        if training:
            self.grid = None  # the ranges move on
        if self._stored is not None:
            return self.activation(self._run(x, self._marked(self._stored[0]), self._stored[1]))
        if self.grid:
            return self.activation(self._on_grid(x, self.grid))
        kernel = self._stepped() if training and self.ranges == "learned" else self.rounded(self.layer.kernel)
        return self.activation(self._run(x, kernel, self.layer.bias))

    def _stepped(self) -> Any:
        """The rounded kernel, with gradients for its weights and for the end of its range (equations 1 to 3)."""
        kernel = tf.convert_to_tensor(self.layer.kernel)
        flat = self._channels_last(kernel)
        most = 2.0 ** (self.bits - 1) - 1
        step = tf.maximum(tf.convert_to_tensor(self.end), _SMALLEST) / most
        weights = int(np.prod(flat.shape)) // (int(self.end.shape[0]) if self.per_channel else 1)
        slowed = 1 / np.sqrt(weights * most)
        step = step * slowed + tf.stop_gradient(step * (1 - slowed))
        inside = tf.clip_by_value(flat / step, -most, most)
        rounded = inside + tf.stop_gradient(tf.round(inside) - inside)
        return self._as_kernel(rounded * step)

    def _run(self, x: Any, kernel: Any, bias: Any) -> Any:
        layer = self.layer
        replaced = {id(layer.kernel): kernel, **({} if layer.bias is None else {id(layer.bias): bias})}
        weights, others = (
            [replaced.get(id(variable), variable) for variable in variables]
            for variables in (layer.trainable_variables, layer.non_trainable_variables)
        )
        result, _updated = layer.stateless_call(weights, others, x)
        return result

    def _on_grid(self, x: Any, grid: Mapping[str, Any]) -> Any:
        """What the device computes: sums of integers, rounded to the steps of the output."""
        # Constants, for a compiler that computes them anew may find neighbours of them.
        scales = np.asarray(grid["weight_scales"], np.float32)
        given, output = np.float32(grid["input_scale"]), np.float32(grid["output_scale"])
        kernel = tf.round(self.rounded(self.layer.kernel) / self._along_kernel(scales))
        step = given * scales
        bias = None if self.layer.bias is None else tf.round(tf.cast(self.layer.bias, tf.float64) / step)
        whole = tf.round(x / given)
        # Exact in float32: sums stay below 2**24.
        if grid["bits"] == 16:
            total = self._wide_sum(whole, kernel, bias)
        else:
            total = self._run(whole, kernel, None if bias is None else tf.cast(bias, tf.float32))
        return self._requantized(total, step, grid) * output

    def _wide_sum(self, whole: Any, kernel: Any, bias: Any) -> Any:
        """The sums of values of 16 bits, as float64: those of their upper and lower bytes are exact in float32."""
        upper = tf.round(whole / 256)
        none = None if bias is None else tf.zeros_like(self.layer.bias)
        sums = [tf.cast(self._run(half, kernel, none), tf.float64) for half in (upper, whole - upper * 256)]
        total = sums[0] * 256 + sums[1]
        return total if bias is None else total + bias

    def _requantized(self, total: Any, step: Any, grid: Mapping[str, Any]) -> Any:
        """Sums in ``step`` as steps of the output, by the rules of the kernel that TFLite takes."""
        output, half = np.float32(grid["output_scale"]), 2 ** (grid["bits"] - 1)
        exact = np.float64(grid["input_scale"]) * np.asarray(grid["weight_scales"]) / np.float64(output)
        if grid["bits"] == 16:
            factor = exact if isinstance(self.layer, keras.layers.Dense) else reduced(exact)
            found = tf.floor(total * factor + 0.5)
        elif self.bits == 8 or self._is_product():
            # XNNPACK has one factor in float32. It leaves convolutions of 4 bits to TFLite's own kernels.
            found = tf.round(total * (step / output))
        else:
            found = rounded_twice(total, exact)
        lowest = -half - grid["output_zero_point"]
        return tf.clip_by_value(tf.cast(found, tf.float32), lowest, lowest + 2 * half - 1)

    def _is_product(self) -> bool:
        """Whether the file has it as FULLY_CONNECTED: ``passes/pointwise.py`` makes 1x1 convolutions such ones."""
        layer = self.layer
        if not isinstance(layer, keras.layers.Conv2D):
            return isinstance(layer, keras.layers.Dense)
        ones = (1, 1)
        return bool(layer.kernel_size == ones == layer.strides and layer.groups == 1)

    def rounded(self, kernel: Any) -> Any:
        """The kernel as the device will have it, in real numbers."""
        kernel = tf.convert_to_tensor(kernel)
        most = tf.stop_gradient(self._largest(kernel))
        if not self.per_channel:
            return tf.quantization.fake_quant_with_min_max_vars(
                kernel, -most, most, num_bits=self.bits, narrow_range=True
            )
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            self._channels_last(kernel), -most, most, num_bits=self.bits, narrow_range=True
        )
        return self._as_kernel(rounded)

    def whole_kernel(self) -> Any:
        """The integers of the device, as float32."""
        return tf.round(self.rounded(self.layer.kernel) / self._along_kernel(self.scales()))

    def store(self, wanted: bool) -> None:
        """Let the converter see whole numbers, as constants, where it needs them; or no longer."""
        self._stored = None
        if wanted and self.whole_numbers:
            bias = None if self.layer.bias is None else np.asarray(self.layer.bias / self.scales())
            self._stored = np.asarray(self.whole_kernel()), bias

    def _marked(self, whole: Any) -> Any:
        """Whole numbers with the scale 1."""
        most = float(2 ** (self.bits - 1) - 1)
        return tf.quantization.fake_quant_with_min_max_args(
            whole, -most, most, num_bits=self.bits, narrow_range=True
        )

    def scales(self) -> Any:
        """The size of one step of the kernel: a scalar, or ``(channels,)``."""
        most = self._largest(tf.convert_to_tensor(self.layer.kernel))
        return (most + most) / np.float32(2**self.bits - 2)

    def _largest(self, kernel: Any) -> Any:
        if self.ranges == "learned":
            return tf.maximum(tf.convert_to_tensor(self.end), _SMALLEST)
        axes = None
        if self.per_channel:
            kernel = self._channels_last(kernel)
            axes = list(range(len(kernel.shape) - 1))
        return tf.maximum(tf.reduce_max(tf.abs(kernel), axis=axes), _SMALLEST)

    def _channels_last(self, kernel: Any) -> Any:
        """Output channels are the last two axes of a depthwise kernel, and the last but one of a transposed one."""
        if isinstance(self.layer, keras.layers.Conv2DTranspose):
            return tf.transpose(kernel, (0, 1, 3, 2))
        if not self.is_depthwise:
            return kernel
        return tf.reshape(kernel, [*kernel.shape[:-2], kernel.shape[-2] * kernel.shape[-1]])

    def _as_kernel(self, channels_last: Any) -> Any:
        """What ``_channels_last`` changed, changed back."""
        if isinstance(self.layer, keras.layers.Conv2DTranspose):
            return tf.transpose(channels_last, (0, 1, 3, 2))
        return tf.reshape(channels_last, self.layer.kernel.shape)

    def _along_kernel(self, scales: Any) -> Any:
        if not self.per_channel:
            return scales
        if isinstance(self.layer, keras.layers.Conv2DTranspose):
            return tf.reshape(scales, (-1, 1))
        return tf.reshape(scales, self.layer.kernel.shape[-2:]) if self.is_depthwise else scales

    def get_config(self) -> dict[str, Any]:
        """The layer's options."""
        own = {"bits": self.bits, "per_channel": self.per_channel, "ranges": self.ranges, "grid": self.grid}
        return {**super().get_config(), **own, "activation": keras.activations.serialize(self.activation)}
