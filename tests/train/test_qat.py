"""Models of ``apply_qat``, trained for a moment and exported: the files compute what the models do."""

import functools

import numpy as np
import pytest

keras = pytest.importorskip("keras")
layers = keras.layers
# The converter's own interpreter announces its end.
pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")

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


def _mobile():
    """What mobile nets are made of: depthwise convolutions, ReLU6, products as of attention over channels."""
    inputs = keras.Input(_SHAPE)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(inputs)))
    x = layers.Conv2D(4, 1, activation="hard_swish")(x)
    gate = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, gate])
    x = layers.Concatenate()([x, layers.Subtract()([inputs, x])])
    return keras.Model(inputs, layers.Conv2D(3, 1)(layers.AveragePooling2D(2)(x + x)))


def _gated():
    """Sigmoid and tanh in the middle, a product, a difference, a mean, and layers without biases."""
    inputs = keras.Input(_SHAPE)
    x = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(inputs))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(4, 1, activation="tanh")(x))
    x = layers.Multiply()([x, layers.Dense(4, activation="sigmoid")(gate)])
    x = layers.Conv2DTranspose(4, 2, use_bias=False)(layers.Subtract()([inputs, x]))
    return keras.Model(inputs, layers.Activation("softmax")(layers.Conv2D(3, 1)(x)))


def _pointwise():
    """Convolutions of 1x1 that can be products and one, with a stride, that cannot."""
    inputs = keras.Input(_SHAPE)
    shared = layers.Conv2D(_SHAPE[-1], 1, activation="relu", bias_initializer="random_normal")
    return keras.Model(inputs, layers.Conv2D(5, 1, strides=2)(shared(shared(inputs))))


def _shared_and_nested():
    inputs = keras.Input(_SHAPE)
    shared = layers.Conv2D(4, 3, padding="same", activation="relu")
    inner = _chain(layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU())
    dense = layers.Dense(2)
    return keras.Model(inputs, dense(dense(layers.Conv2D(2, 1)(inner(shared(shared(inputs)))))))


MODELS = {
    "mobile": _mobile,
    "residual": _residual,
    "shared and nested": _shared_and_nested,
    "pointwise": _pointwise,
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
    "gated": _gated,
}


@functools.cache
def _trained(name, weight_bits=8, activation_bits=8, ranges="moving", eight_bit=()):
    """The model as it was, as it was trained, and some inputs: trained for two steps, which are not worth a graph."""
    from edgekit.train.qat import QATOptions, apply_qat

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
    model = apply_qat(plain, QATOptions(weight_bits, activation_bits, ranges=ranges, eight_bit=eight_bit))
    model.compile(keras.optimizers.SGD(1e-3), "mse", run_eagerly=True)
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)
    return plain, model, x


def _file(model, path):
    """The twin of the file in Keras, and the file itself."""
    from ai_edge_litert.interpreter import Interpreter

    from edgekit.train.export import export_qat

    twin = export_qat(model, path, keep_names=True)
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    return twin, interpreter


def _outputs(interpreter, x):
    """What the file gives, in real numbers, and the size of one unit."""
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = given["quantization"]
    results = []
    for sample in x:
        ends = np.iinfo(given["dtype"])
        integers = np.clip(np.round(sample / np.float32(scale) + zero_point), ends.min, ends.max)
        interpreter.set_tensor(given["index"], integers.astype(given["dtype"])[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(made["index"])[0].astype(np.float32))
    unit, zero_point = made["quantization"]
    return (np.stack(results) - zero_point) * unit, unit


def _apart(twin, interpreter, x):
    """How many units the outputs of the file lie from those of the model, value by value."""
    outputs, unit = _outputs(interpreter, x)
    return np.abs(outputs - np.asarray(twin(x))) / unit


def _have_scales_of_channels(model, interpreter):
    """Whether the file has the scales of every kernel's channels, found in the kernel itself."""
    from edgekit.train.fake_quant import FakeQuantWeights

    found = [d["quantization_parameters"]["scales"] for d in interpreter.get_tensor_details()]
    for layer in (layer for layer in model.layers if isinstance(layer, FakeQuantWeights)):
        if isinstance(layer.layer, keras.layers.DepthwiseConv2D):
            continue
        kernel = np.moveaxis(np.asarray(layer.layer.kernel), layer.channel_axis, -1)
        largest = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0)
        if not any(np.shape(s) == largest.shape and np.allclose(s, largest / 127) for s in found):
            return False
    return True


