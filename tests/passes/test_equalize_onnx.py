"""Balanced channels of ONNX files: the float function stays, and int8 gets back what bad scales took."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.passes.equalize_onnx import equalize_onnx
from edgekit.tensor import difference


def network(seed=0, *, largest=1.0, flat=False, batch=1, activation="Relu", norm=False):
    """Conv, depthwise Conv, Conv, Conv and Gemm on (n, 3, 6, 6), channels scaled by up to ``largest`` in between."""
    generator, scaling = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    nodes, constants = [], []

    def constant(name, values):
        constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    taken = np.ones(3)
    last = "x"
    sizes = [(8, 3, 3, 1), (8, 8, 3, 8), (12, 8, 1, 1), (8, 12, 3, 1)]
    for index, (out, read, size, group) in enumerate(sizes):
        given = largest ** scaling.uniform(size=out)
        weights = generator.normal(size=(out, read // group, size, size)) / np.sqrt(size * read / group)
        weights /= taken.reshape(-1, 1, 1, 1) if group > 1 else taken.reshape(1, -1, 1, 1)
        bias = generator.normal(size=out) / 4
        factor = np.ones(out) if norm and index == 0 else given
        names = [
            constant(f"w{index}", weights * factor.reshape(-1, 1, 1, 1)),
            constant(f"b{index}", bias * factor),
        ]
        nodes.append(
            helper.make_node("Conv", [last, *names], [f"c{index}"], group=group, pads=[size // 2] * 4)
        )
        last = f"c{index}"
        if norm and index == 0:
            values = (given, given * 0.1, np.full(out, 0.1), np.ones(out))
            names = [constant(f"{part}{index}", one) for part, one in zip("gdmv", values, strict=True)]
            nodes.append(helper.make_node("BatchNormalization", [last, *names], [f"n{index}"]))
            last = f"n{index}"
        bounds = [constant(f"low{index}", 0.0), constant(f"high{index}", 6.0)] if activation == "Clip" else []
        nodes.append(helper.make_node(activation, [last, *bounds], [f"a{index}"]))
        last, taken = f"a{index}", given
    if flat:
        nodes.append(helper.make_node("Flatten", [last], ["f"]))
        weights = generator.normal(size=(8 * 36, 4)) / np.repeat(taken, 36)[:, None] / 17
    else:
        nodes.append(helper.make_node("GlobalAveragePool", [last], ["p"]))
        nodes.append(helper.make_node("Flatten", ["p"], ["f"]))
        weights = generator.normal(size=(8, 4)) / taken[:, None]
    nodes.append(helper.make_node("Gemm", ["f", constant("w", weights), constant("b", np.zeros(4))], ["y"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 6, 6])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(7).normal(size=(120, 3, 6, 6)).astype(np.float32)


def outputs(content, x):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": one[None]})[0] for one in x])


@settings(max_examples=12)
@given(seed=st.integers(0, 2**16), flat=st.booleans(), norm=st.booleans())
def test_the_float_function_stays_and_there_is_something_to_gain(seed, flat, norm, images):
    model = network(seed, largest=1000, flat=flat, norm=norm)
    found = equalize_onnx(model, {"x": images})
    assert found.groups >= 4
    assert found.gain_db > 6
    assert difference(outputs(model.SerializeToString(), images), outputs(found.model, images)).snr_db > 100


def test_balanced_channels_promise_nothing(images):
    balanced = onnx.load_from_string(equalize_onnx(network(largest=1000), {"x": images}).model)
    again = equalize_onnx(balanced, {"x": images})
    assert again.groups == 0
    assert again.model == balanced.SerializeToString()


def test_a_clip_to_6_keeps_channels_below_its_bound(images):
    model = network(3, largest=0.001, activation="Clip")
    found = equalize_onnx(model, {"x": images})
    assert found.same_db > 100


@pytest.mark.parametrize("batch", [1, "n"])
@pytest.mark.parametrize("flat", [True, False])
def test_int8_comes_back(flat, batch, images, tmp_path):
    np.savez(tmp_path / "x.npz", x=images)
    (tmp_path / "hard.onnx").write_bytes(network(largest=100, flat=flat, batch=batch).SerializeToString())
    found = {
        equalize: edgekit.quantize(
            tmp_path / "hard.onnx",
            tmp_path / f"{equalize}.onnx",
            recipe="int8",
            calibration=tmp_path / "x.npz",
            equalize=equalize,
            batch=None if batch == "n" else 1,
        )
        for equalize in ("never", "auto")
    }
    assert found["auto"].read_back.snr_db > max(20, found["never"].read_back.snr_db + 6)
    assert "EK326" in {finding.code for finding in found["auto"].findings}
    assert found["auto"].artifact.inputs[0].shape[0] == (None if batch == "n" else 1)


def test_shapes_that_mix_channels_are_left_alone(images):
    model = network(largest=1000)
    # The same numbers, read as 3 positions of 24 channels and back: no factor of a channel passes.
    position = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Relu")
    mixed = [
        helper.make_node("Reshape", ["a0", "there"], ["r0"]),
        helper.make_node("Reshape", ["r0", "back"], ["q0"]),
    ]
    for offset, node in enumerate(mixed):
        model.graph.node.insert(position + 1 + offset, node)
    model.graph.node[position + 3].input[0] = "q0"
    for name, shape in (("there", [1, 16, 3, 6]), ("back", [1, 8, 6, 6])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
    found = equalize_onnx(model, {"x": images})
    assert found.same_db > 100
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(found.model).graph.initializer}
    before = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert (weights["w0"] == before["w0"]).all()
    assert not (weights["w3"] == before["w3"]).all()
