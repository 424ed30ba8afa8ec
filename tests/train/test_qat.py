"""Models of ``apply_qat``, trained for a moment and exported: their files compute what the models compute."""

import functools

import numpy as np
import pytest

keras = pytest.importorskip("keras")
layers = keras.layers

_SHAPE = (8, 8, 4)
_COUNT = 32


def _chain(*parts, shape=_SHAPE):
    inputs = keras.Input(shape)
    result = inputs
    for part in parts:
        result = part(result)
    return keras.Model(inputs, result)


def _residual():
    inputs = keras.Input(_SHAPE)
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(inputs))
    x = layers.ReLU()(layers.Add()([x, inputs]))
    x = layers.Flatten()(layers.AveragePooling2D(2)(x))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


def _shared_and_nested():
    inputs = keras.Input(_SHAPE)
    shared = layers.Conv2D(4, 3, padding="same", activation="relu")
    inner = _chain(layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU())
    return keras.Model(inputs, layers.Conv2D(2, 1)(inner(shared(shared(inputs)))))


MODELS = {
    "residual": _residual,
    "shared and nested": _shared_and_nested,
    "conv1d": lambda: _chain(
        layers.Conv1D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3), shape=(16, 4)
    ),
    "depthwise": lambda: _chain(
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.BatchNormalization(),
        layers.ReLU(6.0),
        layers.Conv2D(4, 1),
    ),
    "separable": lambda: _chain(layers.SeparableConv2D(6, 3, activation="relu"), layers.Conv2D(4, 1)),
    "transposed": lambda: _chain(layers.Conv2DTranspose(4, 3, strides=2), layers.Conv2D(2, 1)),
    "norm alone": lambda: _chain(layers.BatchNormalization(), layers.Conv2D(4, 3, activation="relu")),
    "hard swish": lambda: _chain(layers.Conv2D(4, 3, activation="hard_swish"), layers.Conv2D(3, 3)),
}


@functools.cache
def _trained(name, weight_bits=8):
    """The model, some inputs, and its file: trained for four steps."""
    from edgekit.train.qat import QATOptions, apply_qat
    from edgekit.train.settle import settle

    keras.utils.set_random_seed(1)
    generator = np.random.default_rng(0)
    plain = MODELS[name]()
    for layer in plain.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(generator.uniform(0.5, 2, layer.moving_variance.shape))
    x, y = (
        generator.normal(size=(_COUNT, *side.shape[1:])).astype(np.float32)
        for side in (plain.inputs[0], plain.outputs[0])
    )
    model = apply_qat(plain, QATOptions(weight_bits=weight_bits))
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    settle(model)
    return plain, model, x


def _file(model, path):
    from ai_edge_litert.interpreter import Interpreter

    from edgekit.train.export import export_qat

    export_qat(model, path)
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _outputs(interpreter, x):
    """What the file gives, in real numbers, and the size of one unit."""
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = given["quantization"]
    results = []
    for sample in x:
        integers = np.clip(np.round(sample / scale + zero_point), -128, 127).astype(np.int8)
        interpreter.set_tensor(given["index"], integers[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(made["index"])[0].astype(np.float32))
    unit, zero_point = made["quantization"]
    return (np.stack(results) - zero_point) * unit, unit


@pytest.mark.parametrize("name", MODELS)
def test_the_file_computes_in_integers_what_the_model_computes(name, tmp_path):
    _plain, model, x = _trained(name)
    interpreter = _file(model, tmp_path / "model.tflite")
    assert not {
        np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details() if tensor["name"]
    } & {"float32", "float16"}
    outputs, unit = _outputs(interpreter, x)
    apart = np.abs(outputs - np.asarray(model(x, training=False))) / unit
    assert (apart < 1.01).mean() >= 0.999


def test_layers_written_out_compute_the_same():
    from edgekit.train.batch_norm import fold_batch_norm
    from edgekit.train.spelled_out import norms_as_convolutions, separated

    for name in ("separable", "norm alone", "depthwise", "shared and nested"):
        plain, _model, x = _trained(name)
        new = norms_as_convolutions(fold_batch_norm(separated(plain)))
        assert not [
            layer.name
            for layer in new.layers
            if isinstance(layer, layers.SeparableConv2D | layers.BatchNormalization)
        ]
        np.testing.assert_allclose(np.asarray(new(x)), np.asarray(plain(x, training=False)), atol=1e-4)


def test_weights_of_four_bits_are_four_bits_in_the_file(tmp_path):
    _plain, model, x = _trained("residual", weight_bits=4)
    interpreter = _file(model, tmp_path / "model.tflite")
    four_bits = [
        tensor["shape"].tolist()
        for tensor in interpreter.get_tensor_details()
        if np.dtype(tensor["dtype"]).name == "int4"
    ]
    assert sorted(map(len, four_bits)) == [2, 4]
    outputs, unit = _outputs(interpreter, x)
    apart = np.abs(outputs - np.asarray(model(x, training=False))) / unit
    assert (apart < 1.01).mean() >= 0.999


def test_a_settled_model_survives_its_file_and_unsettles_when_it_is_trained(tmp_path):
    _plain, model, x = _trained("residual")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(model(x)))
    wrapped = [layer for layer in again.layers if hasattr(layer, "grid") and hasattr(layer, "layer")]
    assert all(layer.grid for layer in wrapped)
    again.compile("sgd", "mse")
    again.fit(x, np.zeros((_COUNT, 5), np.float32), verbose=0)
    assert not any(layer.grid for layer in wrapped)


def test_float_layers_are_named():
    from edgekit.train.qat import apply_qat, float_layers

    model = _chain(
        layers.Dense(8),
        layers.LayerNormalization(name="norm"),
        layers.ELU(name="elu"),
        layers.Dense(3, activation="tanh"),
        shape=(12,),
    )
    assert float_layers(apply_qat(model)) == ["norm", "elu"]
