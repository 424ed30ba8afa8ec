"""ResNet8 trained for a moment with fake quantization: its file computes what the model computes, image by image."""

import numpy as np
import pytest

pytestmark = [
    pytest.mark.acceptance,
    # The converter's own interpreter announces its end.
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning"),
]

_TRAINED_ON = 256
_TESTED_ON = 1000


@pytest.mark.parametrize(("weight_bits", "per_channel"), [(8, True), (4, True), (4, False)])
def test_the_file_agrees_with_the_trained_model(assets, tmp_path, weight_bits, per_channel):
    keras = pytest.importorskip("keras")
    from ai_edge_litert.interpreter import Interpreter

    from edgekit.train import QATOptions, apply_qat, export_qat
    from edgekit.train.loading import load_trainable

    keras.utils.set_random_seed(0)
    model = load_trainable(assets / "mlperf-tiny-ic" / "pretrainedResnet.h5").model
    model = apply_qat(model, QATOptions(weight_bits=weight_bits, per_channel=per_channel))
    model.compile(keras.optimizers.SGD(1e-6), "sparse_categorical_crossentropy")
    with np.load(assets / "data" / "cifar10_train20k.npz") as data:
        model.fit(
            data["x"][:_TRAINED_ON].astype(np.float32), data["y"][:_TRAINED_ON], batch_size=64, verbose=0
        )
    twin = export_qat(model, tmp_path / "resnet8.tflite")
    with np.load(assets / "data" / "cifar10_test5k.npz") as data:
        images = data["x"][:_TESTED_ON]
    interpreter = Interpreter(str(tmp_path / "resnet8.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert given["quantization"] == (1.0, -128)
    outputs = []
    for image in images:
        interpreter.set_tensor(given["index"], (image.astype(np.int16) - 128).astype(np.int8)[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(made["index"])[0])
    expected = np.round(twin.predict(images.astype(np.float32), verbose=0) * 256 - 128)
    assert (np.abs(outputs - expected) <= 1).mean() >= 0.999
    assert len(np.unique(outputs)) > 100
