"""Builds the small models that the tests share: ``python tests/build_models.py FOLDER``.

It runs once per test session in a process of its own, so that the tests' process never loads TensorFlow.
"""

import os
import sys
from pathlib import Path

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", KERAS_BACKEND="tensorflow")

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
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
    return keras.Sequential(
        [keras.Input((5, 3), name="steps"), keras.layers.LSTM(4), keras.layers.Dense(2, name="dense")]
    )


class Swirl(keras.layers.Layer):
    """A layer whose code no file contains."""

    def call(self, x):
        """Turn it around."""
        return x[::-1]


@keras.saving.register_keras_serializable("studio")
class Whirl(Swirl):
    """The same, registered under a package's name."""


def curve(x):
    """A function of the user's own."""
    return x * x


def save_sequential(path, *layers, compiled=None):
    """Save these layers behind an input of four numbers, or one that they bring along."""
    own_input = [] if isinstance(layers[0], keras.KerasTensor) else [keras.Input((4,))]
    model = keras.Sequential([*own_input, *layers])
    if compiled:
        model.compile(**compiled)
    model.save(path)


def write_refused(folder):
    """Models with code of their own, or without a shape, and two that may have a custom loss."""
    layers = keras.layers
    for suffix in ("keras", "h5"):
        save_sequential(folder / f"lambda.{suffix}", layers.Lambda(lambda x: x + 1))
        save_sequential(folder / f"swirl.{suffix}", Swirl())
        save_sequential(folder / f"curve.{suffix}", layers.Dense(2, activation=curve))
        compiled = {"loss": curve, "optimizer": "sgd"}
        save_sequential(folder / f"loss.{suffix}", layers.Dense(2), compiled=compiled)
    save_sequential(folder / "whirl.keras", Whirl())
    nested = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x)])
    save_sequential(folder / "nested.keras", nested)
    keras.Sequential([layers.Flatten()]).save(folder / "unbuilt.keras")


def write_unusual(folder):
    """Models that have to be read and converted all the same; each once went wrong in some library."""
    layers = keras.layers
    first, second = keras.Input((4,), name="zeta"), keras.Input((5,), name="alpha")
    total = layers.Dense(2, name="total")(first) + layers.Dense(2)(second)
    outputs = {"sum": total, "again": layers.Dense(3)(total)}
    keras.Model({"zeta": first, "alpha": second}, outputs).save(folder / "dict_inputs.keras")
    operations = keras.ops.tanh(first) + layers.Dense(4, "gelu")(first)
    keras.Model(first, operations).save(folder / "ops.keras")
    save_sequential(folder / "gelu.keras", layers.Dense(4, "gelu"))
    scale = layers.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[4.0, 4.0, 4.0, 4.0])
    save_sequential(folder / "captured.keras", scale, layers.Dense(2, name="out"))
    keras.config.set_dtype_policy("mixed_float16")
    save_sequential(folder / "mixed.keras", layers.Dense(8, "relu"), layers.Dense(2, name="out"))
    keras.config.set_dtype_policy("float32")
    image = keras.Input((None, None, 3), name="image")
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    keras.Model(image, layers.Dense(2, name="out")(pooled)).save(folder / "free_size.keras")
    for name, steps in (("both_ways", 6), ("long", 200)):
        sequence = keras.Input((steps, 3), name="steps")
        keras.Model(sequence, layers.Bidirectional(layers.GRU(4), name="out")(sequence)).save(
            folder / f"{name}.keras"
        )
    frame = keras.Input(batch_shape=(1, 5, 4), name="frame")
    keras.Model(frame, layers.LSTM(3, stateful=True, name="out")(frame)).save(folder / "stateful.keras")


def write_saved_models(folder):
    """An operator that LiteRT lacks, and a choice of signatures."""
    module = tf.Module()
    module.f = tf.function(lambda x: {"y": tf.linalg.det(x)})
    concrete = module.f.get_concrete_function(tf.TensorSpec((1, 3, 3), tf.float32, name="x"))
    tf.saved_model.save(module, str(folder / "determinant"), signatures=concrete)
    tf.saved_model.save(module, str(folder / "many"), signatures={"a": concrete, "b": concrete})


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
    odd = folder / "odd"
    odd.mkdir()
    write_refused(odd)
    write_unusual(odd)
    write_saved_models(odd)
    two_inputs().save(folder / "two_inputs.keras")
    recurrent().save(folder / "recurrent.keras")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
