"""A model for microcontrollers: compiled by a real C compiler, run by TensorFlow Lite Micro itself."""

import ctypes
import shutil
import subprocess

import pytest
from ai_edge_litert import schema_py_generated as schema
from handmade import Made

import edgekit
from edgekit.cli._group import run
from edgekit.compilers import tflm
from edgekit.errors import OutputError, TargetError, UsageError

_TARGET = "microcontroller-tflm"


@pytest.fixture(scope="module")
def installed(build_once):
    """TensorFlow Lite Micro, installed once for all processes in a cache of the tests' own."""

    def install(folder):
        patch.setenv("XDG_CACHE_HOME", str(folder))
        edgekit.toolchain_install("tflm")

    with pytest.MonkeyPatch.context() as patch:
        folder = build_once("tflm", install)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield


@pytest.fixture
def without(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def defined(header, name):
    [line] = [line for line in header.read_text().splitlines() if line.startswith(f"#define {name} ")]
    return int(line.rpartition(" ")[2])


@pytest.mark.usefixtures("without")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_the_array_in_c_is_the_file(models, tmp_path):
    output = tmp_path / "digits.int8.c"
    compiled = edgekit.compile(models.tflite_cnn_int8, output, target=_TARGET)
    assert [finding.code for finding in compiled.findings] == ["EK395"]
    library = tmp_path / "model.so"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, str(output), "-o", str(library)], check=True)
    content = models.tflite_cnn_int8.read_bytes()
    array = (ctypes.c_ubyte * len(content)).in_dll(ctypes.CDLL(str(library)), "digits_int8_data")
    assert bytes(array) == content
    assert ctypes.addressof(array) % 16 == 0
    assert defined(output.with_suffix(".h"), "DIGITS_INT8_SIZE") == len(content)


@pytest.mark.usefixtures("without")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_header_registers_every_operator(models, tmp_path):
    output = tmp_path / "model.cc"
    edgekit.compile(models.tflite_cnn_int8, output, target=_TARGET)
    count = defined(output.with_suffix(".h"), "MODEL_OPERATOR_COUNT")
    program = tmp_path / "main.cc"
    program.write_text(
        '#include "model.h"\n#include <cstdio>\n'
        "struct Resolver { int added = 0; int Add() { ++added; return 0; }\n"
        " int AddConv2D() { return Add(); } int AddDepthwiseConv2D() { return Add(); }\n"
        " int AddFullyConnected() { return Add(); } int AddMean() { return Add(); }\n"
        " int AddMaxPool2D() { return Add(); } int AddAveragePool2D() { return Add(); }\n"
        " int AddReshape() { return Add(); } int AddSoftmax() { return Add(); } };\n"
        'int main() { Resolver r; bool ok = model_add_operators(&r); std::printf("%d %d", ok, r.added); }\n'
    )
    command = ["g++", "-std=c++17", "-Wall", str(program), str(output), "-o", str(tmp_path / "main")]
    subprocess.run(command, check=True)
    said = subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, check=True).stdout
    assert said == f"1 {count}"


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("CONV_2D", "AddConv2D"),
        ("DEPTHWISE_CONV_2D", "AddDepthwiseConv2D"),
        ("LOGISTIC", "AddLogistic"),
        ("SPACE_TO_BATCH_ND", "AddSpaceToBatchNd"),
        ("PADV2", "AddPadV2"),
        ("SPLIT_V", "AddSplitV"),
        ("L2_NORMALIZATION", "AddL2Normalization"),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", "AddUnidirectionalSequenceLSTM"),
    ],
)
def test_the_names_of_the_resolvers_methods(kind, method):
    assert tflm._method(kind) == method


@pytest.mark.usefixtures("without")
def test_bad_input(models, tmp_path):
    with pytest.raises(UsageError, match="no file of C") as caught:
        edgekit.compile(models.tflite_cnn_int8, tmp_path / "model.tflite", target=_TARGET)
    assert caught.value.code == "EK394"
    with pytest.raises(TargetError, match=r"reads \.tflite files"):
        edgekit.compile(models.onnx_cnn, tmp_path / "model.c", target=_TARGET)
    (tmp_path / "model.h").write_text("mine")
    with pytest.raises(OutputError):
        edgekit.compile(models.tflite_cnn_int8, tmp_path / "model.c", target=_TARGET)
    assert (tmp_path / "model.h").read_text() == "mine"
    assert not (tmp_path / "model.c").exists()


@pytest.mark.usefixtures("without")
def test_an_operator_that_it_does_not_have_is_named(tmp_path):
    made = Made()
    x, y = (made.tensor(name, "float32", (1, 4)) for name in "xy")
    made.operator("GELU", [x], [y], schema.GeluOptionsT())
    made.graph.inputs, made.graph.outputs = [x], [y]
    path = tmp_path / "gelu.tflite"
    path.write_bytes(made.bytes())
    with pytest.raises(TargetError, match="GELU") as caught:
        edgekit.compile(path, tmp_path / "gelu.c", target=_TARGET)
    assert (caught.value.code, caught.value.exit_code) == ("EK392", 4)


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["tflite_cnn", "tflite_cnn_int8"])
def test_what_the_real_interpreter_says(models, tmp_path, name):
    """The memory is measured, the estimate lies near it, and the outputs are LiteRT's."""
    path, output = getattr(models, name), tmp_path / "model.c"
    compiled = edgekit.compile(path, output, target=_TARGET)
    assert compiled.findings == ()
    estimates = compiled.compilation.estimates
    assert estimates["tensor_arena_bytes"] > estimates["tensors_bytes"] > 0
    assert defined(output.with_suffix(".h"), "MODEL_ARENA_SIZE") == estimates["tensor_arena_bytes"]
    found = tflm.operators(path, tflm.Format.TFLITE)
    assert tflm._estimated(found) == pytest.approx(estimates["tensor_arena_bytes"], rel=0.35)


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_on_the_command_line(models, tmp_path, capsys):
    output = tmp_path / "model.c"
    words = ["compile", str(models.tflite_cnn_int8), "-t", _TARGET, "-o", str(output)]
    assert run(words) == 0
    assert "tensor arena" in capsys.readouterr().out
    assert run(words) == 2
    assert run([*words, "--overwrite", "--json"]) == 0
    assert '"basis": "measured in TensorFlow Lite Micro' in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_outputs_that_differ_are_a_finding(models, tmp_path, monkeypatch):
    monkeypatch.setattr(tflm, "_STEPS", -1)
    compiled = edgekit.compile(models.tflite_cnn_int8, tmp_path / "model.c", target=_TARGET)
    assert [finding.code for finding in compiled.findings] == ["EK396"]
