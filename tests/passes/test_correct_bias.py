"""Bias correction: hand-worked windows, and outputs that come nearer to the float model."""

import numpy as np
import pytest

import edgekit
from edgekit.passes._layers import Change, Layer, Window, same_padding
from edgekit.passes._layers_tflite import TFLiteTwins
from edgekit.passes.correct_bias import correct_bias
from edgekit.pipeline import Settings, run
from edgekit.plan import Candidate
from edgekit.recipe import Recipe


def layer_of(weights, window=None, groups=1):
    zeros, ones = np.zeros(weights.shape[-1]), np.ones(weights.shape[-1])
    return Layer(0, weights, weights, zeros, zeros, ones, 127, window, groups)


def test_window_means_of_a_valid_convolution():
    image = np.arange(9, dtype=float).reshape(3, 3, 1)
    window = Window((2, 2))
    # The top left tap sees 0 1 3 4, the bottom right one 4 5 7 8.
    assert window.means(image)[..., 0].tolist() == [[2, 3], [5, 6]]


def test_window_means_of_a_strided_same_convolution_count_padding_as_zero():
    image = np.arange(1, 17, dtype=float).reshape(4, 4, 1)
    # 2 * 1 + 2 + 1 = 5 rows are needed and 4 are there: one row and column of zeros behind.
    padding = same_padding(4, 3, 2, 1)
    assert padding == (0, 1)
    window = Window((3, 3), (2, 2), padding=(padding, padding))
    means = window.means(image)[..., 0]
    assert means[0, 0] == (1 + 3 + 9 + 11) / 4
    assert means[2, 2] == (11 + 0 + 0 + 0) / 4


@pytest.mark.parametrize("dilation", [1, 2])
def test_window_means_predict_the_mean_output_of_a_convolution(dilation):
    generator = np.random.default_rng(dilation)
    image, kernel = generator.random((9, 7, 3)), generator.random((3, 2, 3, 4))
    size = (9 - 2 * dilation, 7 - dilation)
    window = Window((3, 2), dilations=(dilation, dilation))
    outputs = np.zeros((*size, 4))
    for row in range(3):
        for column in range(2):
            top, left = row * dilation, column * dilation
            outputs += image[top : top + size[0], left : left + size[1]] @ kernel[row, column]
    layer = layer_of(kernel, window)
    np.testing.assert_allclose(layer.mean_output(kernel, window.means(image)), outputs.mean((0, 1)))


def test_depthwise_layers_repeat_inputs_by_their_multiplier():
    weights, means = np.array([[[[1.0, 10, 100, 1000]]]]), np.array([[[2.0, 3]]])
    layer = layer_of(weights, Window((1, 1)), groups=2)
    assert layer.mean_output(weights, means).tolist() == [2, 20, 300, 3000]


def test_groups_read_their_part_of_the_input_in_rows_and_in_means():
    """The sums written out: output 0 reads channels 0 and 1, output 1 channels 2 and 3."""
    generator = np.random.default_rng(0)
    image, kernel = generator.random((1, 5, 4, 4)), generator.random((3, 3, 2, 2))
    layer = layer_of(kernel, Window((3, 3)), groups=2)
    sums = np.zeros((3, 2, 2))
    for row, column, output in np.ndindex(3, 2, 2):
        seen = image[0, row : row + 3, column : column + 3, 2 * output : 2 * output + 2]
        sums[row, column, output] = (seen * kernel[..., output]).sum()
    by_group = layer.rows(image) @ layer.columns(kernel)
    np.testing.assert_allclose(by_group[..., 0].T, sums.reshape(6, 2))
    np.testing.assert_allclose(layer.mean_output(kernel, layer.window.means(image[0])), sums.mean((0, 1)))
    np.testing.assert_array_equal(layer.shaped(layer.columns(kernel)), kernel)


@pytest.fixture
def files(models, tmp_path):
    """The small float model, its plain int8 version with coarser biases, and samples."""
    with np.load(models.train_data) as arrays:
        x = arrays["x"][:300].astype(np.float32)
    source = edgekit.open_artifact(models.tflite_cnn)
    name = source.inputs[0].name
    settings = Settings(Recipe.load("int8"), {name: x[:200]}, {name: x[200:]})
    made = run(Candidate("ai_edge_quantizer", ("quantize",)), source, settings, tmp_path)
    twins = TFLiteTwins(models.tflite_cnn.read_bytes(), made.artifact.path.read_bytes())
    return twins, {name: x[:200]}, {name: x[200:]}


def test_layers_of_both_files_are_paired(files):
    layers = files[0].layers
    assert len(layers) == 4
    for layer in layers:
        # Rounding to 8 bits changes no weight by more than half a step of its channel.
        step = np.abs(layer.weights).reshape(-1, layer.weights.shape[-1]).max(0) / 127
        np.testing.assert_allclose(layer.steps, step, rtol=1e-5)
        assert (np.abs(layer.weights - layer.rounded) <= step * 0.5001).all()


