"""ONNX to TFLite by the real onnx2tf in its toolchain: layouts, names and free sizes are those of the source."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.artifact import Format
from edgekit.errors import DependencyError, ModelError
from edgekit.formats import open_artifact
from edgekit.operators import operators


@pytest.fixture(scope="module")
def installed(build_once):
    """onnx2tf with its TensorFlow, installed once for all processes in a cache of the tests' own."""

    def install(folder):
        patch.setenv("XDG_CACHE_HOME", str(folder))
        edgekit.toolchain_install("onnx2tf")

    with pytest.MonkeyPatch.context() as patch:
        folder = build_once("onnx2tf", install)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield


def image_model(path, *, batch=1, size=4, last="Relu"):
    """A 3x3 convolution of 4 channels, and one more operator; images go in and out as NCHW."""
    weights = np.random.default_rng(0).normal(size=(4, 4, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["features"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node(last, ["features"], ["result"], name="second"),
    ]
    shape = [batch, 4, size, size]
    ends = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("result", TensorProto.FLOAT, shape[:2] if last == "Det" else shape),
    ]
    graph = helper.make_graph(nodes, "image", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("batch", [1, None])
def test_images_lie_as_in_the_source_also_where_no_size_tells(tmp_path, batch):
    """Four channels of 4 by 4: whatever is turned has the same shape, and only the values tell."""
    source = image_model(tmp_path / "model.onnx", batch="n")
    converted = edgekit.convert(source, tmp_path / "model.tflite", batch=batch)
    artifact = converted.artifact
    assert [(spec.name, spec.shape) for spec in artifact.inputs] == [("image", (batch, 4, 4, 4))]
    assert [spec.name for spec in artifact.outputs] == ["result"]
    assert converted.converter == "onnx2tf"
    assert converted.fidelity.snr_db > 100
    kinds = [one.kind for one in operators(artifact.path, Format.TFLITE)]
    assert kinds.count("TRANSPOSE") == 2
    # What holds onnx2tf to the order of the axes costs nothing where the sizes are known.
    assert batch is None or kinds.count("RESHAPE") == 0


def recurrent_model(path, steps):
    """An LSTM of 4 units over ``steps`` times 3 numbers; gives its last state."""
    generator = np.random.default_rng(0)
    weights = {
        name: generator.normal(size=size, scale=0.5).astype(np.float32)
        for name, size in {"w": (1, 16, 3), "r": (1, 16, 4), "b": (1, 32)}.items()
    }
    nodes = [
        helper.make_node("Transpose", ["series"], ["by_time"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["by_time", "w", "r", "b"], ["", "state"], hidden_size=4),
        helper.make_node("Squeeze", ["state", "axes"], ["last"]),
    ]
    stored = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    stored.append(numpy_helper.from_array(np.array([0], np.int64), "axes"))
    ends = [
        helper.make_tensor_value_info("series", TensorProto.FLOAT, [1, steps, 3]),
        helper.make_tensor_value_info("last", TensorProto.FLOAT, [1, 4]),
    ]
    graph = helper.make_graph(nodes, "recurrent", ends[:1], ends[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("steps", [5, 70])
def test_short_recurrences_have_no_loop_and_are_quantized(tmp_path, steps):
    """A quantizer looks into no loop, and says so."""
    converted = edgekit.convert(recurrent_model(tmp_path / "model.onnx", steps), tmp_path / "model.tflite")
    assert converted.fidelity.snr_db > 60
    has_loop = "WHILE" in {one.kind for one in operators(converted.artifact.path, Format.TFLITE)}
    assert has_loop == (steps > 64)
    if not has_loop:
        return
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(60, steps, 3)).astype(np.float32))
    with pytest.raises(ModelError, match="cannot quantize") as caught:
        edgekit.quantize(converted.artifact.path, tmp_path / "int8.tflite", calibration=tmp_path / "data.npz")
    assert "loops" in caught.value.hint


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_an_onnx_file_becomes_an_int8_tflite_file(models, tmp_path):
    output = tmp_path / "int8.tflite"
    before = models.onnx_cnn.read_bytes()
    quantized = edgekit.quantize(models.onnx_cnn, output, recipe="int8", calibration=models.train_data)
    assert quantized.read_back.snr_db > 20
    float_score = edgekit.evaluate(models.onnx_cnn, models.test_data, workers=1).value
    assert edgekit.evaluate(output, models.test_data, workers=1).value > float_score - 0.02
    # onnx2tf changes the file that it is given.
    assert models.onnx_cnn.read_bytes() == before


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_an_operator_that_tflite_lacks_is_named(tmp_path):
    source, output = image_model(tmp_path / "model.onnx", last="Det"), tmp_path / "model.tflite"
    with pytest.raises(ModelError, match=r"LiteRT has no MatrixDeterminant.* operator 2 of 2, Det second"):
        edgekit.convert(source, output, bisect=tmp_path)
    assert not output.exists()
    assert [node.op_type for node in onnx.load(tmp_path / "part.onnx").graph.node] == ["Det"]


def test_without_the_toolchain_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = image_model(tmp_path / "model.onnx")
    with pytest.raises(DependencyError) as caught:
        edgekit.convert(source, tmp_path / "model.tflite")
    assert caught.value.hint == "Install it: edgekit toolchain install onnx2tf"
    assert open_artifact(source).format is Format.ONNX
