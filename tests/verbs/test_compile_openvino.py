"""OpenVINO for real: its own format for the CPU, run and compared; an NPU's driver is on no machine of the tests."""

import pytest

import edgekit
from edgekit import flatbuffer
from edgekit.accelerators import Place, openvino
from edgekit.artifact import Format
from edgekit.compilers import openvino as compiler
from edgekit.errors import DependencyError, ModelError, UsageError
from edgekit.operators import Operand, Operator, operators
from edgekit.target import Target

_CPU, _NPU = "intel-cpu-openvino", "intel-npu"


@pytest.fixture(scope="module")
def installed(build_once):
    """OpenVINO, installed once for all processes in a cache of the tests' own."""

    def install(folder):
        patch.setenv("XDG_CACHE_HOME", str(folder))
        edgekit.toolchain_install("openvino")

    with pytest.MonkeyPatch.context() as patch:
        folder = build_once("openvino", install)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["tflite_cnn", "tflite_cnn_int8", "onnx_cnn"])
def test_a_network_is_written_and_computes_the_same(models, tmp_path, name):
    output = tmp_path / "model.xml"
    path = getattr(models, name)
    if path.suffix == ".onnx":
        path = tmp_path / "fixed.onnx"
        edgekit.convert(models.keras_cnn, path)
    compiled = edgekit.compile(path, output, target=_CPU)
    assert (compiled.placed_pct, compiled.findings) == (100, ())
    assert output.read_text().startswith("<?xml")
    assert output.with_suffix(".bin").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_files_without_names_are_given_some(models, tmp_path):
    """OpenVINO's reader refuses compact files: "tensor has no 'name' field"."""
    path = tmp_path / "int8.tflite"
    edgekit.quantize(models.tflite_cnn, path, recipe="int8", calibration=str(models.train_data))
    assert edgekit.compile(path, tmp_path / "model.xml", target=_CPU).placed_pct == 100


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_operators_are_known_by_either_field_for_their_number(models, tmp_path):
    """Its reader goes by the older field, and says that options of ADD are not accessible."""
    tree = flatbuffer.read(models.tflite_cnn_int8.read_bytes())
    for code in tree.operatorCodes:
        code.deprecatedBuiltinCode = 0
    path = tmp_path / "newer.tflite"
    path.write_bytes(flatbuffer.write(tree))
    compiled = edgekit.compile(path, tmp_path / "model.xml", target=_CPU)
    assert (compiled.placed_pct, compiled.findings) == (100, ())


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_what_cannot_be_had_is_one_sentence(models, tmp_path, monkeypatch):
    with pytest.raises(DependencyError, match="finds no NPU here") as caught:
        edgekit.compile(models.tflite_cnn_int8, tmp_path / "model.blob", target=_NPU)
    assert (caught.value.code, caught.value.exit_code) == ("EK397", 3)
    monkeypatch.setattr(compiler, "_NEAR_DB", 1e9)
    compiled = edgekit.compile(models.tflite_cnn, tmp_path / "model.xml", target=_CPU)
    assert [finding.code for finding in compiled.findings] == ["EK398"]
    broken = tmp_path / "child.py"
    broken.write_text("import sys; sys.exit('no such operator')\n")
    monkeypatch.setattr(compiler, "_CHILD", broken)
    with pytest.raises(ModelError, match="no such operator"):
        edgekit.compile(models.tflite_cnn, tmp_path / "other.xml", target=_CPU)
    assert not (tmp_path / "other.xml").exists()


def test_bad_input(models, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UsageError, match="no file for intel-cpu-openvino") as caught:
        edgekit.compile(models.tflite_cnn, tmp_path / "model.tflite", target=_CPU)
    assert caught.value.hint == "End its name with .xml."
    with pytest.raises(DependencyError, match="openvino is not installed"):
        edgekit.compile(models.tflite_cnn, tmp_path / "model.xml", target=_CPU)


def test_rules(models):
    found = operators(models.tflite_cnn, Format.TFLITE)
    cpu, npu = Target.load(_CPU), Target.load(_NPU)
    assert {verdict.place for verdict in openvino.judge(found, cpu)} == {Place.ACCELERATED}
    assert {verdict.place for verdict in openvino.judge(found, npu)} == {Place.UNKNOWN}
    values = Operand("x", (1, 4), "float32")
    odd = [
        Operator("Det", ("y",), (values,), (values,)),
        Operator("F", ("z",), (values,), (), domain="org.example"),
    ]
    assert {verdict.place for verdict in openvino.judge(odd, cpu)} == {Place.UNSUPPORTED}
