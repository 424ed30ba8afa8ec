"""ONNX models in memory: what is written needs no other file, and what is too large for one is said to be so."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit import onnx_model
from edgekit.errors import ModelError
from edgekit.formats import open_artifact


def product(path, size, weights):
    """One matrix product with ``weights`` as a tensor of ONNX."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "product", ends[:1], ends[1:], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def outside(size):
    """Weights that lie in the file big.data."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[size, size])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "big.data"), ("offset", "0"), ("length", str(4 * size * size))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_what_lies_in_other_files_is_taken_in(tmp_path):
    source, alone = product(tmp_path / "model.onnx", 4, outside(4)), tmp_path / "elsewhere" / "alone.onnx"
    values = np.arange(16, dtype=np.float32)
    (tmp_path / "big.data").write_bytes(values.tobytes())
    alone.parent.mkdir()
    onnx_model.save(onnx_model.load(source), alone, named=source)
    assert open_artifact(alone).inputs[0].shape == (None, 4)
    [stored] = onnx.load(alone, load_external_data=False).graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(stored), values.reshape(4, 4))


def test_the_batch_is_bound_in_inputs_and_outputs(tmp_path):
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    model = onnx_model.load(product(tmp_path / "model.onnx", 4, weights))
    onnx_model.bind_batch(model, None)
    assert not model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    onnx_model.bind_batch(model, 3)
    for value in (*model.graph.input, *model.graph.output):
        assert [size.dim_value for size in value.type.tensor_type.shape.dim] == [3, 4]


def available_bytes():
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(facts["MemAvailable"].split()[0]) * 1024


@pytest.mark.slow
@pytest.mark.skipif("available_bytes() < 8e9", reason="needs 8 GB of memory")
def test_more_than_one_file_holds(tmp_path):
    size = 24_000
    source, output = product(tmp_path / "model.onnx", size, outside(size)), tmp_path / "out.onnx"
    with (tmp_path / "big.data").open("wb") as file:
        file.truncate(4 * size * size)
    with pytest.raises(ModelError, match=r"larger than one ONNX file can be") as caught:
        onnx_model.save(onnx_model.load(source), output, named=source)
    assert caught.value.code == "EK118"
