"""ONNX files that onnx itself would take: opsets, external data, operators that do not exist."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ModelError
from edgekit.formats import open_artifact


def model(*, opset=13, operator="Relu", domain="", shape=("n", 4), dtype=TensorProto.FLOAT):
    """One operator from ``x`` to ``y``."""
    nodes = [helper.make_node(operator, ["x"], ["y"], domain=domain)]
    ends = [helper.make_tensor_value_info(name, dtype, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def code_of(path):
    with pytest.raises(ModelError) as caught:
        open_artifact(path)
    return caught.value.code


def saved(document, path):
    onnx.save(document, str(path))
    return path


@pytest.mark.parametrize("opset", [8, 11, 13, 21])
def test_every_opset_from_8_is_read(tmp_path, opset):
    artifact = open_artifact(saved(model(opset=opset), tmp_path / "m.onnx"))
    assert [(spec.name, spec.shape, spec.dtype) for spec in artifact.inputs] == [("x", (None, 4), "float32")]


def test_an_older_opset_is_refused(tmp_path):
    assert code_of(saved(model(opset=7), tmp_path / "m.onnx")) == "EK115"


def test_a_newer_opset_than_the_runtime_s_is_refused(tmp_path):
    assert code_of(saved(model(opset=99), tmp_path / "m.onnx")) == "EK115"


def test_an_operator_that_does_not_exist_is_named(tmp_path):
    path = saved(model(operator="Erfc"), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="Erfc") as caught:
        open_artifact(path)
    assert caught.value.code == "EK117"
    assert code_of(saved(model(operator="Spin", domain="com.example"), tmp_path / "c.onnx")) == "EK117"


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.DOUBLE, "float64"),
        (TensorProto.INT8, "int8"),
        (TensorProto.INT64, "int64"),
        (TensorProto.UINT8, "uint8"),
        (TensorProto.BOOL, "bool"),
    ],
)
def test_dtypes_have_numpy_s_names(tmp_path, dtype, name):
    artifact = open_artifact(saved(model(operator="Identity", dtype=dtype), tmp_path / "m.onnx"))
    assert artifact.outputs[0].dtype == name
    assert np.dtype(name).name == name


def test_initializers_that_are_listed_as_inputs_are_none(tmp_path):
    # Up to IR version 3 every initializer had to stand among the inputs.
    document = model(operator="Identity")
    document.graph.node[0].CopyFrom(helper.make_node("Add", ["x", "w"], ["y"]))
    document.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    document.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (4,)))
    document.ir_version = 3
    document.opset_import[0].version = 8
    assert [spec.name for spec in open_artifact(saved(document, tmp_path / "m.onnx")).inputs] == ["x"]


def with_external(path, location="weights.bin", offset="0", length="16"):
    document = model()
    document.graph.node[0].CopyFrom(helper.make_node("Add", ["x", "w"], ["y"]))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=value)
    document.graph.initializer.append(tensor)
    path.write_bytes(document.SerializeToString())
    return path


def test_external_data_beside_the_model_are_read(tmp_path):
    (tmp_path / "weights.bin").write_bytes(np.ones(4, np.float32).tobytes())
    assert open_artifact(with_external(tmp_path / "m.onnx")).outputs[0].name == "y"


def test_external_data_that_are_missing_or_short(tmp_path):
    path = with_external(tmp_path / "m.onnx")
    assert code_of(path) == "EK114"
    (tmp_path / "weights.bin").write_bytes(b"1234")
    assert code_of(path) == "EK114"
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    assert code_of(with_external(path, offset="x")) == "EK105"
    assert code_of(with_external(path, offset="-4")) == "EK114"


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "", "link.bin"])
def test_external_data_outside_the_folder_are_never_opened(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    assert code_of(with_external(folder / "m.onnx", location=location)) == "EK114"


def test_external_data_inside_of_a_branch_are_checked_too(tmp_path):
    inner = with_external(tmp_path / "inner.onnx", location="../../etc/passwd")
    branch = onnx.load(str(inner), load_external_data=False).graph
    del branch.input[:]
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    ends = [
        helper.make_tensor_value_info("c", TensorProto.BOOL, ()),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, (4,)),
    ]
    graph = helper.make_graph(
        [node], "g", ends, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    )
    document = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(document.SerializeToString())
    assert code_of(tmp_path / "m.onnx") == "EK114"
