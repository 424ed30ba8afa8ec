"""A training that is killed, interrupted, or runs into NaN or a full disk: nothing half written, and a way on."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit import training_process
from edgekit.cli._group import run

pytestmark = pytest.mark.slow
# Enough that the training still goes on when the test has seen its first epoch.
_EPOCHS = 8


def _samples(path: Path, count: int = 1000) -> Path:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, count)
    pictures = generator.random((count, 8, 8, 1), np.float32) * 0.5 + labels[:, None, None, None] * 0.05
    np.savez(path, x=pictures.astype(np.float32), y=labels)
    return path


def _command(model: Path, output: Path, data: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "edgekit", "qat", str(model), "-o", str(output), "--train", str(data)),
        *("--validation", str(data), "--epochs", str(_EPOCHS), "--batch-size", "16", *more),
    ]


def _weights(path: Path) -> list[np.ndarray]:
    """All weights in the file, by what h5py reads; the archive's own dates differ."""
    import io
    import zipfile

    import h5py

    found = []
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(
            lambda _name, item: found.append(item[()]) if isinstance(item, h5py.Dataset) else None
        )
    return found


def _child_of(parent: int) -> int:
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True, check=True
    )
    lines = [line.split(None, 1) for line in found.stdout.splitlines()]
    return next(int(pid) for pid, words in lines if "edgekit.train" in words)


def _wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None, "it ended before its first epoch"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_training_goes_on_to_the_same_weights(models, tmp_path):
    data, other = _samples(tmp_path / "train.npz"), _samples(tmp_path / "other.npz", 200)
    whole, resumed = tmp_path / "whole.keras", tmp_path / "resumed.keras"
    options = ("--early-stopping", "3")
    # The whole training is the second of its process, which keeps nothing of the first that would show.
    edgekit.qat(models.keras_cnn, tmp_path / "other.keras", train_data=other, epochs=1, seed=7)
    kept = list(training_process._waiting)
    assert kept
    assert run(_command(models.keras_cnn, whole, data, *options)[3:]) == 0
    assert training_process._waiting == kept
    process = subprocess.Popen(_command(models.keras_cnn, resumed, data, *options), stderr=subprocess.PIPE)
    _wait_for(tmp_path / ".resumed.keras.training" / "epoch.npz", process)
    os.kill(_child_of(process.pid), signal.SIGKILL)
    _out, err = process.communicate()
    assert process.returncode != 0
    assert b"EK732" in err
    assert b"--resume" in err
    assert not resumed.exists()

    done = subprocess.run(
        _command(models.keras_cnn, resumed, data, *options, "--resume", "--json"),
        check=True,
        capture_output=True,
    )

    document = json.loads(done.stdout)
    assert "EK729" in [finding["code"] for finding in document["findings"]]
    for one, other in zip(_weights(whole), _weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not (tmp_path / ".resumed.keras.training").exists()


def test_ctrl_c_leaves_no_half_file_and_says_how_to_go_on(models, tmp_path):
    data, output = _samples(tmp_path / "train.npz"), tmp_path / "out.keras"
    process = subprocess.Popen(_command(models.keras_cnn, output, data), stderr=subprocess.PIPE)
    _wait_for(tmp_path / ".out.keras.training" / "epoch.npz", process)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate()
    assert process.returncode == 130
    assert b"--resume" in err
    assert b"Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.keras.training", "train.npz"]
    assert [path.name for path in (tmp_path / ".out.keras.training").iterdir()] == ["epoch.npz"]


def test_nan_in_the_first_epoch_is_refused(models, tmp_path, capfd):
    data = _samples(tmp_path / "train.npz", 200)
    words = _command(models.keras_cnn, tmp_path / "out.keras", data, "--learning-rate", "1e30")
    assert run([*words[3:], "--optimizer", "sgd"]) not in (0, 1)
    assert "EK731" in capfd.readouterr().err
    assert not (tmp_path / "out.keras").exists()


def test_a_disk_that_is_full_at_a_checkpoint_is_told_in_a_sentence(models, tmp_path):
    data = _samples(tmp_path / "train.npz", 200)

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, 16 << 10))

    done = subprocess.run(
        _command(models.keras_cnn, tmp_path / "out.keras", data),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=bounded,
    )
    assert done.returncode not in (0, 1)
    assert "epoch.npz" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.keras").exists()
    assert not list(tmp_path.rglob("*.part"))
