"""QAT by tensorflow-model-optimization, to be run by a Python that has it and tf_keras: one job, a JSON argument."""

import json
import os
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    """Train ``model`` on ``x`` and ``y`` of ``train``, and write an int8 ``.tflite``."""
    job = json.loads(sys.argv[1])
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras

    tf_keras.utils.set_random_seed(job["seed"])
    model = tfmot.quantization.keras.quantize_model(tf_keras.models.load_model(job["model"], compile=False))
    model.compile(
        tf_keras.optimizers.Adam(job["learning_rate"]),
        tf_keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
    )
    with np.load(job["train"]) as data:
        x, y = data["x"].astype(np.float32), data["y"]
    model.fit(x, y, batch_size=job["batch_size"], epochs=job["epochs"], verbose=0)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    Path(job["output"]).write_bytes(converter.convert())


if __name__ == "__main__":
    main()
