"""Builds the small models that the tests share: ``python tests/build_models.py FOLDER``.

It runs once per test session in a process of its own, so that the tests' process never loads TensorFlow.
"""

import os
import sys
from pathlib import Path

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", KERAS_BACKEND="tensorflow")

import keras  # noqa: TID253 - a script of its own, not a part of edgekit
import numpy as np
import tensorflow as tf  # noqa: TID253
import tf2onnx  # noqa: TID253
from sklearn.datasets import load_digits

_EPOCHS = 12


def digits():
    """Handwritten digits as (x, y): (1797, 8, 8, 1) in 0..1, and the class."""
    data = load_digits()
    return (data.images[..., None] / 16).astype(np.float32), data.target.astype(np.int64)


def trained_cnn(x, y):
    """A convolutional network with batch normalization and a depthwise layer, about 2,000 parameters."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(12, 3, padding="same", use_bias=False, name="stem"),
            layers.BatchNormalization(momentum=0.9, name="stem_norm"),
            layers.ReLU(name="stem_relu"),
            layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
            layers.Conv2D(24, 3, strides=2, padding="same", name="conv"),
            layers.BatchNormalization(momentum=0.9, name="conv_norm"),
            layers.ReLU(name="conv_relu"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(10, activation="softmax", name="classes"),
        ],
        name="digits_cnn",
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=64, epochs=_EPOCHS, verbose=0)
    return model


def two_inputs():
    """Two inputs and two outputs with names of their own: ``total = 2a + b``, ``wide`` is (None, 3)."""
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    doubled = keras.layers.Rescaling(2.0)(first)
    total = keras.layers.Add(name="total")([doubled, second])
    wide = keras.layers.Dense(3, name="wide")(second)
    return keras.Model([first, second], {"total": total, "wide": wide}, name="two_inputs")


def recurrent():
    """An LSTM over 5 steps of 3 features, which gives (None, 2)."""
    return keras.Sequential([keras.Input((5, 3), name="steps"), keras.layers.LSTM(4), keras.layers.Dense(2)])


def write_tflite(model, x, folder):
    """The CNN as .tflite: batch 1 with and without a signature, dynamic batch, and int8."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = tf.TensorSpec((1, 8, 8, 1), tf.float32, name="image")
    archive.add_endpoint("serve", model.call, input_signature=[spec])
    archive.write_out(str(folder / "batch_1"), verbose=False)
    fixed = tf.lite.TFLiteConverter.from_saved_model(str(folder / "batch_1"))
    (folder / "cnn.tflite").write_bytes(fixed.convert())

    quantized = tf.lite.TFLiteConverter.from_saved_model(str(folder / "batch_1"))
    quantized.optimizations = [tf.lite.Optimize.DEFAULT]
    quantized.representative_dataset = lambda: ([sample[None]] for sample in x[:200])
    quantized.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    quantized.inference_input_type = quantized.inference_output_type = tf.int8
    (folder / "cnn_int8.tflite").write_bytes(quantized.convert())

    concrete = tf.function(lambda image: model(image, training=False)).get_concrete_function(spec)
    plain = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    plain.experimental_lower_to_saved_model = False
    (folder / "cnn_no_signature.tflite").write_bytes(plain.convert())

    dynamic = tf.lite.TFLiteConverter.from_keras_model(model)
    (folder / "cnn_dynamic_batch.tflite").write_bytes(dynamic.convert())


def main(folder):
    """Write every model into ``folder``."""
    keras.utils.set_random_seed(0)
    x, y = digits()
    np.savez(folder / "digits_train.npz", x=x[:1200], y=y[:1200])
    np.savez(folder / "digits_test.npz", x=x[1200:], y=y[1200:])
    model = trained_cnn(x[:1200], y[:1200])
    model.save(folder / "cnn.keras")
    model.save(folder / "cnn.h5")
    model.export(folder / "cnn_saved_model", verbose=False)
    model.save_weights(folder / "cnn.weights.h5")
    write_tflite(model, x, folder)
    signature = [tf.TensorSpec((None, 8, 8, 1), tf.float32, name="image")]
    tf2onnx.convert.from_function(
        tf.function(lambda image: {"classes": model(image, training=False)}),
        signature,
        opset=13,
        output_path=str(folder / "cnn.onnx"),
    )
    two_inputs().save(folder / "two_inputs.keras")
    recurrent().save(folder / "recurrent.keras")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
