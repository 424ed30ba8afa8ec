"""``edgekit quantize`` on the command line: what it prints, what it leaves behind, how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli._group import run


def edgekit(*arguments):
    return [sys.executable, "-m", "edgekit", *map(str, arguments)]


def quantize(models, output, *arguments):
    """Run the command in this process on the small .tflite model."""
    return run(["quantize", str(models.tflite_cnn), "-o", str(output), *map(str, arguments)])


def document(capsys):
    return json.loads(capsys.readouterr().out)


def test_json_document_has_the_fields_of_its_command(models, tmp_path, capsys):
    output = tmp_path / "out.tflite"
    code = quantize(
        models, output, "--calibration", models.train_data, "--evaluate", models.test_data, "--json"
    )
    found = document(capsys)
    assert code == 0
    assert (found["command"], found["status"], found["schema_version"]) == ("quantize", "ok", 1)
    result = found["result"]
    assert result["artifact"]["size_bytes"] == output.stat().st_size
    assert result["artifact"]["format"] == "tflite"
    assert result["source"]["size_bytes"] == models.tflite_cnn.stat().st_size
    assert result["recipe"] == "static_wi8_ai8"
    assert result["ops"]["total"] == result["ops"]["quantized"] + result["ops"]["float"]
    evaluation = result["evaluation"]
    assert evaluation["n"] == 597
    assert evaluation["drop"] == pytest.approx(evaluation["before"] - evaluation["after"])
    assert evaluation["drop"] * evaluation["n"] == pytest.approx(evaluation["broken"] - evaluation["fixed"])
    low, high = evaluation["drop_ci95"]
    assert low <= evaluation["drop"] <= high


def test_people_see_both_accuracies_and_the_next_step(models, tmp_path, capsys):
    data = ["--calibration", models.train_data, "--evaluate", models.test_data]
    code = quantize(models, tmp_path / "out.tflite", "-r", "dynamic", *data)
    out, err = capsys.readouterr()
    assert code == 0
    assert "before" in out
    assert "points" in out
    assert "next: edgekit benchmark" in err


def test_dry_run_prints_the_plan_and_writes_nothing(models, tmp_path, capsys):
    code = quantize(models, tmp_path / "out.tflite", "--dry-run", "--json")
    plan = document(capsys)["result"]
    assert code == 0
    assert [candidate["engine"] for candidate in plan["candidates"]] == ["ai_edge_quantizer"]
    assert "tensorflow" in plan["refused"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-r", "itn8"], 2, "Did you mean int8"),
        (["-r", "int8"], 2, "needs calibration data"),
        (["--engine", "tensroflow"], 2, "Did you mean tensorflow"),
        (["--batch", "zero"], 2, "neither a number"),
        (["--keep-float", "("], 2, "not a regular expression"),
        (["--calibration", "nowhere.npz"], 7, "nowhere.npz"),
    ],
)
def test_wrong_use_ends_in_one_sentence(models, tmp_path, capsys, arguments, code, said):
    assert quantize(models, tmp_path / "o.tflite", *arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_output_folder_must_exist(models, tmp_path, capsys):
    code = quantize(models, tmp_path / "no" / "o.tflite", "-r", "dynamic")
    assert code == 2
    assert "mkdir -p" in capsys.readouterr().err


def test_pickled_arrays_are_refused(models, tmp_path, capsys):
    data = tmp_path / "pickled.npz"
    np.savez(data, x=np.array([{"a": 1}, None], dtype=object))
    code = quantize(models, tmp_path / "o.tflite", "--calibration", data)
    assert code == 7
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "o.tflite").exists()


def _children(pid):
    """The processes below one, by pid."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *_children(int(child))]
    return found


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds children through /proc")
def test_ctrl_c_leaves_no_file_and_no_process(models, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    output = tmp_path / "out.tflite"
    output.write_bytes(b"what was there")
    process = subprocess.Popen(
        edgekit(
            "quantize", models.keras_cnn, "-o", output, "--overwrite", "--calibration", models.train_data
        ),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    deadline = time.monotonic() + 60
    while not (children := _children(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children, "TensorFlow's process was not started"
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert output.read_bytes() == b"what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.tflite", "temporary"]
    assert list(temporary.iterdir()) == []
    time.sleep(0.5)
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk_ends_in_one_sentence(models, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not allow to mount a tmpfs")
    try:
        full = subprocess.run(
            edgekit("quantize", models.tflite_cnn, "-o", disk / "out.tflite", "-r", "float16"),
            capture_output=True,
            text=True,
            check=False,
        )
        left = list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert full.returncode == 2
    assert "The disk is full" in full.stderr
    assert "Traceback" not in full.stderr
    assert left == []
