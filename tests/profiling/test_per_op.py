"""The time of each operator, from the real profilers of both runtimes."""

import json

import pytest

from edgekit.cli._group import run
from edgekit.formats import open_artifact
from edgekit.interleaved import BenchmarkOptions, Delegate
from edgekit.operators import operators
from edgekit.pages.flame import flame
from edgekit.profiling import Node, OperatorTime, Profile, Timed, measured, named
from edgekit.profiling.measured import profile

_FAMILIES = {"CONV_2D": ["Convolution"], "ADD": ["Add"], "LOGISTIC": ["Sigmoid"], "RESHAPE": ["Reshape"]}
_SHORT = BenchmarkOptions(max_seconds=0.1, per_op=True)


def delegated(*kernels, first=0):
    return [Timed(kernel, 1.0, place) for place, kernel in enumerate(kernels, first)]


def owners(timed, nodes):
    return [(one.name, one.kernels) for one in named(timed, nodes, _FAMILIES)]


def test_kernels_that_fit_no_operator_belong_to_the_one_before():
    nodes = [Node("CONV_2D", "conv", 0), Node("ADD", "sum", 0)]
    timed = delegated("Convolution (NHWC)", "Add (ND)", "Clamp (NC)")
    assert owners(timed, nodes) == [("conv", ("Convolution (NHWC)",)), ("sum", ("Add (ND)", "Clamp (NC)"))]


def test_a_delegate_may_change_the_order_between_kinds():
    nodes = [Node("LOGISTIC", "s1", 0), Node("ADD", "a", 0), Node("LOGISTIC", "s2", 0)]
    timed = delegated("Sigmoid (NC)", "Sigmoid (NC)", "Add (ND)")
    assert [name for name, _kernels in owners(timed, nodes)] == ["s1", "s2", "a"]


def test_groups_and_operators_outside_of_them():
    nodes = [Node("ADD", "a", 0), Node("PACK", "p"), Node("ADD", "b", 1), Node("RESHAPE", "elided", 1)]
    timed = [*delegated("Add (ND)"), Timed("PACK", 2.0, 1, is_delegated=False), *delegated("Add (ND)")]
    assert owners(timed, nodes) == [("a", ("Add (ND)",)), ("p", ("PACK",)), ("b", ("Add (ND)",))]


def test_a_kernel_that_begins_a_group_and_fits_none_goes_to_the_first():
    timed = delegated("Static Reshape (NC)", "Convolution (NHWC)")
    assert owners(timed, [Node("CONV_2D", "conv", 0)]) == [
        ("conv", ("Static Reshape (NC)", "Convolution (NHWC)"))
    ]


def test_times_by_kind():
    found = Profile(
        "clock",
        3,
        (
            OperatorTime("CONV_2D", "a", ("x",), 6.0),
            OperatorTime("ADD", "b", ("y",), 1.0),
            OperatorTime("CONV_2D", "c", ("x",), 3.0),
        ),
    )
    assert found.total_us == 10
    assert found.by_kind() == [("CONV_2D", 2, 9.0), ("ADD", 1, 1.0)]
    assert [entry["share_pct"] for entry in found.describe()["ops"]] == [60, 10, 30]


@pytest.mark.parametrize("name", ["tflite_cnn", "tflite_cnn_int8"])
@pytest.mark.parametrize("xnnpack", [True, False])
def test_litert_names_the_operators_of_the_file(models, name, xnnpack):
    artifact = open_artifact(getattr(models, name))
    options = BenchmarkOptions(max_seconds=0.1, per_op=True, xnnpack=xnnpack)
    found, findings = profile(artifact, "litert", options)
    assert findings == []
    known = {(one.kind, one.names[-1]) for one in operators(artifact.path, artifact.format)}
    assert {(one.kind, one.name) for one in found.operators} <= known
    assert {"CONV_2D", "FULLY_CONNECTED"} <= {one.kind for one in found.operators}
    assert found.total_us > 0
    assert found.runs >= 10


def test_onnx_runtime_tells_its_nodes(models):
    found, findings = profile(open_artifact(models.onnx_cnn), "onnxruntime", _SHORT)
    assert findings == []
    assert any("Conv" in one.kind for one in found.operators)
    assert found.total_us > 0


def test_where_it_is_not_to_be_had_a_finding_says_why(models, monkeypatch):
    artifact = open_artifact(models.tflite_cnn)
    gpu = BenchmarkOptions(per_op=True, delegate=Delegate.parse("gpu"))
    assert [f.code for f in profile(artifact, "litert", gpu)[1]] == ["EK516"]
    assert "has no profiler" in profile(artifact, "tflite_runtime", _SHORT)[1][0].message
    monkeypatch.setattr(measured.metadata, "version", lambda _package: "2.9.0")
    found, [finding] = profile(artifact, "litert", _SHORT)
    assert found is None
    assert "and this is 2.9.0" in finding.message


def test_a_profiler_that_fails_is_a_finding(models, monkeypatch):
    monkeypatch.setattr(measured, "PYTHON", ("/bin/sh", "-c", "echo broken >&2; exit 3", "sh"))
    found, [finding] = profile(open_artifact(models.tflite_cnn), "litert", _SHORT)
    assert found is None
    assert "the profiler failed: broken" in finding.message


def test_from_the_command_to_the_page(models, tmp_path, capsys):
    saved, page = tmp_path / "run.json", tmp_path / "run.html"
    words = ["benchmark", str(models.tflite_cnn), "--per-op", "--max-seconds", "0.2"]
    assert run([*words, "--save", str(saved), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    ops = document["result"]["per_op"]["ops"]
    assert sum(entry["share_pct"] for entry in ops) == pytest.approx(100)
    assert run(["report", str(saved), "--html", str(page)]) == 0
    text = page.read_text()
    assert "time by operator of" in text
    assert text.count(" box") >= len({entry["op"] for entry in ops})
    assert run([*words, "--device", "pi"]) == 2


def test_the_widths_of_the_boxes_are_the_times():
    ops = [
        {"op": kind, "name": name, "mean_us": time_us}
        for kind, name, time_us in (("CONV_2D", "a", 6.0), ("ADD", "b", 1.0), ("CONV_2D", "c", 3.0))
    ]
    drawn = flame("m.tflite", {"ops": ops})
    kinds = [box for box in drawn.boxes if box.y < drawn.row]
    assert [round(box.width + 1) for box in kinds] == [576, 64]
    assert len(drawn.boxes) == 5
    assert kinds[0].note == "2 CONV_2D: 9.0 microseconds, 90.0%"
    assert flame("m.tflite", {"ops": [{"op": "ADD", "name": "", "mean_us": 0.0}]}) is None


def test_a_damaged_profile_in_a_saved_run_is_one_sentence(models, tmp_path, capsys):
    saved = tmp_path / "run.json"
    words = ["benchmark", str(models.tflite_cnn), "--per-op", "--max-seconds", "0.2", "-q"]
    assert run([*words, "--save", str(saved)]) == 0
    document = json.loads(saved.read_text())
    document["models"][0]["per_op"]["ops"][0]["mean_us"] = "soon"
    saved.write_text(json.dumps(document))
    capsys.readouterr()
    assert run(["report", str(saved), "--html", str(tmp_path / "run.html")]) == 7
    assert "times by operator are no numbers" in capsys.readouterr().err
