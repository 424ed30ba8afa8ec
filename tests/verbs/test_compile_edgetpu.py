"""The Edge TPU's compiler is on no machine of the tests: what is tried is how its log is read, and its absence."""

import pytest

import edgekit
from edgekit.compilers import edgetpu_compiler
from edgekit.errors import DependencyError, TargetError

# In the form that the compiler's documentation shows.
_LOG = """\
Edge TPU Compiler version 16.0.384591198
Input model: model.tflite
On-chip memory used for caching model parameters: 3.33MiB
Off-chip memory used for streaming uncached model parameters: 512.00KiB
Number of Edge TPU subgraphs: 1
Operator                       Count      Status

CONV_2D                        2          Mapped to Edge TPU
RESIZE_NEAREST_NEIGHBOR        1          Operation version not supported
SOFTMAX                        1          Mapped to Edge TPU
"""


def test_the_table_of_operators():
    found = list(edgetpu_compiler.operators_of(_LOG))
    assert [(one.kind, one.place) for one in found] == [
        ("CONV_2D", "tpu"),
        ("CONV_2D", "tpu"),
        ("RESIZE_NEAREST_NEIGHBOR", "cpu"),
        ("SOFTMAX", "tpu"),
    ]
    assert found[2].name == "Operation version not supported"
    assert list(edgetpu_compiler.operators_of("Killed")) == []


def test_the_memory():
    assert edgetpu_compiler.memory_of(_LOG) == {
        "on_chip_bytes": pytest.approx(3.33 * 2**20),
        "off_chip_bytes": 512 * 1024,
    }


def test_without_the_compiler_it_says_how_to_get_it(models, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DependencyError, match="edgetpu_compiler is not installed") as caught:
        edgekit.compile(models.tflite_cnn_int8, tmp_path / "tpu.tflite", target="coral-edgetpu")
    assert (caught.value.code, caught.value.exit_code) == ("EK399", 3)
    assert "coral.ai" in caught.value.hint
    with pytest.raises(TargetError, match=r"reads \.tflite"):
        edgekit.compile(models.onnx_cnn, tmp_path / "tpu.tflite", target="coral-edgetpu")


def test_a_program_that_writes_nothing_is_a_failure(models, tmp_path, monkeypatch):
    program = tmp_path / "edgetpu_compiler"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(edgekit.EdgekitError, match="made nothing of"):
        edgekit.compile(models.tflite_cnn_int8, tmp_path / "tpu.tflite", target="coral-edgetpu")
    assert not (tmp_path / "tpu.tflite").exists()
