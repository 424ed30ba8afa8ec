"""The ranges in quantized ONNX files: the extremes over the calibration samples, or those that were given."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import edgekit
from edgekit.engines import Job
from edgekit.engines.onnxruntime import quantize
from edgekit.passes._layers_onnx import OnnxTwins
from edgekit.passes.choose_ranges import choose_ranges
from edgekit.passes.prepare_onnx import prepare_onnx
from edgekit.passes.set_ranges_onnx import set_ranges_onnx
from edgekit.recipe import Recipe


@pytest.fixture(params=["int8", "int16x8"])
def job(request, models, tmp_path):
    recipe = Recipe.load(request.param)
    prepare_onnx(models.onnx_cnn, tmp_path / "prepared.onnx", recipe.default)
    source = edgekit.open_artifact(tmp_path / "prepared.onnx")
    with np.load(models.train_data) as arrays:
        samples = {source.inputs[0].name: arrays["x"][:40].astype(np.float32)}
    return Job(source, recipe, tmp_path / "out.onnx", samples)


def grids(path):
    """Scale and zero point of every tensor that has its own."""
    graph = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return {
        node.input[1].removesuffix("_scale"): (float(stored[node.input[1]]), int(stored[node.input[2]]))
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    }


def grid_of(low, high, recipe):
    """The scale and the zero point of a range, from its definition."""
    low, high = min(low, 0.0), max(high, 0.0)
    if recipe.default.activation_bits == 16:
        return max(-low, high) / 32767, 0
    scale = (high - low) / 255
    return scale, round(-128 - low / scale)


def activations(job):
    """The names of the tensors with a range of their own, after plain quantization."""
    quantize(job)
    twins = OnnxTwins(job.source.path.read_bytes(), job.output.read_bytes())
    return [activation.names[0] for activation in twins.activations]


def extremes(job, names):
    model = onnx.load(job.source.path)
    there = {value.name for value in (*model.graph.output, *model.graph.input)}
    model.graph.output.extend(
        helper.make_empty_tensor_value_info(name) for name in names if name not in there
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    inner = [name for name in names if name not in job.calibration]
    [(given, samples)] = job.calibration.items()
    rows = [session.run(inner, {given: sample[None]}) for sample in samples]
    found = {
        name: (min(v.min() for v in c), max(v.max() for v in c))
        for name, c in zip(inner, zip(*rows, strict=True), strict=True)
    }
    return found | {given: (samples.min(), samples.max())}


def test_ranges_are_the_true_extremes(job):
    names = activations(job)
    written = grids(job.output)
    assert set(names) == set(written)
    nodes = onnx.load(job.source.path).graph.node
    seen = extremes(
        job, [*names, *(name for node in nodes for name in node.output if node.op_type == "Relu")]
    )
    # A softmax has the range of probabilities whatever was seen, and what a ReLU reads has the range of what it gives.
    seen |= {node.output[0]: (0.0, 1.0) for node in nodes if node.op_type == "Softmax"}
    seen |= {node.input[0]: seen[node.output[0]] for node in nodes if node.op_type == "Relu"}
    for name in names:
        scale, zero_point = grid_of(*map(float, seen[name]), job.recipe)
        assert written[name] == (pytest.approx(scale, rel=1e-4), zero_point)


def test_ranges_are_chosen_from_what_the_float_file_computes(job):
    """Observed by edgekit and given back, the extremes are those that the quantizer takes itself."""
    names = activations(job)
    written = grids(job.output)
    twins = OnnxTwins(job.source.path.read_bytes(), job.output.read_bytes())
    chosen = choose_ranges(twins, calibration=job.calibration, method="min-max").ranges
    assert set(chosen) >= set(names)
    squashed = {n.output[0] for n in onnx.load(job.source.path).graph.node if n.op_type == "Softmax"}
    for name in set(names) - squashed:
        assert written[name][0] == pytest.approx(grid_of(*chosen[name], job.recipe)[0], rel=1e-4)
    # A layer that reads what a ReLU gives is found behind the tensor that the ReLU reads.
    assert {position for activation in twins.activations for position in activation.layers} == {
        layer.position for layer in twins.layers
    }


def test_given_ranges_reach_the_file_as_given(job):
    names = activations(job)
    ranges = {name: (-0.25 - index, 3.0 + 0.5 * index) for index, name in enumerate(names)}
    quantize(Job(job.source, job.recipe, job.output, job.calibration, ranges=ranges))
    written = grids(job.output)
    assert len(names) > 5
    for name, (low, high) in ranges.items():
        scale, zero_point = grid_of(low, high, job.recipe)
        assert written[name] == (pytest.approx(scale, rel=1e-5), zero_point)


def test_ranges_set_in_a_file_are_those_that_the_quantizer_writes(job):
    names = activations(job)
    plain = job.output.read_bytes()
    ranges = {name: (-0.25 - index, 3.0 + 0.5 * index) for index, name in enumerate(names)}
    quantize(Job(job.source, job.recipe, job.output, job.calibration, ranges=ranges))
    wanted = grids(job.output), OnnxTwins(job.source.path.read_bytes(), job.output.read_bytes()).layers
    job.output.write_bytes(set_ranges_onnx(plain, ranges))
    written = grids(job.output), OnnxTwins(job.source.path.read_bytes(), job.output.read_bytes()).layers
    assert written[0] == wanted[0]
    assert len(written[1]) == len(wanted[1]) > 1
    for one, other in zip(written[1], wanted[1], strict=True):
        assert np.array_equal(one.rounded, other.rounded)
        # Each rounding of a bias may take half of a step.
        assert np.abs(one.rounded_bias - other.rounded_bias).max() < 1e-3
    onnxruntime.InferenceSession(job.output)


def test_a_layer_that_reads_a_constant_keeps_its_bias(job):
    names = activations(job)
    model = onnx.load(job.output)
    layer = next(node for node in model.graph.node if node.op_type == "Conv")
    before = next(node for node in model.graph.node if node.output[0] == layer.input[0])
    kind = np.int16 if "16" in job.recipe.name else np.int8
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, 28, 28), kind), "constant"))
    before.input[0] = "constant"
    changed = onnx.load_from_string(set_ranges_onnx(model.SerializeToString(), {names[-1]: (-9.0, 9.0)}))
    after = next(node for node in changed.graph.node if node.name == layer.name)
    assert list(after.input) == list(layer.input)


def test_tensors_without_a_range_keep_their_extremes(job):
    quantize(job)
    before = grids(job.output)
    name = activations(job)[1]
    quantize(Job(job.source, job.recipe, job.output, job.calibration, ranges={name: (-9.0, 9.0)}))
    after = grids(job.output)
    assert {key for key in after if after[key] != before[key]} == {name}
