"""``edgekit inspect`` for people and for programs."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.cli._group import run


def test_the_table_names_operators_and_totals(models, capsys):
    assert run(["inspect", str(models.tflite_cnn_int8), "--ops", "--tensors"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "3,106 parameters",
        "55.5 k MACs",
        "6 operators, 0 of them in float",
        "signature serving_default",
    ):
        assert words in printed
    for words in ("CONV_2D", "DEPTHWISE_CONV_2D", "[1, 8, 8, 1]", "0.00392157", "-128", "and 23 more"):
        assert words in printed


def test_the_document_has_the_agreed_fields(models, capsys):
    assert run(["inspect", str(models.tflite_cnn), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "inspect"
    result = document["result"]
    assert result["artifact"].keys() == {
        "path", "format", "size_bytes", "gzip_bytes", "sha256", "inputs", "outputs"
    }  # fmt: skip
    assert result["artifact"]["inputs"] == [{"name": "image", "shape": [1, 8, 8, 1], "dtype": "float32"}]
    assert result["ops"] | {"float_ops": []} == {"total": 6, "quantized": 0, "float": 6, "float_ops": []}
    assert (result["parameters"], result["macs"], result["macs_complete"]) == (3106, 55536, True)


def test_notes_go_to_standard_error(models, capsys):
    assert run(["inspect", str(models.keras_cnn)]) == 0
    captured = capsys.readouterr()
    assert "EK130" in captured.err
    assert "EK130" not in captured.out


def test_a_missing_model_is_one_sentence_and_exit_code_7(tmp_path, capsys):
    assert run(["inspect", str(tmp_path / "none.tflite")]) == 7
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "EK101" in captured.err
    assert "Traceback" not in captured.err


def test_json_of_a_refusal_holds_the_code(tmp_path, capsys):
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert run(["inspect", str(tmp_path / "empty.onnx"), "--json"]) == 7
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "EK102"


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path, capsys):
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["[bold]x", "w"], ["[/red]y"])],
        "g",
        [helper.make_tensor_value_info("[bold]x", TensorProto.FLOAT, (1, 2))],
        [helper.make_tensor_value_info("[/red]y", TensorProto.FLOAT, (1, 2))],
        [numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "m"
    )
    assert run(["inspect", str(tmp_path / "m"), "--ops", "--tensors"]) == 0
    printed = capsys.readouterr().out
    assert "[bold]x" in printed
    assert "[/red]y" in printed


@pytest.mark.parametrize("name", ["onnx_cnn", "keras_cnn"])
def test_a_real_process_prints_one_json_document(models, name, tmp_path):
    # What stands in the user's folder shadows no package.
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('shadowed')")
    command = [sys.executable, "-m", "edgekit", "inspect", str(getattr(models, name)), "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["macs"] == 55536
    assert done.stderr == ""