@pytest.mark.parametrize("name", MODELS)
def test_the_file_computes_in_integers_what_the_model_computes(name, tmp_path):
    _plain, model, x = _trained(name)
    before = model.get_weights()
    twin, interpreter = _file(model, tmp_path / "model.tflite")
    assert not {
        np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details() if tensor["name"]
    } & {"float32", "float16"}
    assert (_apart(twin, interpreter, x) < 1.01).mean() >= 0.999
    assert _have_scales_of_channels(model, interpreter)
    assert all(map(np.array_equal, model.get_weights(), before)), "the model itself stays as it was trained"


@pytest.mark.parametrize("name", ["residual", "gated", "shared and nested"])
def test_activations_of_16_bits_are_those_of_the_file(name, tmp_path):
    _plain, model, x = _trained(name, activation_bits=16)
    twin, interpreter = _file(model, tmp_path / "model.tflite")
    types = {d["dtype"] for d in interpreter.get_tensor_details() if d["name"]}
    assert types <= {np.int8, np.int16, np.int32, np.int64}
    assert interpreter.get_output_details()[0]["dtype"] == np.int16
    assert (_apart(twin, interpreter, x) < 1.01).mean() >= 0.999


def test_what_has_no_kernel_for_16_bits_is_no_file(tmp_path):
    from edgekit.errors import ModelError
    from edgekit.train.qat import QATOptions, apply_qat

    model = apply_qat(MODELS["hard swish"](), QATOptions(activation_bits=16))
    model(np.zeros((1, *_SHAPE), np.float32), training=True)
    with pytest.raises(ModelError, match=r"16-bit.*hard") as caught:
        _file(model, tmp_path / "none.tflite")
    assert caught.value.code == "EK741"
    assert not (tmp_path / "none.tflite").exists()


def test_learned_ranges_move_by_their_gradient_and_are_those_of_the_file(tmp_path, monkeypatch):
    from edgekit.train import fake_quant
    from edgekit.train.fake_quant import FakeQuant

    monkeypatch.setattr(fake_quant, "_FOLLOWED", 1.0)
    _plain, model, x = _trained("residual", ranges="learned")
    roundings = [layer for layer in model.layers if isinstance(layer, FakeQuant) and layer.factors]
    factors = np.array([[float(factor) for factor in layer.factors] for layer in roundings])
    assert (factors != 1).any()
    assert np.all(np.abs(factors - 1) < 0.2)
    twin, interpreter = _file(model, tmp_path / "model.tflite")
    assert (_apart(twin, interpreter, x) < 1.01).mean() >= 0.999


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


@pytest.mark.slow
def test_weights_of_four_bits_are_four_bits_in_the_file(tmp_path):
    from ai_edge_litert import schema_py_generated as schema

    from edgekit import flatbuffer

    # Convolutions of 1x1 are products of matrices in the file.
    cases = [
        ("mobile", (), [2, 2, 2]),
        ("mobile", ("^dense",), [2, 2]),
        ("conv1d", (), [2, 4]),
        ("pointwise", (), [2, 4]),
    ]
    for name, eight_bit, ranks in cases:
        _plain, model, x = _trained(name, weight_bits=4, eight_bit=eight_bit)
        twin, interpreter = _file(model, tmp_path / "model.tflite")
        tensors = flatbuffer.read((tmp_path / "model.tflite").read_bytes()).subgraphs[0].tensors
        four_bits = [tensor.shape for tensor in tensors if tensor.type == schema.TensorType.INT4]
        assert sorted(map(len, four_bits)) == ranks
        assert (_apart(twin, interpreter, x) < 1.01).mean() >= 0.999


# Keras hands its variables to h5py.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_settled_model_survives_its_file_and_unsettles_when_it_is_trained(tmp_path):
    from edgekit.train.settle import settled

    _plain, model, x = _trained("residual")
    model = settled(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(model(x)))
    wrapped = [
        layer for layer in again.layers if type(layer).__name__ in ("FakeQuantPair", "FakeQuantWeights")
    ]
    assert len(wrapped) == 3
    assert all(layer.grid for layer in wrapped)
    again.compile("sgd", "mse")
    again.fit(x, np.zeros((_COUNT, 5), np.float32), verbose=0)
    assert not any(layer.grid for layer in wrapped)


