"""What each kind of layer does to channels, as tables by the name of its class."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

# The kernel, the axis that reads channels, and the axis that makes new ones.
KERNELS = {
    "Conv1D": ("kernel", -2, -1),
    "Conv2D": ("kernel", -2, -1),
    "Conv3D": ("kernel", -2, -1),
    "Conv1DTranspose": ("kernel", -1, -2),
    "Conv2DTranspose": ("kernel", -1, -2),
    "Conv3DTranspose": ("kernel", -1, -2),
    "Dense": ("kernel", -2, -1),
    "SeparableConv1D": ("pointwise_kernel", -2, -1),
    "SeparableConv2D": ("pointwise_kernel", -2, -1),
}

FOLLOWING = ("DepthwiseConv1D", "DepthwiseConv2D")

# Weights with one value per channel.
STATISTICS = {"BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"), "PReLU": ("alpha",)}

# Positions are moved, dropped or put together; every channel is treated like every other.
SPATIAL = (
    "AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "Cropping1D", "Cropping2D", "Cropping3D",
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D", "GlobalMaxPooling1D",
    "GlobalMaxPooling2D", "GlobalMaxPooling3D", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "RepeatVector",
    "Resizing", "UpSampling1D", "UpSampling2D", "UpSampling3D", "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D",
)  # fmt: skip

ELEMENTWISE = (
    "Activation", "ActivityRegularization", "AlphaDropout", "Dropout", "ELU", "Elu", "GaussianDropout", "GaussianNoise",
    "Gelu", "HardSigmoid", "HardSilu", "Identity", "LeakyReLU", "LeakyRelu", "Negative", "ReLU", "Relu", "Relu6",
    "Rescaling", "Selu", "Sigmoid", "Silu", "Softplus", "Softsign", "SpatialDropout1D", "SpatialDropout2D",
    "SpatialDropout3D", "Square", "Tanh",
)  # fmt: skip

BINARY = ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract")

_FUNCTIONS = (
    "elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu", "linear",
    "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softplus", "softsign", "swish", "tanh",
)  # fmt: skip


def passes_values(operation: Any) -> bool:
    """Whether an operation, or the activation at a layer's end, looks at each number alone."""
    if isinstance(operation, keras.layers.Rescaling):
        return bool(np.ndim(operation.scale) == np.ndim(operation.offset) == 0)
    function = getattr(operation, "activation", None)
    return function is None or getattr(function, "__name__", "") in _FUNCTIONS


def vector_of(ids: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The channels along the last axis, None where they are not the same at all positions."""
    flat = ids.reshape(-1, ids.shape[-1])
    return flat[0] if bool((flat == flat[0]).all()) else None
