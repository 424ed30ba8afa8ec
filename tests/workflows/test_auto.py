"""``quantize --auto`` on the digits of the examples: what it writes, what judges it, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import edgekit
from edgekit.cli._group import run
from edgekit.errors import OutputError, UsageError
from edgekit.workflows.auto import planned
from edgekit.workflows.searching.material import halves

_DIGITS = Path(__file__).parents[2] / "examples" / "digits"
_MODEL, _CALIBRATION, _TEST = (_DIGITS / name for name in ("model.tflite", "calibration.npz", "test.npz"))


def auto(output, **options):
    given = {"max_drop": 3, "calibration": _CALIBRATION, **options}
    return edgekit.auto_quantize(_MODEL, output, _TEST, **given)


def words(output, *more):
    return [
        "quantize", str(_MODEL), "-o", str(output), "--auto", "--calibration", str(_CALIBRATION),
        "--evaluate", str(_TEST), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    output = tmp_path_factory.mktemp("auto") / "out.tflite"
    return auto(output, workers=2), output


@pytest.mark.slow
def test_the_output_is_what_was_tried_and_judged(found):
    result, output = found
    assert result.artifact.path == output
    assert edgekit.open_artifact(output).sha256 == result.winner.document["sha256"]
    assert output.read_bytes() == result.winner.model.read_bytes()
    fitting = [one for one in result.tried if one.is_done and one.drop <= 0.03]
    smallest = min(one.document["size_bytes"] for one in fitting)
    assert result.winner.document["size_bytes"] <= smallest * 1.01
    assert output.stat().st_size < 15_000 < _MODEL.stat().st_size


@pytest.mark.slow
def test_the_judging_half_had_no_say(found):
    result, output = found
    with np.load(_TEST) as arrays:
        first, second = halves(arrays["y"], 0)
    assert result.winner.document["n"] == len(first)
    judged = edgekit.before_and_after(_MODEL, output, edgekit.open_dataset(_TEST).subset(second))
    assert result.judged.drop.n == len(second)
    assert (result.judged.drop.broken, result.judged.drop.fixed) == (judged.drop.broken, judged.drop.fixed)
    searched = edgekit.before_and_after(_MODEL, output, edgekit.open_dataset(_TEST).subset(first))
    assert result.winner.document["drop"] == searched.drop.drop


@pytest.mark.slow
def test_the_lineage_is_one_of_what_the_user_gave(found):
    _, output = found
    lineage = json.loads(output.with_name("out.tflite.json").read_text())
    assert lineage["source_path"] == "model.tflite"
    assert lineage["source_sha256"] == edgekit.open_artifact(_MODEL).sha256
    calibration = edgekit.open_dataset(_CALIBRATION)
    if lineage["calibration"] is not None:
        assert lineage["calibration"]["data"] == str(_CALIBRATION)
        assert lineage["calibration"]["sha256"] == calibration.digest()


@pytest.mark.slow
def test_a_second_time_everything_is_kept(found, tmp_path):
    result, output = found
    seen = []
    again = auto(output, overwrite=True, report=seen.append)
    assert all(one.was_kept for one in again.tried)
    assert [one.key for one in again.tried] == [one.key for one in result.tried]
    assert again.winner.number == result.winner.number
    assert "EK581" in {finding.code for finding in again.findings}
    assert len(seen) == len({one.key for one in again.tried})


@pytest.mark.slow
def test_a_drop_beyond_the_limit_writes_nothing(found, tmp_path, capsys, monkeypatch):
    """A rise of 20 points is asked for, which no file has: that is known on 300 samples."""
    import shutil

    _, output = found
    target = tmp_path / "out.tflite"
    shutil.copytree(output.with_name("out.tflite.trials"), tmp_path / "out.tflite.trials")
    code = run(words(target, "--max-drop", "-20", "--json"))
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, edgekit.schema("quantize"))
    assert code == 1
    assert not target.exists()
    result = document["result"]
    assert result["judged"]["verdict"] == "fail"
    assert Path(result["artifact"]["path"]).parent.name == "out.tflite.trials"
    assert {"EK582", "EK584"} <= {finding["code"] for finding in document["findings"]}
    winner = result["tried"][result["winner"] - 1]
    assert winner["drop"] == min(one["drop"] for one in result["tried"] if one["status"] == "done")


@pytest.mark.slow
def test_the_command_prints_a_table_and_its_verdict(found, tmp_path, capsys):
    _, output = found
    code = run(words(output, "--max-drop", "3", "--overwrite"))
    out, err = capsys.readouterr()
    verdict = {0: "PASS", 6: "INCONCLUSIVE"}[code]
    assert out.rstrip().endswith(f"the limit of 3 points: {verdict}")
    assert "winner" in out
    assert "drop, 95% interval" in out
    assert "trial 1: float16" in err


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_done(tmp_path):
    output = tmp_path / "out.tflite"
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", *words(output, "--max-drop", "3")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    kept = output.with_name("out.tflite.trials")
    until = time.monotonic() + 120
    while len(list(kept.glob("*.trial.json"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not output.exists()
    before = len(list(kept.glob("*.trial.json")))
    assert before >= 2
    result = auto(output)
    assert sum(one.was_kept for one in result.tried) >= before


@pytest.mark.slow
def test_without_time_the_result_is_what_there_is(tmp_path):
    with pytest.raises(edgekit.EdgekitError, match="The time was over"):
        auto(tmp_path / "out.tflite", time_budget_s=0.0)


def test_the_plan_says_what_is_first_and_on_what(tmp_path, capsys):
    plan = planned(_MODEL, tmp_path / "out.tflite", _TEST, calibration=_CALIBRATION)
    assert (plan["searched"], plan["judged"]) == (300, 300)
    assert "static_wi4_ai8" in plan["first"]
    assert "medium" in plan["knobs"]["effort"]
    code = run(words(tmp_path / "out.tflite", "--max-drop", "0.5", "--dry-run", "--json"))
    document = json.loads(capsys.readouterr().out)
    assert code == 0
    jsonschema.validate(document, edgekit.schema("quantize"))
    assert document["result"]["plan"]["searched"] == 300
    assert list(tmp_path.iterdir()) == []


def test_other_samples_may_judge(tmp_path):
    with np.load(_TEST) as arrays:
        np.savez(tmp_path / "judge.npz", x=arrays["x"][:100], y=arrays["y"][:100])
    plan = planned(
        _MODEL, tmp_path / "o.tflite", _TEST, judge=tmp_path / "judge.npz", calibration=_CALIBRATION
    )
    assert (plan["searched"], plan["judged"]) == (600, 100)
    with pytest.raises(UsageError, match="the same samples"):
        planned(_MODEL, tmp_path / "o.tflite", _TEST, judge=_TEST, calibration=_CALIBRATION)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UsageError, match="knows no drop"):
        auto(tmp_path / "o.tflite", metric="snr")
    (tmp_path / "o.tflite").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        auto(tmp_path / "o.tflite")
    np.savez(tmp_path / "unlabelled.npz", x=np.zeros((4, 8, 8, 1), np.float32))
    with pytest.raises(UsageError, match="no labels"):
        edgekit.auto_quantize(_MODEL, tmp_path / "p.tflite", tmp_path / "unlabelled.npz", max_drop=1)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "--max-drop"),
        (["--max-drop", "1", "-r", "int8"], "--recipe is what --auto searches for"),
        (["--max-drop", "1", "--effort", "low"], "--effort"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, capsys, more, said):
    assert run(words(tmp_path / "o.tflite", *more)) == 2
    assert said in capsys.readouterr().err


def test_options_of_auto_need_it(tmp_path, capsys):
    assert run(["quantize", str(_MODEL), "-o", str(tmp_path / "o.tflite"), "--objective", "size"]) == 2
    assert "--objective belongs to --auto" in capsys.readouterr().err