def test_a_model_that_was_never_trained_has_no_ranges_to_export(tmp_path):
    from edgekit.errors import ModelError
    from edgekit.train.export import export_qat
    from edgekit.train.qat import apply_qat

    with pytest.raises(ModelError, match=r"4 ranges .* never trained") as caught:
        export_qat(apply_qat(_residual()), tmp_path / "model.tflite")
    assert caught.value.code == "EK790"
    assert not (tmp_path / "model.tflite").exists()


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


@pytest.mark.parametrize("per_channel", [True, False])
def test_learned_ends_of_weights_start_with_the_least_error_and_are_those_of_the_file(per_channel, tmp_path):
    from edgekit.train.fake_quant import FakeQuantWeights
    from edgekit.train.qat import QATOptions, apply_qat

    keras.utils.set_random_seed(2)
    plain = _chain(layers.Conv2D(6, 3, activation="relu"), layers.Conv2D(3, 1))
    kernel = np.random.default_rng(0).standard_t(3, plain.layers[1].kernel.shape).astype(np.float32)
    plain.layers[1].kernel.assign(kernel)
    options = {
        ranges: QATOptions(4, per_channel=per_channel, weight_ranges=ranges)
        for ranges in ("learned", "largest")
    }
    learned, largest = (
        next(layer for layer in apply_qat(plain, options[name]).layers if isinstance(layer, FakeQuantWeights))
        for name in ("learned", "largest")
    )
    errors = [float(np.square(np.asarray(one.rounded(kernel)) - kernel).sum()) for one in (learned, largest)]
    assert errors[0] < 0.95 * errors[1]

    model = apply_qat(plain, options["learned"])
    wrapper = next(layer for layer in model.layers if isinstance(layer, FakeQuantWeights))
    before = np.array(wrapper.end)
    x = np.random.default_rng(1).normal(size=(32, *_SHAPE)).astype(np.float32)
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    model.fit(x, np.asarray(plain(x)), batch_size=8, verbose=0)
    assert np.abs(np.asarray(wrapper.end) - before).max() > 0.01
    _twin, interpreter = _file(model, tmp_path / "model.tflite")
    kernels = [
        detail["quantization_parameters"]["scales"]
        for detail in interpreter.get_tensor_details()
        if detail["shape"].tolist() == [6, 3, 3, 4]
    ]
    assert len(kernels) == 1
    assert kernels[0] == pytest.approx(np.ravel(wrapper.scales()), rel=1e-5)


def test_the_end_of_a_range_has_the_gradient_of_a_learned_step():
    import tensorflow as tf

    from edgekit.train.fake_quant import FakeQuantWeights

    layer = keras.layers.Dense(1, use_bias=False)
    wrapper = FakeQuantWeights(layer, 4, per_channel=False, ranges="learned")
    wrapper(np.zeros((1, 3), np.float32))
    layer.kernel.assign([[0.26], [-0.9], [0.05]])
    wrapper.end.assign(0.7)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(wrapper._stepped())
    gradient, of_weights = tape.gradient(loss, [wrapper.end.value, layer.kernel.value])
    # The step is 0.1; 2.6 steps round to 3, -9 is cut off at -7, 0.5 rounds to 0 (to even).
    by_hand = (0.4 - 7 - 0.5) / 7 / np.sqrt(3 * 7)
    assert float(gradient) == pytest.approx(by_hand, rel=1e-4)
    assert np.ravel(of_weights) == pytest.approx([1, 0, 1])


def test_the_ends_of_a_learned_range_have_the_gradient_of_what_is_cut_off_and_rounded():
    import tensorflow as tf

    from edgekit.train.fake_quant import FakeQuant

    rounding = FakeQuant(8, ranges="learned")
    x = tf.constant([[-3.0, 0.503, 2.5, 5.0]])
    rounding.build(x.shape)
    for end, value in ((rounding.low, -1.0), (rounding.high, 2.0), (rounding.seen, 50.0)):
        end.assign(value)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(rounding(x, training=True) * tf.constant([1.0, 1.0, 1.0, 10.0]))
    low, high = tape.gradient(loss, [factor.value for factor in rounding.factors])
    # One value is below -1; two are above 2, one of which weighs 10. The fourth lies at 42.755 of the 255 steps of
    # 3 / 255, and is rounded up.
    slowed, rounded = 1 / np.sqrt(4 * 127), (43 - 42.755) / 255
    assert [float(low), float(high)] == pytest.approx(
        [(-1 + rounded) * slowed, 2 * (11 + rounded) * slowed], rel=1e-5
    )
