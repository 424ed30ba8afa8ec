"""What a user would write with TFLiteConverter alone: MODEL DATA COUNT OUTPUT."""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

path, data, count, output = sys.argv[1:]
samples = np.load(data)["x"][: int(count)].astype(np.float32)
if path.endswith(".keras"):
    converter = tf.lite.TFLiteConverter.from_keras_model(tf.keras.models.load_model(path, compile=False))
elif path.endswith(".h5"):
    import tf_keras

    converter = tf.lite.TFLiteConverter.from_keras_model(tf_keras.models.load_model(path, compile=False))
else:
    import tf_keras

    converter = tf.lite.TFLiteConverter.from_saved_model(path)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
Path(output).write_bytes(converter.convert())
