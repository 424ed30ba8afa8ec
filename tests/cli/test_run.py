"""``edgekit run`` as a user runs it: the table, the document, exit codes, and a kill in the middle of a training."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

import edgekit as package

_DIGITS = Path(__file__).parents[2] / "examples" / "digits"
_RECIPE = """
[recipe]
schema = 1
model = "model.tflite"
[data]
calibration = "calibration.npz"
test = "test.npz"
[[step]]
do = "quantize"
[[step]]
do = "evaluate"
[[step]]
do = "benchmark"
input = ["source", "quantize"]
max_seconds = 0.3
[check]
max_drop = 0.03
"""


@pytest.fixture
def folder(tmp_path):
    for file in _DIGITS.glob("*.*"):
        shutil.copy(file, tmp_path)
    (tmp_path / "recipe.toml").write_text(_RECIPE)
    return tmp_path


@pytest.fixture
def edgekit(folder):
    def start(*arguments):
        command = [sys.executable, "-m", "edgekit", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)

    return start


@pytest.mark.slow
def test_a_run_is_planned_done_and_shown(edgekit, folder):
    planned = edgekit("run", "recipe.toml", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "was not done before" in planned.stdout
    assert not (folder / "recipe.run").exists()
    done = edgekit("run", "recipe.toml", "--html", "run.html")
    assert done.returncode == 0, done.stderr
    assert "step 2 of 4: evaluate" in done.stderr
    assert "quantize top1 98." in done.stdout
    assert done.stdout.rstrip().endswith("OK")
    assert "<html" in (folder / "run.html").read_text()
    again = edgekit("run", "recipe.toml", "--json", "--set", "check.size_bytes=1000")
    assert again.returncode == 1
    document = json.loads(again.stdout)
    jsonschema.validate(document, package.schema("run"))
    assert document["status"] == "failed"
    assert [step["status"] for step in document["result"]["steps"]] == ["cached", "cached", "cached", "done"]
    planned = edgekit("run", "recipe.toml", "--json", "--dry-run")
    jsonschema.validate(json.loads(planned.stdout), package.schema("run"))


def test_a_wrong_recipe_is_one_sentence(edgekit, folder):
    done = edgekit("run", "recipe.toml", "--set", "quantize.recipe=int9")
    assert done.returncode == 2
    assert "int9" in done.stderr
    assert "Traceback" not in done.stderr
    assert edgekit("run", "recipe.toml", "--set", "quantize").returncode == 2
    assert edgekit("run", "none.toml").returncode == 2


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_after_its_last_epoch(folder):
    text = '[recipe]\nschema = 1\nmodel = "model.keras"\n[data]\ncalibration = "calibration.npz"\n'
    text += (
        'train = "test.npz"\nvalidation = "calibration.npz"\ntest = "test.npz"\n[[step]]\ndo = "quantize"\n'
    )
    text += '[[step]]\ndo = "qat"\ninput = "source"\nepochs = 8\nbatch_size = 16\n[[step]]\ndo = "evaluate"\n'
    (folder / "recipe.toml").write_text(text)
    command = [sys.executable, "-m", "edgekit", "run", "recipe.toml", "--json"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    kept = folder / "recipe.run" / "qat" / ".qat.keras.training" / "epoch.npz"
    deadline = time.monotonic() + 240
    while not kept.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert kept.exists()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "recipe.run" / "qat" / "step.json").exists()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    quantize, qat, evaluate = document["result"]["steps"]
    assert [quantize["status"], qat["status"], evaluate["status"]] == ["cached", "done", "done"]
    assert "EK729" in {finding["code"] for finding in qat["findings"]}
    assert len(qat["result"]["epochs"]) == 8
    assert qat["tflite"]["size_bytes"] < 40_000
    assert evaluate["measured"][0]["input"] == "qat"
    assert evaluate["measured"][0]["value"] > 0.9
