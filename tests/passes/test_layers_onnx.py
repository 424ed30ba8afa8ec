"""Layers of ONNX files: what they read and give in the float file, and what is written into the quantized one."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.errors import ModelError
from edgekit.passes._layers import Change
from edgekit.passes._layers_onnx import OnnxTwins
from edgekit.passes.correct_bias import correct_bias
from edgekit.passes.search_rounding import search_rounding
from edgekit.pipeline import Settings, run
from edgekit.plan import Candidate
from edgekit.recipe import Recipe

_SHAPES = {
    "strided": (16, 3, 3, 3), "grouped": (16, 4, 3, 3), "depthwise": (32, 1, 3, 2), "dense": (40, 32), "sums": (8, 6)
}  # fmt: skip


def network(path):
    """Every kind of layer: without a bias, grouped, depthwise with a multiplier, transposed, and a sum behind."""
    generator = np.random.default_rng(0)
    weights = {
        name: generator.normal(size=shape, scale=1 / np.sqrt(np.prod(shape[1:])))
        for name, shape in _SHAPES.items()
    }
    weights |= {
        f"{name}_bias": generator.normal(size=count, scale=0.2)
        for name, count in (("grouped", 16), ("depthwise", 32), ("dense", 40), ("sums", 6))
    }
    # With three axes it keeps the product and the sum from becoming a Gemm.
    weights["sums_bias"] = weights["sums_bias"].reshape(1, 1, 6)
    nodes = [
        helper.make_node("Conv", ["x", "strided"], ["a"], "strided", auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], "relu_1"),
        helper.make_node(
            "Conv", ["b", "grouped", "grouped_bias"], ["c"], "grouped", group=4, pads=[1, 0, 2, 1]
        ),
        helper.make_node("Relu", ["c"], ["d"], "relu_2"),
        helper.make_node(
            "Conv", ["d", "depthwise", "depthwise_bias"], ["e"], "depthwise", group=16, dilations=[2, 1]
        ),
        helper.make_node("Relu", ["e"], ["f"], "relu_3"),
        helper.make_node("GlobalAveragePool", ["f"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["h"], "flat"),
        helper.make_node("Gemm", ["h", "dense", "dense_bias"], ["i"], "dense", transB=1),
        helper.make_node("Relu", ["i"], ["j"], "relu_4"),
        helper.make_node("Reshape", ["j", "shape"], ["k"], "steps"),
        helper.make_node("MatMul", ["k", "sums"], ["l"], "product"),
        helper.make_node("Add", ["l", "sums_bias"], ["m"], "sum"),
        helper.make_node("Transpose", ["m"], ["y"], "transposed", perm=[0, 2, 1]),
    ]
    stored = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    stored.append(numpy_helper.from_array(np.array([-1, 5, 8]), "shape"))
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 11, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6, 5])],
        stored,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def quantized(folder, recipe="int8", *, batch=1):
    """The twins, and samples: 150 that calibrate and 50 that decide."""
    network(folder / "float.onnx")
    x = np.random.default_rng(1).gamma(0.7, size=(200, 3, 11, 10)).astype(np.float32) - 0.3
    calibration, held_back = {"x": x[:150]}, {"x": x[150:]}
    settings = Settings(Recipe.load(recipe), calibration, held_back, batch=batch)
    source = edgekit.open_artifact(folder / "float.onnx")
    made = run(Candidate("onnxruntime", ("prepare_onnx", "quantize")), source, settings, folder)
    return (
        OnnxTwins((folder / "onnxruntime-0-prepare_onnx").read_bytes(), made.artifact.path.read_bytes()),
        calibration,
        held_back,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return quantized(tmp_path_factory.mktemp("layers"))


def outputs_of(content, name, samples):
    """The mean of a tensor over samples, channel by channel."""
    model = onnx.load_from_string(content)
    if name not in {value.name for value in model.graph.output}:
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    values = np.concatenate([session.run([name], {"x": sample[None]})[0] for sample in samples])
    return np.moveaxis(values, 1, -1) if values.ndim == 4 else values


def test_layers_compute_what_the_float_file_computes(files):
    """Weights, windows and groups as they are read, on the inputs as they are read: the sums of ONNX Runtime."""
    twins, _, held_back = files
    some = {"x": held_back["x"][:3]}
    graph = onnx.load_from_string(twins.original).graph
    assert [graph.node[layer.position].name for layer in twins.layers] == [
        "strided", "grouped", "depthwise", "dense", "product"
    ]  # fmt: skip
    read = {}
    for layer, values in twins.float_probe.inputs(twins.layers, some):
        read.setdefault(layer.position, []).append(layer.rows(values) @ layer.columns(layer.weights))
    for layer in twins.layers:
        sums = np.concatenate(read[layer.position], axis=1).transpose(1, 0, 2).reshape(-1, layer.bias.size)
        name = graph.node[layer.position].output[0]
        name = "m" if name == "l" else name
        expected = outputs_of(twins.original, name, some["x"]).reshape(-1, layer.bias.size)
        np.testing.assert_allclose(sums + layer.bias, expected, atol=1e-5)


def test_means_predict_the_mean_outputs(files):
    twins, calibration, _ = files
    means = twins.float_probe.means(twins.layers, calibration)
    graph = onnx.load_from_string(twins.original).graph
    for layer in twins.layers[:4]:
        mean = layer.mean_output(layer.weights, means[layer.position]) + layer.bias
        name = graph.node[layer.position].output[0]
        expected = outputs_of(twins.original, name, calibration["x"][:128]).reshape(-1, mean.size).mean(0)
        np.testing.assert_allclose(mean, expected, atol=1e-4)


def test_rounding_is_read_back(files):
    twins, _, _ = files
    for layer in twins.layers:
        assert layer.is_per_channel
        largest = np.abs(layer.weights).reshape(-1, layer.weights.shape[-1]).max(0)
        np.testing.assert_allclose(layer.steps, largest / 127, rtol=0.01)
        assert (np.abs(layer.weights - layer.rounded) <= layer.steps * 0.5001).all()
    assert not twins.layers[0].rounded_bias.any()


@pytest.mark.parametrize(("recipe", "limit"), [("int8", 127), ("int4", 7), ("int16x8", 127)])
def test_integers_steps_and_biases_reach_the_file_as_given(tmp_path, recipe, limit):
    twins, _, held_back = quantized(tmp_path, recipe)
    generator, changes = np.random.default_rng(2), {}
    for layer in twins.layers:
        assert layer.limit == limit
        integers = generator.integers(-limit, limit + 1, layer.weights.shape).astype(np.int8)
        changes[layer.position] = Change(integers, layer.bias + 0.5, layer.steps * 0.75)
    after = twins.changed(changes)
    for layer in after.layers:
        change = changes[layer.position]
        np.testing.assert_array_equal(np.rint(layer.rounded / layer.steps), change.integers)
        np.testing.assert_allclose(layer.steps, change.steps, rtol=1e-6)
        # int32 for all but the sum behind a product, which has the type of activations or weights.
        np.testing.assert_allclose(layer.rounded_bias, change.bias, atol=0.08 if limit == 7 else 0.01)
    onnx.checker.check_model(onnx.load_from_string(after.quantized))
    # The runtime's sums are those of the layers as they are read back.
    some = {"x": held_back["x"][:4]}
    means = after.probe.means(after.layers, some)
    nodes = {node.name: node for node in onnx.load_from_string(after.quantized).graph.node}
    for layer, name in zip(after.layers[:3], ("strided", "grouped", "depthwise"), strict=True):
        sums = outputs_of(after.quantized, nodes[name].output[0], some["x"]).reshape(-1, layer.bias.size)
        expected = layer.mean_output(layer.rounded, means[layer.position]) + layer.rounded_bias
        np.testing.assert_allclose(sums.mean(0), expected, rtol=1e-3, atol=1e-3)


def test_a_constant_that_others_read_too_is_left_to_them(files):
    """Two layers that share their weights: one of them changes."""
    twins, _, _ = files
    model = onnx.load_from_string(twins.quantized)
    by_name = {node.name: node for node in model.graph.node}
    twin = onnx.NodeProto()
    twin.CopyFrom(by_name["dense"])
    twin.name, twin.output[0] = "dense_again", "again"
    model.graph.node.append(twin)
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, [1, 40]))
    shared = OnnxTwins(twins.original, model.SerializeToString())
    layer = shared.layers[3]
    after = onnx.load_from_string(
        shared.changed({layer.position: Change(np.zeros(layer.weights.shape, np.int8))}).quantized
    )
    by_name = {node.name: node for node in after.graph.node}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    writers = {node.output[0]: node for node in after.graph.node}
    changed, kept = (stored[writers[by_name[n].input[1]].input[0]] for n in ("dense", "dense_again"))
    assert not changed.any()
    np.testing.assert_allclose(kept.T * layer.steps, layer.rounded, atol=1e-6)


def test_wrong_biases_are_mended_and_a_missing_one_is_added(files):
    twins, calibration, held_back = files
    spoilt = twins.changed({layer.position: Change(bias=layer.rounded_bias + 0.1) for layer in twins.layers})
    mended = correct_bias(spoilt, calibration=calibration, held_back=held_back)
    assert mended.snr_after_db > mended.snr_before_db + 5
    whole = correct_bias(twins, calibration=calibration, held_back=held_back)
    assert mended.snr_after_db > whole.snr_before_db - 1


@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_searched_integers_are_in_the_file_and_help(tmp_path, recipe):
    twins, calibration, held_back = quantized(tmp_path, recipe)
    found = search_rounding(twins, calibration=calibration, held_back=held_back)
    assert found.snr_after_db > found.snr_before_db
    after = OnnxTwins(twins.original, found.model)
    changed = 0
    for layer, before in zip(after.layers, twins.layers, strict=True):
        # Within a step of the float weights, but for those that are clipped.
        is_near = np.abs(layer.weights - layer.rounded) <= layer.steps * 1.0001
        assert (is_near | (np.rint(np.abs(layer.rounded) / layer.steps) == layer.limit)).all()
        changed += (layer.rounded != before.rounded).any()
    assert changed == found.kept > 0


def test_a_batch_that_is_built_in_is_filled(tmp_path):
    twins, calibration, held_back = quantized(tmp_path, batch=4)
    assert {len(row["y"]) for row in twins.probe.outputs({"x": held_back["x"][:6]})} == {4}
    assert correct_bias(twins, calibration=calibration, held_back=held_back).snr_after_db > 15


def test_a_file_that_does_not_load_is_an_error(files):
    twins, _, held_back = files
    broken = onnx.load_from_string(twins.quantized)
    broken.graph.node[-1].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match="cannot load") as caught:
        next(OnnxTwins(twins.original, broken.SerializeToString()).probe.outputs(held_back))
    assert caught.value.code == "EK410"


def test_corrections_are_reported_by_quantize(tmp_path):
    network(tmp_path / "float.onnx")
    x = np.random.default_rng(1).gamma(0.7, size=(200, 3, 11, 10)).astype(np.float32) - 0.3
    np.savez(tmp_path / "x.npz", x=x)
    snr = {}
    for effort in ("none", "low", "medium"):
        made = edgekit.quantize(
            tmp_path / "float.onnx",
            tmp_path / f"{effort}.onnx",
            recipe="int8",
            calibration=tmp_path / "x.npz",
            effort=effort,
        )
        snr[effort] = made.read_back.snr_db
        codes = {finding.code for finding in made.findings}
        assert ("EK324" in codes) == (effort == "medium")
    assert snr["none"] <= snr["low"] < snr["medium"]
