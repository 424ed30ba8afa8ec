"""Train the digits model that `edgekit demo` works on, and write the data it is judged by.

    pip install "edgekit[tensorflow]" scikit-learn
    python examples/digits/train.py

It writes beside itself:
    model.keras       a Keras 3 network, (n, 8, 8, 1) in 0..1 to ten probabilities
    model.tflite      the same network for installations without TensorFlow
    calibration.npz   200 samples that set the ranges of a quantized model
    test.npz          600 labelled samples that neither training nor calibration has seen
"""

import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

FOLDER = Path(__file__).parent
SEED = 7
TEST_COUNT, CALIBRATION_COUNT = 600, 200
EPOCHS = 60
LARGEST_SHIFT = 1


def main() -> None:
    """Train, save everything, and print the accuracy on the test samples."""
    keras.utils.set_random_seed(SEED)
    # Without this, sums on several threads come out in a different order each time.
    tf.config.experimental.enable_op_determinism()
    x, y = digits()
    order = np.random.default_rng(SEED).permutation(len(x))
    test, calibration, train = np.split(order, [TEST_COUNT, TEST_COUNT + CALIBRATION_COUNT])

    model = network()
    fit(model, x[train], y[train])
    # The trained network without its optimizer's state, which would make up two thirds of the file.
    plain = network()
    plain.set_weights(model.get_weights())

    save_arrays(FOLDER / "calibration.npz", x[calibration], y[calibration])
    save_arrays(FOLDER / "test.npz", x[test], y[test])
    plain.save(FOLDER / "model.keras")
    save_tflite(plain, FOLDER / "model.tflite")
    accuracy = np.mean(plain.predict(x[test], verbose=0).argmax(axis=1) == y[test])
    print(f"{accuracy:.2%} of {len(test)} test samples are right")


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8, 1) in steps of 1/16 from 0 to 1, and the digit that each of them shows."""
    data = load_digits()
    return (data.images[..., np.newaxis] / 16).astype(np.float32), data.target.astype(np.int64)


def network() -> keras.Model:
    """Three convolutions and a dense layer, 19,000 parameters."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem"),
            layers.BatchNormalization(name="stem_norm"),
            layers.ReLU(name="stem_relu"),
            layers.Conv2D(32, 3, padding="same", use_bias=False, name="middle"),
            layers.BatchNormalization(name="middle_norm"),
            layers.ReLU(name="middle_relu"),
            layers.Conv2D(48, 3, strides=2, padding="same", use_bias=False, name="top"),
            layers.BatchNormalization(name="top_norm"),
            layers.ReLU(name="top_relu"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dropout(0.2, name="dropout"),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )


def fit(model: keras.Model, x: np.ndarray, y: np.ndarray) -> None:
    """Train on the samples and on copies of them moved by up to a pixel."""
    steps = EPOCHS * -(-len(x) // 64)
    rate = keras.optimizers.schedules.CosineDecay(0.005, steps)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    rng = np.random.default_rng(SEED)
    for _ in range(EPOCHS):
        model.fit(shifted(x, rng), y, batch_size=64, epochs=1, verbose=0)


def shifted(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image moved by a random whole number of pixels, with zeros from outside."""
    padded = np.pad(x, ((0, 0), (LARGEST_SHIFT,) * 2, (LARGEST_SHIFT,) * 2, (0, 0)))
    moves = rng.integers(0, 2 * LARGEST_SHIFT + 1, (len(x), 2))
    return np.stack([image[i : i + 8, j : j + 8] for image, (i, j) in zip(padded, moves, strict=True)])


def save_arrays(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    """Write samples and labels as edgekit reads them."""
    np.savez_compressed(path, x=x, y=y)


def save_tflite(model: keras.Model, path: Path) -> None:
    """Write the network in float32 with a batch of one, and with names that tell its layers apart."""
    one = keras.Input(batch_shape=(1, 8, 8, 1), name="image")
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(one, model(one), name="digits"))
    path.write_bytes(converter.convert())


if __name__ == "__main__":
    main()
