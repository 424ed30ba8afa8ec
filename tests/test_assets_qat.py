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


@pytest.mark.parametrize(
    ("weight_bits", "activation_bits", "per_channel"),
    [(8, 8, True), (4, 8, True), (4, 8, False), (8, 16, True)],
)
def test_the_file_agrees_with_the_trained_model(assets, tmp_path, weight_bits, activation_bits, per_channel):
    keras = pytest.importorskip("keras")
    from ai_edge_litert.interpreter import Interpreter

    from edgekit.train import QATOptions, apply_qat, export_qat
    from edgekit.train.loading import load_trainable

    keras.utils.set_random_seed(0)
    model = load_trainable(assets / "mlperf-tiny-ic" / "pretrainedResnet.h5").model
    model = apply_qat(model, QATOptions(weight_bits, activation_bits, per_channel=per_channel))
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
    scale, zero_point = given["quantization"]
    assert activation_bits == 16 or (scale, zero_point) == (1.0, -128)
    integers = np.round(images / np.float32(scale) + zero_point).astype(given["dtype"])
    outputs = []
    for image in integers:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(made["index"])[0])
    unit, zero_point = made["quantization"]
    expected = np.round(twin.predict(images.astype(np.float32), verbose=0) / unit + zero_point)
    assert (np.abs(outputs - expected) <= 1).mean() >= 0.999
    assert len(np.unique(outputs)) > 100


def test_a_keras_2_file_with_depthwise_layers_is_trained_and_exported(assets, tmp_path):
    import edgekit

    folder, generator = assets / "mlperf-tiny-vww", np.random.default_rng(0)
    y = generator.integers(0, 2, 48)
    x = (generator.random((48, 96, 96, 3)) * 0.3 + y[:, None, None, None] * 0.5).astype(np.float32)
    np.savez(tmp_path / "train.npz", x=x, y=y)
    trained = edgekit.qat(
        folder / "vww_96.h5",
        tmp_path / "vww.keras",
        train_data=tmp_path / "train.npz",
        epochs=1,
        batch_size=16,
        optimizer="sgd",
        learning_rate=1e-7,
        tflite=str(tmp_path / "vww.tflite"),
    )
    assert "EK727" in [finding.code for finding in trained.findings]
    assert trained.report["float_layers"] == []
    ours, published = (
        _probabilities(path, x) for path in (tmp_path / "vww.tflite", folder / "vww_96_float.tflite")
    )
    assert np.abs(ours - published).mean() < 0.05


def _probabilities(path, images):
    """What a file says of each image, as real numbers: ``(48, 2)``."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for image in images:
        scale, zero = given["quantization"]
        value = np.clip(np.round(image / scale) + zero, -128, 127) if scale else image
        interpreter.set_tensor(given["index"], value.astype(given["dtype"])[None])
        interpreter.invoke()
        output = interpreter.get_tensor(made["index"])[0].astype(np.float32)
        scale, zero = made["quantization"]
        found.append((output - zero) * scale if scale else output)
    return np.array(found)
