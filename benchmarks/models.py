"""A MobileNet-like Keras 3 model for CIFAR-10, trained with augmentation and kept in a folder.

``python benchmarks/models.py FOLDER [--epochs 40]`` trains it once; later runs find ``mobilenet.keras`` there. The data
are those of the folder that EDGEKIT_ASSETS names. Every tenth training image judges the epochs.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from _cases import ASSETS

_BLOCKS = [(64, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]


def mobilenet(classes: int = 10) -> Any:
    """Depthwise and pointwise convolutions on 32 x 32 images of 0..255: 0.53 M parameters, 2.1 MB as float."""
    import keras
    from keras import layers

    x = inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 127.5, -1.0)(x)
    x = layers.Conv2D(32, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU(6)(layers.BatchNormalization()(x))
    for filters, stride in _BLOCKS:
        x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x)
        x = layers.ReLU(6)(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 1, use_bias=False)(x)
        x = layers.ReLU(6)(layers.BatchNormalization()(x))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(classes, "softmax")(x), name="mobilenet")


def trained(folder: Path, *, epochs: int = 40, count: int | None = None, seed: int = 0) -> Path:
    """The trained model's file; ``count`` limits the images that it is trained on."""
    import keras
    import tensorflow as tf

    path = folder / "mobilenet.keras"
    if path.is_file():
        return path
    keras.utils.set_random_seed(seed)
    with np.load(ASSETS / "data" / "cifar10_train20k.npz", allow_pickle=False) as arrays:
        x, y = arrays["x"][:count], arrays["y"][:count].ravel().astype(np.int64)
    held = np.arange(len(x)) % 10 == 0

    def augment(image: Any, label: Any) -> Any:
        image = tf.image.random_flip_left_right(tf.pad(image, [[4, 4], [4, 4], [0, 0]], "REFLECT"))
        return tf.cast(tf.image.random_crop(image, (32, 32, 3)), tf.float32), label

    data = tf.data.Dataset.from_tensor_slices((x[~held], y[~held])).shuffle(20_000, seed).map(augment)
    steps = epochs * -(-int((~held).sum()) // 128)
    model = mobilenet()
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.AdamW(rate, 0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
    validation = (x[held].astype(np.float32), y[held])
    model.fit(data.batch(128).prefetch(2), validation_data=validation, epochs=epochs, verbose=2)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return path


def main() -> None:
    """Train where nothing is in the folder yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--count", type=int, help="train on so many images only")
    given = parser.parse_args()
    path = trained(given.folder, epochs=given.epochs, count=given.count)
    print(f"{path}: {path.stat().st_size:,} B")


if __name__ == "__main__":
    main()