def test_integers_and_steps_reach_the_file_as_given_and_the_bias_stays(files):
    twins, calibration, _ = files
    layer = twins.layers[1]
    integers = np.rint(layer.rounded / layer.steps / 2).astype(np.int8)
    steps = 2 * layer.steps
    after = twins.changed({layer.position: Change(integers, steps=steps)})
    written = after.layers[1]
    np.testing.assert_allclose(written.steps, steps, rtol=1e-6)
    np.testing.assert_array_equal(np.rint(written.rounded / written.steps), integers)
    # The file's bias is in steps of the input's times the weights'.
    bias_step = np.abs(layer.rounded_bias).max() * 1e-3
    np.testing.assert_allclose(written.rounded_bias, layer.rounded_bias, atol=bias_step)
    # What the runtime computes follows: the next layer reads nearly the same.
    before, now = (t.probe.means(t.layers, calibration)[t.layers[2].position] for t in (twins, after))
    np.testing.assert_allclose(now, before, atol=0.05 * np.abs(before).max())
    others = [(a, b) for a, b in zip(twins.layers, after.layers, strict=True) if a.position != layer.position]
    assert all((a.rounded == b.rounded).all() for a, b in others)


def test_a_layer_kept_float_is_left_alone_and_the_others_are_corrected(models, tmp_path):
    with np.load(models.train_data) as arrays:
        x = arrays["x"][:300].astype(np.float32)
    source = edgekit.open_artifact(models.tflite_cnn)
    name = source.inputs[0].name
    recipe = Recipe.load("int8").keeping_float(["classes"])
    settings = Settings(recipe, {name: x[:200]}, {name: x[200:]})
    made = run(Candidate("ai_edge_quantizer", ("quantize",)), source, settings, tmp_path)
    twins = TFLiteTwins(models.tflite_cnn.read_bytes(), made.artifact.path.read_bytes())
    assert len(twins.layers) == 3
    spoilt = twins.changed({layer.position: Change(bias=layer.rounded_bias + 0.05) for layer in twins.layers})
    mended = correct_bias(spoilt, calibration=settings.calibration, held_back=settings.held_back)
    assert mended.snr_after_db > mended.snr_before_db + 3


def test_wrong_biases_are_mended(files):
    twins, calibration, held_back = files
    spoilt = twins.changed({layer.position: Change(bias=layer.rounded_bias + 0.05) for layer in twins.layers})
    mended = correct_bias(spoilt, calibration=calibration, held_back=held_back)
    whole = correct_bias(twins, calibration=calibration, held_back=held_back)
    assert mended.snr_before_db < whole.snr_before_db - 3
    assert mended.snr_after_db > whole.snr_before_db - 1


def test_nothing_is_kept_that_does_not_help(files):
    twins, calibration, held_back = files
    correction = correct_bias(twins, calibration=calibration, held_back=held_back)
    assert correction.snr_after_db >= correction.snr_before_db
    if correction.snr_after_db == correction.snr_before_db:
        assert correction.model == twins.quantized


def test_mean_outputs_of_the_corrected_model_are_those_of_the_float_model(files):
    """The last layer before the softmax: its mean output over the calibration samples, channel by channel."""
    twins, calibration, held_back = files
    corrected = correct_bias(twins, calibration=calibration, held_back=held_back).model

    def shift(twins):
        layer = twins.layers[-1]
        exact = twins.float_probe.means(twins.layers, calibration)[layer.position]
        seen = twins.probe.means(twins.layers, calibration)[layer.position]
        wanted = layer.mean_output(layer.weights, exact) + layer.bias
        return np.abs(layer.mean_output(layer.rounded, seen) + layer.rounded_bias - wanted).max()

    assert shift(TFLiteTwins(twins.original, corrected)) <= shift(twins)


def test_layers_that_a_recipe_keeps_in_float_are_left_alone(models, tmp_path):
    with np.load(models.train_data) as arrays:
        x = arrays["x"][:300].astype(np.float32)
    source = edgekit.open_artifact(models.tflite_cnn)
    name = source.inputs[0].name
    recipe = Recipe.load("int8").keeping_float(["stem"])
    settings = Settings(recipe, {name: x[:200]}, {name: x[200:]})
    made = run(Candidate("ai_edge_quantizer", ("quantize",)), source, settings, tmp_path)
    mixed = TFLiteTwins(models.tflite_cnn.read_bytes(), made.artifact.path.read_bytes())
    assert len(mixed.layers) == 3
    spoilt = mixed.changed({layer.position: Change(bias=layer.rounded_bias + 0.5) for layer in mixed.layers})
    mended = correct_bias(spoilt, calibration={name: x[:200]}, held_back={name: x[200:]})
    # A correction that also writes integers into the float layer's bias would help nothing, and be thrown away.
    assert mended.snr_after_db > mended.snr_before_db + 10
