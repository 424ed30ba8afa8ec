"""``edgekit debug`` as a user meets it: exit codes, the table, the document, the page, and errors."""

import json
import re
from html.parser import HTMLParser

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgekit
from edgekit import flatbuffer
from edgekit.cli._group import run
from edgekit.errors import ModelError
from edgekit.verbs.schema import schema

_EVIL = "<script>alert(1)</script>"


@pytest.fixture
def document(capsys):
    """Run the command with --json, and check its document before handing it over."""

    def ask(*arguments, exit_code):
        assert run(["debug", *map(str, arguments), "--json"]) == exit_code
        answer = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator(schema("debug")).validate(answer)
        return answer

    return ask


def test_a_sound_file_exits_with_0(document, digits, int8):
    model, _, test = digits
    answer = document(model, int8[0], "--data", test, exit_code=0)
    assert answer["status"] == "ok"
    result = answer["result"]
    assert (result["verdict"], result["defect"], result["samples"]) == ("rounding", None, 32)
    names = [tensor["name"] for tensor in result["tensors"]]
    assert result["first_beyond_tolerance"] == names[1]
    assert result["outputs"] == names[-1:]
    assert {tensor["verdict"] for tensor in result["tensors"]} <= {"identical", "rounding"}


def test_a_defect_exits_with_1_and_is_named_everywhere(document, capsys, digits, int8, plant, tmp_path):
    model, _, test = digits
    planted = plant(int8[0], "weights scaled", 2)
    page = tmp_path / "page.html"
    answer = document(model, planted, "--data", test, "--html", page, exit_code=1)
    graph = flatbuffer.read(planted.read_bytes()).subgraphs[0]
    name = graph.tensors[graph.operators[2].outputs[0]].name.decode()
    assert answer["status"] == "failed"
    assert answer["result"]["defect"] == answer["result"]["loses_most"] == name
    assert [finding["level"] for finding in answer["findings"] if finding["code"] == "EK707"] == ["error"]
    assert name in page.read_text(encoding="utf-8")

    assert run(["debug", str(model), str(planted), "--data", str(test), "--all"]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("DEFECT in ")
    assert len(re.findall(r"\b(identical|rounding|defect) *$", printed, re.MULTILINE)) == len(
        answer["result"]["tensors"]
    )


def test_the_table_shows_what_matters_most(capsys, onnx_pair):
    source, output, data = onnx_pair
    assert run(["debug", str(source), str(output), "--data", str(data)]) == 0
    printed = capsys.readouterr().out
    count = int(re.search(r"\((\d+) tensors", printed)[1])
    rows = re.findall(r"^ *\d+  .*(?:identical|rounding) *$", printed, re.MULTILINE)
    left_out = int(re.search(r"and (\d+) more tensors: --all shows them", printed)[1])
    assert len(rows) + left_out == count
    assert len(rows) <= 8


def test_a_dry_run_runs_nothing(document, digits, int8):
    model, _, test = digits
    result = document(model, int8[0], "--data", test, "--samples", "7", "--dry-run", exit_code=0)["result"]
    assert (result["samples"], result["tensors"]) == (7, 9)
    assert (result["runtime_a"], result["runtime_b"]) == ("litert", "litert")


def test_a_page_that_exists_stays(digits, int8, tmp_path, capsys):
    page = tmp_path / "page.html"
    page.write_text("mine")
    command = ["debug", str(digits[0]), str(int8[0]), "--data", str(digits[2]), "--html", str(page)]
    assert run(command) == 2
    assert "EK602" in capsys.readouterr().err
    assert page.read_text() == "mine"
    assert run([*command, "--overwrite", "--samples", "2"]) == 0
    assert page.read_text().startswith("<!DOCTYPE html>")


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_the_page_needs_nothing_and_escapes_names(digits, int8, tmp_path):
    def rename(tree):
        for tensor in tree.subgraphs[0].tensors:
            tensor.name = (tensor.name or b"") + _EVIL.encode()

    hostile = tmp_path / "hostile.tflite"
    hostile.write_bytes(flatbuffer.rewrite(int8[0].read_bytes(), rename))
    found = edgekit.debug(digits[0], hostile, digits[2], samples=4)
    found.write_page(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(text)
    assert [tag for tag, _ in tags.found].count("script") == 1
    assert "alert" not in re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    assert not [attributes for _, attributes in tags.found if {"src", "onload", "onerror"} & set(attributes)]
    # One mark for each tensor that differs, both curves, and a row for each tensor.
    differing = [report for report in found.tensors if report.own_db < 1000]
    assert sum(tag == "circle" for tag, _ in tags.found) == len(differing)
    assert sum("curve" in attributes.get("class", "") for tag, attributes in tags.found if tag == "path") == 2
    assert sum(tag == "tr" for tag, _ in tags.found) == len(found.tensors) + 1


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (["{model}"], "EK700", 2),
        (["{model}", "{onnx}"], "EK701", 7),
        (["{model}", "{int8}", "--runtime-b", "nothing"], "EK901", 2),
        (["{model}", "{int8}", "--runtime-a", "onnxruntime"], "EK414", 2),
        (["{model}", "missing.tflite"], "EK101", 7),
    ],
)
def test_what_cannot_be_compared(capsys, digits, int8, onnx_pair, arguments, code, exit_code):
    places = {"model": digits[0], "int8": int8[0], "onnx": onnx_pair[0]}
    words = [word.format(**places) for word in arguments]
    assert run(["debug", *words, "--data", str(digits[2])]) == exit_code
    error = capsys.readouterr().err
    assert f"error {code}: " in error
    assert "Traceback" not in error


def _one_operator(path, kind, shape, **attributes):
    graph = helper.make_graph(
        [helper.make_node(kind, ["x"], ["inner"], **attributes), helper.make_node("Neg", ["inner"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_graphs_without_a_common_tensor_are_refused(tmp_path):
    one = _one_operator(tmp_path / "a.onnx", "Sigmoid", [1, 4])
    graph = helper.make_graph(
        [helper.make_node("Unsqueeze", ["x", "axes"], ["deep"]), helper.make_node("Exp", ["deep"], ["e"]),
         helper.make_node("Squeeze", ["e", "axes"], ["y"])],
        "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )  # fmt: skip
    other = tmp_path / "b.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), other)
    np.save(tmp_path / "x.npy", np.ones((2, 4), np.float32))
    with pytest.raises(ModelError) as caught:
        edgekit.debug(one, other, tmp_path / "x.npy")
    assert caught.value.code == "EK701"


def test_a_reference_that_gives_nan_is_refused(tmp_path):
    one = _one_operator(tmp_path / "a.onnx", "Sqrt", [1, 4])
    np.save(tmp_path / "x.npy", -np.ones((2, 4), np.float32))
    with pytest.raises(ModelError) as caught:
        edgekit.debug(one, one, tmp_path / "x.npy")
    assert caught.value.code == "EK702"


@pytest.mark.slow
def test_a_keras_model_is_converted_and_said_so(models):
    found = edgekit.debug(models.keras_cnn, models.tflite_cnn_int8, models.test_data, samples=8)
    assert found.verdict.value == "rounding"
    assert found.describe()["a"]["path"] == str(models.keras_cnn)
    assert [finding.code for finding in found.findings] == ["EK703"]
