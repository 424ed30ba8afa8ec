"""Workers: results in order, errors as they are, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from edgekit.answering import Job, Speed, answers
from edgekit.data import Batch, open_dataset
from edgekit.errors import DataError, ModelError
from edgekit.formats import open_artifact
from edgekit.sample_digests import digest_samples

_RUNTIMES = """
import os, signal, time
import numpy as np
from edgekit.artifact import Format

FORMATS = tuple(Format)
FAULT = os.environ.get("ODD_RUNTIME", "echo")


class Session:
    def run(self, inputs):
        values = next(iter(inputs.values()))
        if FAULT == "crash":
            print("the runtime's last words", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if FAULT == "hang":
            time.sleep(1000)
        if FAULT == "shuffle":
            time.sleep(float(values.sum()) % 7 / 200)
        if FAULT == "large":
            return {"classes": np.repeat(values.reshape(len(values), -1)[:, :1], 200_000, axis=1)}
        return {"classes": values.reshape(len(values), -1)}

    def close(self):
        pass


def open(artifact, *, threads=1):
    if FAULT == "refuse":
        from edgekit.errors import ModelError
        raise ModelError("EK410", "It does not load.", "Try another.", detail="raw text")
    if FAULT == "start":
        os._exit(3)
    return Session()
"""


@pytest.fixture(scope="session")
def odd_folder(tmp_path_factory):
    """A plug-in runtime ``odd`` that does what the variable ODD_RUNTIME says."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd_runtime.py").write_text(_RUNTIMES)
    info = folder / "odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgekit.runtimes]\nodd = odd_runtime\n")
    return folder


@pytest.fixture
def run_odd(models, tmp_path, odd_folder, monkeypatch):
    def run(fault, count=50, **options):
        monkeypatch.setenv("ODD_RUNTIME", fault)
        monkeypatch.setenv("PYTHONPATH", str(odd_folder))
        np.savez(
            tmp_path / "d.npz", x=np.random.default_rng(0).random((count, 8, 8, 1)), y=np.zeros(count, int)
        )
        artifact = open_artifact(models.tflite_cnn)
        data = open_dataset(tmp_path / "d.npz").bind(artifact.inputs)
        return list(answers(Job(artifact, data.preparation, "top1", "odd"), data, **options))

    return run


def children():
    return subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "edgekit.answering.worker"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("fault", ["echo", "shuffle", "large"])
def test_results_come_in_the_order_of_the_samples(run_odd, fault, workers):
    results = run_odd(fault, workers=workers)
    firsts = [result.first for result in results]
    assert firsts == sorted(firsts)
    assert sum(result.count for result in results) == 50
    assert not children()


def test_one_worker_and_three_give_the_same_rows(models):
    artifact = open_artifact(models.tflite_cnn_int8)
    data = open_dataset(models.test_data).bind(artifact.inputs)
    job = Job(artifact, data.preparation, "top1")
    rows = [np.concatenate([r.rows for r in answers(job, data, workers=count)]) for count in (1, 3)]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert len(rows[0]) == 597


def test_speed_counts_from_when_the_workers_are_ready(models):
    artifact = open_artifact(models.tflite_cnn)
    data = open_dataset(models.test_data).bind(artifact.inputs)
    speed = Speed()
    began = time.perf_counter()
    list(answers(Job(artifact, data.preparation, "top1"), data, workers=2, speed=speed))
    assert 0 < speed.seconds < time.perf_counter() - began
    assert speed.workers == 2


def test_there_are_no_more_workers_than_samples(models):
    artifact = open_artifact(models.tflite_cnn)
    data = open_dataset(models.test_data).subset([3]).bind(artifact.inputs)
    speed = Speed()
    list(answers(Job(artifact, data.preparation, "top1"), data, workers=8, speed=speed))
    assert speed.workers == 1


