import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.cli._group import run
from edgekit.cli.benchmark import histogram
from edgekit.measurement import Measurement, Record


def document(capfd, arguments):
    code = run([*arguments, "--json"])
    return code, json.loads(capfd.readouterr().out)


def test_json_of_one_model(capfd, dense_onnx):
    code, found = document(capfd, ["benchmark", str(dense_onnx), "--runs", "20", "--warmup", "3"])
    assert code == 0
    assert (found["command"], found["status"]) == ("benchmark", "ok")
    assert found["result"]["latency_ms"]["runs"] == 20
    assert found["result"]["model_size_bytes"] == dense_onnx.stat().st_size


def test_json_of_two_models_has_ratios(capfd, dense_onnx):
    code, found = document(
        capfd, ["benchmark", str(dense_onnx), str(dense_onnx), "--runs", "10", "--warmup", "1"]
    )
    assert code == 0
    assert len(found["result"]["models"]) == 2
    assert set(found["result"]["ratios"][0]) == {"candidate", "baseline", "median_ratio", "ci95"}


def test_table_for_people(capfd, dense_onnx):
    assert run(["benchmark", str(dense_onnx), str(dense_onnx), "--runs", "10", "--warmup", "1"]) == 0
    out = capfd.readouterr().out
    assert "median" in out
    assert "10 runs, onnxruntime, " in out
    assert "times as long as dense.onnx (95%:" in out


def test_devices_share_one_table_with_those_that_fail(capfd, dense_onnx):
    where = ["--device", "null", "--device", "local"]
    assert run(["benchmark", str(dense_onnx), *where, "--runs", "10", "--warmup", "1"]) == 5
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert [line[0] for line in lines if line[:2] == ["device", "model"]] == ["device"]
    assert ["null", "failed"] in lines
    assert [line[:2] for line in lines if line[:1] == ["local"]] == [["local", "dense.onnx"]]


def test_noise_decides_only_when_asked(capfd, dense_onnx):
    # Three runs are never enough for a verdict, on any machine.
    arguments = ["benchmark", str(dense_onnx), "--runs", "3", "--warmup", "1"]
    code, found = document(capfd, arguments)
    assert (code, found["status"]) == (0, "ok")
    assert "EK504" in {finding["code"] for finding in found["findings"]}
    code, found = document(capfd, [*arguments, "--require-stable"])
    assert (code, found["status"]) == (6, "inconclusive")
    assert found["result"]["noise"]["verdict"] == "unknown"


def test_save_keeps_every_value_and_refuses_to_replace(capfd, tmp_path, dense_onnx):
    out = tmp_path / "raw.json"
    arguments = ["benchmark", str(dense_onnx), "--runs", "15", "--warmup", "2", "--save", str(out)]
    assert run(arguments) == 0
    assert len(Record.read(out).models[0][1].values) == 15
    assert run(arguments) == 2
    assert run([*arguments, "--overwrite"]) == 0
    assert "EK602" in capfd.readouterr().err


def test_dry_run_measures_nothing(capfd, tmp_path, dense_onnx):
    out = tmp_path / "raw.json"
    code, found = document(
        capfd, ["benchmark", str(dense_onnx), "--dry-run", "--save", str(out), "--runs", "5"]
    )
    assert code == 0
    assert "onnxruntime" in found["result"]["steps"][0]
    assert "5 runs" in found["result"]["steps"][0]
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.onnx"], 7, "missing.onnx"),
        (["MODEL", "--runtime", "onnxruntim"], 2, "Did you mean onnxruntime?"),
        (["MODEL", "--runtime", "litert"], 2, "does not open"),
        (["MODEL", "--warmup", "some"], 2, "some"),
        (["MODEL", "--runs", "0"], 2, "at least 1"),
        (["MODEL", "--save", "no/such/folder.json"], 2, "does not exist"),
        (["MODEL", "--data", "missing.npz"], 7, "missing.npz"),
        ([], 2, "MODEL"),
    ],
)
def test_wrong_use_is_one_sentence(capfd, dense_onnx, arguments, code, words):
    given = [str(dense_onnx) if word == "MODEL" else word for word in arguments]
    assert run(["benchmark", *given]) == code
    captured = capfd.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert "Traceback" not in captured.err


def test_as_a_program(dense_onnx):
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", "benchmark", str(dense_onnx), "--runs", "10", "--json"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["latency_ms"]["runs"] == 10
    assert done.stderr == ""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_process(tmp_path, dense_onnx, signal_number):
    out = tmp_path / "raw.json"
    command = [sys.executable, "-m", "edgekit", "benchmark", str(dense_onnx), str(dense_onnx)]
    process = subprocess.Popen(
        [*command, "--max-seconds", "60", "--save", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len(members(process.pid)) == 4)  # itself, the probe and two workers
        os.killpg(process.pid, signal_number)  # the whole group, as a terminal does
        code = process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert code == 130 if signal_number == signal.SIGINT else code != 0
    wait_until(lambda: not members(process.pid))
    assert list(tmp_path.iterdir()) == []


def members(session):
    """The living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_histogram_of_known_values():
    latency = Measurement("latency", "ns", ((1e6,) * 16 + (2e6,) * 4,))
    # Heights are square roots: 4 runs stand half as high as 16.
    assert histogram(latency, width=2) == "1.00 █▄ 2.00 ms"
    assert histogram(Measurement("latency", "ns", ((1e6, 1e6),))) == "1.00 █ 1.00 ms"
