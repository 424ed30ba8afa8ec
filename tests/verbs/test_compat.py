"""Where operators would run, from Python and on the command line."""

import json

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from handmade import Made
from onnx import TensorProto, helper

import edgekit
from edgekit.accelerators import Place
from edgekit.arena import activation_bytes
from edgekit.artifact import Format
from edgekit.cli._group import run
from edgekit.errors import ModelError, TargetError, UsageError
from edgekit.operators import operators
from edgekit.verbs.targets import target_list


def test_an_int8_network_on_a_pi_and_an_npu(models):
    pi = edgekit.compat(models.tflite_cnn_int8, target="raspberry-pi-4")
    assert 0 < pi.placed_pct < 100
    assert pi.placed_macs_pct == 100
    assert {finding.code for finding in pi.findings} == {"EK371"}
    npu = edgekit.compat(models.tflite_cnn_int8, target="ethos-u55-128")
    assert (npu.placed_pct, npu.findings) == (100, ())


@pytest.mark.slow
def test_a_keras_model_is_looked_at_as_the_file_that_it_becomes(models):
    found = edgekit.compat(models.keras_cnn, target="ethos-u55-128")
    assert found.artifact.format is Format.KERAS
    assert found.placed_pct == 0
    codes = [finding.code for finding in found.findings]
    assert "EK375" in codes
    assert {finding.hint for finding in found.findings if finding.code == "EK371"} >= {
        "Quantize it with -r int8."
    }


def test_onnx_on_a_pi_is_onnx_runtimes(models):
    found = edgekit.compat(models.onnx_cnn, target="raspberry-pi-4")
    assert (found.rules, found.placed_pct) == ("onnxruntime", 100)


@pytest.mark.parametrize("target", [target.name for target in target_list()])
def test_every_target_says_something_of_every_operator(models, target):
    profile = edgekit.target_show(target)
    path = models.tflite_cnn_int8 if "tflite" in profile.formats.values else models.onnx_cnn
    found = edgekit.compat(path, target=target)
    assert found.placed
    assert all(one.verdict.reason for one in found.placed if one.verdict.place is not Place.ACCELERATED)


def test_a_format_that_the_target_does_not_take(models):
    with pytest.raises(TargetError, match=r"takes tflite files.*is onnx") as caught:
        edgekit.compat(models.onnx_cnn, target="ethos-u55-128")
    assert (caught.value.code, caught.value.exit_code) == ("EK381", 4)


def test_bad_input(tmp_path, models):
    with pytest.raises(ModelError):
        edgekit.compat(tmp_path / "none.tflite", target="ethos-u55-128")
    with pytest.raises(UsageError) as caught:
        edgekit.compat(models.tflite_cnn, target="ethos-u56-128")
    assert "ethos-u55-128" in caught.value.hint
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(models.tflite_cnn.read_bytes()[:500])
    with pytest.raises(ModelError):
        edgekit.compat(broken, target="raspberry-pi-4")


def test_too_little_is_an_exit_code_and_a_result_of_sarif(models, tmp_path, capsys):
    sarif = tmp_path / "compat.sarif"
    words = ["compat", str(models.tflite_cnn_int8), "-t", "raspberry-pi-4"]
    assert run([*words, "--min-placement", "10"]) == 0
    capsys.readouterr()
    assert run([*words, "--min-placement", "100", "--sarif", str(sarif), "--json"]) == 4
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "failed"
    counts = document["result"]["counts"]
    assert counts["accelerated"] + counts["cpu"] == len(document["result"]["ops"])
    rules = [result["ruleId"] for result in json.loads(sarif.read_text())["runs"][0]["results"]]
    assert {"EK371", "EK376"} <= set(rules)
    assert run([*words, "--sarif", str(sarif)]) == 2


def test_an_operator_that_does_not_run_is_an_exit_code(tmp_path, capsys):
    made = Made()
    x, y = (made.tensor(name, "float32", (1, 4)) for name in "xy")
    made.operator("GELU", [x], [y], schema.GeluOptionsT())
    made.graph.inputs, made.graph.outputs = [x], [y]
    path = tmp_path / "gelu.tflite"
    path.write_bytes(made.bytes())
    assert run(["compat", str(path), "-t", "microcontroller-tflm", "--ops"]) == 4
    assert "error EK372: microcontroller-tflm: 1 GELU (y) does not run there" in capsys.readouterr().err
    assert run(["compat", str(path), "-t", "linux-x86-64"]) == 0


def test_an_unknown_domain_is_one_sentence(tmp_path, capsys):
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], domain="org.example")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    sets = [helper.make_opsetid("", 13), helper.make_opsetid("org.example", 1)]
    path = tmp_path / "odd.onnx"
    graph = helper.make_graph(nodes, "odd", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8), path)
    assert run(["compat", str(path), "-t", "linux-x86-64"]) == 7
    assert "does not have: org.example:Frobnicate" in capsys.readouterr().err


def test_the_memory_of_inner_tensors(tmp_path):
    """x, then a beside x, then b beside a and x: the sum reads both ends of a chain."""
    made = Made()
    x, a, b, y = (made.tensor(name, "float32", (1, 100)) for name in ("x", "a", "b", "y"))
    made.operator("ABS", [x], [a])
    made.operator("NEG", [a], [b])
    made.operator("ADD", [x, b], [y], schema.AddOptionsT())
    made.graph.inputs, made.graph.outputs = [x], [y]
    path = tmp_path / "chain.tflite"
    path.write_bytes(made.bytes())
    assert activation_bytes(operators(path, Format.TFLITE)) == 3 * 400
    found = edgekit.compat(path, target="raspberry-pi-4")
    assert found.activation_bytes == 1200


def test_more_memory_than_a_target_has(tmp_path):
    made = Made()
    x, y = (made.tensor(name, "int8", (1, 500, 500, 4), scale=0.1) for name in "xy")
    made.operator("ABS", [x], [y])
    made.graph.inputs, made.graph.outputs = [x], [y]
    path = tmp_path / "large.tflite"
    path.write_bytes(made.bytes())
    found = edgekit.compat(path, target="ethos-u65-256")
    assert [finding.code for finding in found.findings] == ["EK374"]
    assert "2,000,000 bytes" in found.findings[0].message


def test_constants_take_no_memory_of_activations(tmp_path):
    made = Made()
    x = made.tensor("x", "float32", (1, 4))
    c = made.tensor("c", "float32", (4000,), values=np.zeros(4000, np.float32))
    y = made.tensor("y", "float32", (4000,))
    made.operator("ADD", [x, c], [y], schema.AddOptionsT())
    made.graph.inputs, made.graph.outputs = [x], [y]
    path = tmp_path / "constant.tflite"
    path.write_bytes(made.bytes())
    assert activation_bytes(operators(path, Format.TFLITE)) == 16 + 16000
