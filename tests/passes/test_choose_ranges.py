"""Chosen ranges: which tensors share one, which method wins, and what reaches the file."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from handmade import Made

import edgekit
from edgekit import flatbuffer
from edgekit.passes._activations import activations
from edgekit.passes._layers_tflite import TFLiteTwins
from edgekit.passes.choose_ranges import choose_ranges
from edgekit.pipeline import Settings, run
from edgekit.plan import Candidate
from edgekit.ranges import METHODS
from edgekit.recipe import Recipe


def test_tensors_that_are_only_moved_share_a_range_and_pooled_values_count_as_they_stand():
    model = Made()
    x = model.tensor("x", "float32", (1, 4, 4, 1))
    largest = model.tensor("largest", "float32", (1, 2, 2, 1))
    mean = model.tensor("mean", "float32", (1, 1, 1, 1))
    flat = model.tensor("flat", "float32", (1, 1))
    shape = model.tensor("shape", "int32", (2,), values=[1, 1])
    weights = model.tensor("weights", "float32", (1, 1), values=[[1.0]])
    out = model.tensor("out", "float32", (1, 1))
    model.operator("MAX_POOL_2D", [x], [largest], schema.Pool2DOptionsT())
    model.operator("AVERAGE_POOL_2D", [largest], [mean], schema.Pool2DOptionsT())
    model.operator("RESHAPE", [mean, shape], [flat], schema.ReshapeOptionsT())
    model.operator("FULLY_CONNECTED", [flat, weights], [out], schema.FullyConnectedOptionsT())
    model.graph.inputs, model.graph.outputs = [x], [out]
    moved, result = activations(model.tree, {3: flat})
    assert set(moved.names) == {"x", "largest", "mean", "flat"}
    assert moved.layers == (3,)
    # The average is taken of values that are clipped before.
    assert moved.is_read_elsewhere
    assert (result.names, result.layers, result.is_read_elsewhere) == (("out",), (), True)


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    """The small float model and its plain int8 version, on images with a long tail of bright pixels."""
    with np.load(models.train_data) as arrays:
        x = arrays["x"][:300].astype(np.float32)
    x *= np.random.default_rng(0).exponential(size=x.shape).astype(np.float32)
    source = edgekit.open_artifact(models.tflite_cnn)
    name = source.inputs[0].name
    job = Settings(Recipe.load("int8"), {name: x[:200]}, {name: x[200:]})
    folder = tmp_path_factory.mktemp("plain")
    made = run(Candidate("ai_edge_quantizer", ("quantize",)), source, job, folder)
    return TFLiteTwins(models.tflite_cnn.read_bytes(), made.artifact.path.read_bytes()), {name: x[:200]}


def test_a_long_tail_is_clipped_and_no_range_is_wider_than_what_was_seen(files):
    twins, calibration = files
    whole = choose_ranges(twins, calibration=calibration, method="min-max").ranges
    # With 15 steps to spend, those for the few bright pixels are dear.
    chosen = choose_ranges(twins, calibration=calibration, bits=4)
    assert chosen.ranges.keys() == whole.keys()
    assert set(chosen.methods) <= set(METHODS)
    assert sum(chosen.methods.values()) == len(twins.activations)
    name = twins.activations[0].names[0]
    assert 0.1 * whole[name][1] < chosen.ranges[name][1] < 0.9 * whole[name][1]
    for tensor, (low, high) in chosen.ranges.items():
        assert whole[tensor][0] <= low <= 0 <= high <= whole[tensor][1]


def test_positions_are_drawn_by_the_seed(files):
    twins, calibration = files
    assert choose_ranges(twins, calibration=calibration, seed=3) == choose_ranges(
        twins, calibration=calibration, seed=3
    )


@pytest.mark.parametrize("method", ["mse", "moving-average"])
def test_the_ranges_of_a_method_reach_the_file(models, tmp_path, files, method):
    twins, samples = files
    np.savez(tmp_path / "calibration.npz", x=np.concatenate(list(samples.values())))
    output = tmp_path / "out.tflite"
    found = edgekit.quantize(
        models.tflite_cnn,
        output,
        recipe="int8",
        engine="ai-edge-quantizer",
        calibration=tmp_path / "calibration.npz",
        calibration_samples=150,
        ranges=method,
        keep_names=True,
    )
    assert f"by {method}" in next(f.message for f in found.findings if f.code == "EK328")
    drawn = edgekit.calibration.draw(
        edgekit.open_dataset(tmp_path / "calibration.npz"), found.source.inputs, count=150, seed=0
    )[0]
    wanted = choose_ranges(twins, calibration=drawn.calibration, method=method).ranges
    tree = flatbuffer.read(output.read_bytes())
    scales = {
        tensor.name.decode(): float(tensor.quantization.scale[0])
        for tensor in tree.subgraphs[0].tensors
        if tensor.type == schema.TensorType.INT8 and len(tensor.quantization.scale) == 1
    }
    compared = [name for name in wanted if name in scales]
    assert len(compared) >= 4
    for name in compared:
        low, high = wanted[name]
        assert scales[name] == pytest.approx((high - low) / 255, rel=1e-5)


def test_wide_activations_are_not_clipped(models, tmp_path):
    plan = edgekit.plan.plan_quantization(
        edgekit.open_artifact(models.tflite_cnn).format,
        edgekit.open_artifact(models.tflite_cnn).format,
        Recipe.load("int16x8"),
    )
    assert all("ranges_and_biases" not in candidate.steps for candidate in plan.candidates)