def test_a_large_model_gets_as_many_workers_as_memory_holds(models, monkeypatch):
    artifact = replace(open_artifact(models.tflite_cnn), size_bytes=100 << 20)
    data = open_dataset(models.test_data).bind(artifact.inputs)
    job = Job(artifact, data.preparation, "top1")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(3)))
    for free, workers in [(64 << 30, 3), (1200 << 20, 2), (100 << 20, 1)]:
        monkeypatch.setattr("edgekit.answering.pool._available_bytes", lambda free=free: free)
        speed = Speed()
        assert sum(result.count for result in answers(job, data, speed=speed)) == 597
        assert speed.workers == workers


@pytest.mark.parametrize("fault", ["crash", "start"])
def test_a_crashed_worker_is_a_model_error(run_odd, fault):
    with pytest.raises(ModelError) as caught:
        run_odd(fault, workers=2)
    assert caught.value.code == "EK416"
    assert ("SIGSEGV" if fault == "crash" else "exit code 3") in caught.value.message
    assert fault == "start" or "the runtime's last words" in caught.value.detail
    assert not children()


def test_a_refused_model_keeps_its_error(run_odd):
    with pytest.raises(ModelError) as caught:
        run_odd("refuse")
    error = caught.value
    assert (error.code, error.message, error.hint, error.detail) == (
        "EK410",
        "It does not load.",
        "Try another.",
        "raw text",
    )


def test_a_hanging_runtime_is_ended(run_odd, monkeypatch):
    monkeypatch.setattr("edgekit.answering.pool._SILENCE_S", 2.0)
    with pytest.raises(ModelError) as caught:
        run_odd("hang", workers=1)
    assert caught.value.code == "EK417"
    assert not children()


def test_bad_samples_are_named_by_their_number(models, tmp_path):
    x = np.zeros((300, 8, 8, 1), np.float32)
    x[217] = np.nan
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros(300, int))
    artifact = open_artifact(models.tflite_cnn)
    data = open_dataset(tmp_path / "d.npz").bind(artifact.inputs)
    with pytest.raises(DataError, match="Sample 217 ") as caught:
        list(answers(Job(artifact, data.preparation, "top1"), data))
    assert caught.value.code == "EK207"


def test_stopping_early_leaves_no_worker(models):
    artifact = open_artifact(models.tflite_cnn)
    data = open_dataset(models.test_data).bind(artifact.inputs)
    results = answers(Job(artifact, data.preparation, "top1"), data)
    next(results)
    results.close()
    assert not children()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_and_sudden_death_leave_no_process(models, odd_folder, tmp_path, sent):
    environment = os.environ | {"PYTHONPATH": str(odd_folder), "ODD_RUNTIME": "hang"}
    arguments = ["evaluate", str(models.tflite_cnn), "--data", str(models.test_data), "--runtime", "odd"]
    saved = tmp_path / "rows.npz"
    command = subprocess.Popen(
        [sys.executable, "-m", "edgekit", *arguments, "--save-predictions", str(saved)],
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    group = os.getpgid(command.pid)
    deadline = time.monotonic() + 30
    while len(_group(group)) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.5)  # the workers now hang in the runtime
    if sent == signal.SIGINT:
        os.killpg(group, sent)  # as a terminal does
    else:
        command.kill()
    command.communicate(timeout=20)
    assert command.returncode == (130 if sent == signal.SIGINT else -9)
    deadline = time.monotonic() + 10
    while _group(group) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _group(group) == []
    assert list(tmp_path.iterdir()) == []


def _group(group):
    return subprocess.run(
        ["pgrep", "-g", str(group)], capture_output=True, text=True, check=False
    ).stdout.split()


def test_digests_tell_samples_apart_and_not_their_position():
    x = np.arange(12, dtype=np.uint8).reshape(3, 4)
    digests = digest_samples(Batch({"x": x}, None, 0))
    assert len(set(digests)) == 3
    np.testing.assert_array_equal(digest_samples(Batch({"x": x[1:]}, None, 9)), digests[1:])
    assert digest_samples(Batch({"x": x.astype(np.int16)}, None, 0))[0] != digests[0]
    # By hand: sha256 of "x |u1 (4,) " and the bytes 0, 1, 2, 3.
    import hashlib

    assert digests[0] == hashlib.sha256(b"x |u1 (4,) \x00\x01\x02\x03").hexdigest()
