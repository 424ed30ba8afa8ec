"""Bias correction: hand-worked windows, and outputs that come nearer to the float model."""

import numpy as np
import pytest

import edgekit
from edgekit import flatbuffer
from edgekit.passes._layers import Layer, Probe, Window, constant, paired_layers
from edgekit.passes.correct_bias import correct_bias
from edgekit.pipeline import Settings, run
from edgekit.plan import Candidate
from edgekit.recipe import Recipe


def test_window_means_of_a_valid_convolution():
    image = np.arange(9, dtype=float).reshape(3, 3, 1)
    window = Window((2, 2), (1, 1), (1, 1), (2, 2), is_same=False)
    # The top left tap sees 0 1 3 4, the bottom right one 4 5 7 8.
    assert window.means(image)[..., 0].tolist() == [[2, 3], [5, 6]]


def test_window_means_of_a_strided_same_convolution_count_padding_as_zero():
    image = np.arange(1, 17, dtype=float).reshape(4, 4, 1)
    window = Window((3, 3), (2, 2), (1, 1), (2, 2), is_same=True)
    # 2 * 1 + 2 + 1 = 5 rows are needed and 4 are there: one row and column of zeros behind.
    means = window.means(image)[..., 0]
    assert means[0, 0] == (1 + 3 + 9 + 11) / 4
    assert means[2, 2] == (11 + 0 + 0 + 0) / 4


@pytest.mark.parametrize("dilation", [1, 2])
def test_window_means_predict_the_mean_output_of_a_convolution(dilation):
    generator = np.random.default_rng(dilation)
    image, kernel = generator.random((9, 7, 3)), generator.random((3, 2, 3, 4))
    size = (9 - 2 * dilation, 7 - dilation)
    window = Window((3, 2), (1, 1), (dilation, dilation), size, is_same=False)
    outputs = np.zeros((*size, 4))
    for row in range(3):
        for column in range(2):
            top, left = row * dilation, column * dilation
            outputs += image[top : top + size[0], left : left + size[1]] @ kernel[row, column]
    layer = Layer(0, 0, 0, kernel, kernel, np.zeros(4), np.ones(4), 127, 0, 0, window, is_depthwise=False)
    np.testing.assert_allclose(layer.mean_output(kernel, window.means(image)), outputs.mean((0, 1)))


def test_depthwise_layers_repeat_inputs_by_their_multiplier():
    weights, means = np.array([[[1.0, 10, 100, 1000]]]), np.array([[[2.0, 3]]])
    layer = Layer(0, 0, 0, weights, weights, np.zeros(4), np.ones(4), 127, 0, 0, None, is_depthwise=True)
    assert layer.mean_output(weights, means).tolist() == [2, 20, 300, 3000]


@pytest.fixture
def files(models, tmp_path):
    """The small float model, its plain int8 version with coarser biases, and samples."""
    with np.load(models.train_data) as arrays:
        x = arrays["x"][:300].astype(np.float32)
    original = models.tflite_cnn.read_bytes()
    source = edgekit.open_artifact(models.tflite_cnn)
    name = source.inputs[0].name
    settings = Settings(Recipe.load("int8"), {name: x[:200]}, {name: x[200:]})
    made = run(Candidate("ai_edge_quantizer", ("quantize",)), source, settings, tmp_path)
    return original, made.artifact.path.read_bytes(), {name: x[:200]}, {name: x[200:]}


def test_layers_of_both_files_are_paired(files):
    original, quantized, _, _ = files
    layers = paired_layers(flatbuffer.read(original), flatbuffer.read(quantized))
    assert len(layers) == 4
    for layer in layers:
        # Rounding to 8 bits changes no weight by more than half a step of its channel.
        step = np.abs(layer.weights).reshape(-1, layer.weights.shape[-1]).max(0) / 127
        assert (np.abs(layer.weights - layer.rounded) <= step * 0.5001).all()


def test_wrong_biases_are_mended(files):
    original, quantized, calibration, held_back = files

    def spoil(tree):
        for layer in paired_layers(flatbuffer.read(original), tree):
            tensor = tree.subgraphs[0].tensors[layer.bias_tensor]
            data = np.frombuffer(bytes(memoryview(tree.buffers[tensor.buffer].data)), "<i4")
            scale = np.asarray(tensor.quantization.scale)
            shifted = (data + 0.05 / scale).astype(np.int32)
            tree.buffers[tensor.buffer].data = np.frombuffer(shifted.tobytes(), np.uint8)

    spoilt = flatbuffer.rewrite(quantized, spoil)
    mended = correct_bias(spoilt, original, calibration=calibration, held_back=held_back)
    whole = correct_bias(quantized, original, calibration=calibration, held_back=held_back)
    assert mended.snr_before_db < whole.snr_before_db - 3
    assert mended.snr_after_db > whole.snr_before_db - 1


def test_nothing_is_kept_that_does_not_help(files):
    original, quantized, calibration, held_back = files
    correction = correct_bias(quantized, original, calibration=calibration, held_back=held_back)
    assert correction.snr_after_db >= correction.snr_before_db
    if correction.snr_after_db == correction.snr_before_db:
        assert correction.model == quantized


def test_mean_outputs_of_the_corrected_model_are_those_of_the_float_model(files):
    """The last layer before the softmax: its mean output over the calibration samples, channel by channel."""
    original, quantized, calibration, held_back = files
    layers = paired_layers(flatbuffer.read(original), flatbuffer.read(quantized))
    corrected = correct_bias(quantized, original, calibration=calibration, held_back=held_back).model

    def shift(content):
        tree = flatbuffer.read(content)
        layer = paired_layers(flatbuffer.read(original), tree)[-1]
        bias = layer.bias
        integer_bias = constant(tree, layer.bias_tensor)
        exact = Probe(original).means(layers, calibration, side="float_input")[layer.position]
        seen = Probe(content).means(layers, calibration, side="integer_input")[layer.position]
        wanted = layer.mean_output(layer.weights, exact) + bias
        return np.abs(layer.mean_output(layer.rounded, seen) + integer_bias - wanted).max()

    assert shift(corrected) <= shift(quantized)
