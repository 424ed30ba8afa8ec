"""A MobileNetV1-0.25-like network whose channels are badly balanced, as the hard case of int8.

It is trained on CIFAR-10 without weight decay on its depthwise kernels. Then every channel between two layers is scaled
by a number between 1 and 1000: its batch norm gives ``s`` times as much and the next layer's weights are divided by
``s``, which a ReLU between them lets through exactly. The float function stays; what int8 has to hold in one scale for
a whole tensor does not.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from _cases import ASSETS

# Filters and stride of the depthwise-separable blocks: those of MobileNetV1 at a quarter of its width.
_BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1))
_FIRST = 8
LARGEST_SCALE = 1000.0
EPOCHS = 16


def network(
    blocks: tuple[tuple[int, int], ...] = _BLOCKS,
    *,
    shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
) -> Any:
    """The network with random weights; it takes images of 0..255 and gives logits."""
    import keras
    from keras import layers

    x = inputs = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, -1.0)(x)
    x = layers.Conv2D(_FIRST, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for filters, stride in blocks:
        x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 1, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x), name="mobilenet_quarter")


def trained(folder: Path, *, epochs: int = EPOCHS, seed: int = 0) -> Path:
    """The trained network's file in ``folder``; it is trained where none is there yet."""
    import keras
    import tensorflow as tf

    path = folder / f"hard-{epochs}-{seed}.keras"
    if path.is_file():
        return path
    keras.utils.set_random_seed(seed)
    with np.load(ASSETS / "data" / "cifar10_train20k.npz", allow_pickle=False) as arrays:
        x, y = arrays["x"], arrays["y"].ravel().astype(np.int64)

    def augment(image: Any, label: Any) -> Any:
        image = tf.image.random_flip_left_right(tf.pad(image, [[4, 4], [4, 4], [0, 0]], "REFLECT"))
        return tf.cast(tf.image.random_crop(image, (32, 32, 3)), tf.float32), label

    data = (
        tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed).map(augment).batch(128).prefetch(4)
    )
    model = network()
    rate = keras.optimizers.schedules.CosineDecay(4e-3, epochs * len(data))
    optimizer = keras.optimizers.AdamW(rate, 0.02)
    optimizer.exclude_from_weight_decay(
        [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    model.fit(data, epochs=epochs, verbose=2)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return path


def unbalance(model: Any, *, largest: float = LARGEST_SCALE, seed: int = 0) -> None:
    """Scale every channel between two layers by a number between 1 and ``largest``, its logarithm evenly spread.

    The batch norm in front gives ``s`` times as much, and the weights behind take ``1 / s`` of it. ``s`` is rounded
    to a power of two, so that not even the last bit of a product changes.
    """
    import keras

    generator = np.random.default_rng(seed)
    kinds = (
        keras.layers.Conv2D
        | keras.layers.DepthwiseConv2D
        | keras.layers.Dense
        | keras.layers.BatchNormalization
    )
    chain = [layer for layer in model.layers if isinstance(layer, kinds)]
    for before, after in itertools.pairwise(chain):
        if not isinstance(before, keras.layers.BatchNormalization):
            continue
        scale = 2 ** np.rint(generator.uniform(0, np.log2(largest), before.gamma.shape))
        before.gamma.assign(before.gamma * scale)
        before.beta.assign(before.beta * scale)
        kernel = after.kernel
        # Kernels have their input channels last but one: (3, 3, 8, 1), (1, 1, 8, 16) and (256, 10).
        kernel.assign(kernel / scale.reshape(-1, 1))


def unbalanced(path: Path, folder: Path, *, largest: float = LARGEST_SCALE, seed: int = 0) -> Path:
    """The trained network with unbalanced channels, as a file in ``folder``."""
    import keras

    model = keras.models.load_model(path, compile=False)
    unbalance(model, largest=largest, seed=seed)
    output = folder / f"{path.stem}-unbalanced-{largest:g}.keras"
    model.save(output)
    return output
