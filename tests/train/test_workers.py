"""Several processes that share each batch train as one does, and none waits for ever."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

import edgekit
from edgekit.errors import ModelError, UsageError
from edgekit.train.job import Job

# Workers without their parents, which would throw their weights away.
_SCRIPT = """
import sys
from edgekit.train.job import Job
from edgekit.train.run import run
for text in sys.argv[1:]:
    run(Job.from_json(text), lambda event: None)
"""
_PRUNING = {
    "structured": False,
    "exclude": [],
    "sparsity": 0.5,
    "schedule": "polynomial",
    "pattern": "unstructured",
}
_PRUNING |= {"begin_step": 0, "end_step": None, "frequency": 3, "layers": {}, "sparse_encoding": False}
_SHARED = {"batch_size": 16, "strategy": "multiworker"}


@pytest.fixture
def given(tmp_path):
    """A model without batch normalization and dropout, with a momentum; 59 samples, so that the last batch is small."""
    import keras

    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 59)
    x = (generator.normal(size=(59, 8, 8, 1)) + y[:, None, None, None]).astype(np.float32)
    np.savez(tmp_path / "train.npz", x=x, y=y)
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    return tmp_path


def _cluster(count):
    """The environment of each worker of a new cluster."""
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{holder.getsockname()[1]}" for holder in holders]
    for holder in holders:
        holder.close()
    shared = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "",
        "EDGEKIT_WORKERS_DEADLINE_S": "200",
    }
    for index in range(count):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        yield {**shared, "TF_CONFIG": json.dumps(config)}


def _together(commands):
    """What the processes print, after all have ended well."""
    environments = _cluster(len(commands))
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, environment in zip(commands, environments, strict=True)
    ]
    try:
        ended = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_out, error) in zip(started, ended, strict=True):
        assert process.returncode == 0, error
    return ended


def _weights(path):
    import keras

    return keras.models.load_model(path).get_weights()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of Keras and TensorFlow, as in the process that trains
def test_three_workers_go_on_where_one_was_interrupted_and_train_as_one_does(given):
    from edgekit.train.run import run

    data, output = str(given / "train.npz"), given / "out.keras"
    job = Job("prune", str(given / "model.keras"), str(output), data, 3, validation=data, options=_PRUNING)
    job = replace(job, batch_size=16)
    alone = replace(job, output=str(given / "one.keras"))

    def keep_the_first(event):
        if event["event"] == "epoch" and event["epoch"] == 1:
            shutil.copytree(alone.checkpoints, job.checkpoints)

    one = run(alone, keep_the_first)
    words = ["-m", "edgekit", "prune", job.model, "-o", output, "--train", data, "--validation", data]
    words += ["--epochs", "3", "--batch-size", "16", "--frequency", "3", "--no-benchmark"]
    words += ["--csv", given / "log.csv", "--strategy", "multiworker", "--resume", "--json"]
    third = replace(job, output=str(given / "third" / "out.keras"), strategy="multiworker")
    (given / "third").mkdir()
    ended = _together([words, words, ["-c", _SCRIPT, third.to_json()]])

    documents = [json.loads(out) for out, _error in ended[:2]]
    for document in documents:
        jsonschema.validate(document, edgekit.schema("prune"))
    chief, worker = (document["result"] for document in documents)
    assert [epoch["epoch"] for epoch in chief["epochs"]] == [1, 2, 3]
    for ours, single in zip(chief["epochs"], one["epochs"], strict=True):
        assert ours["numbers"] == pytest.approx(single["numbers"], rel=1e-4)
    assert [epoch["numbers"] for epoch in worker["epochs"]] == [epoch["numbers"] for epoch in chief["epochs"]]
    weights = _weights(output)
    for ours, others, single in zip(weights, _weights(third.output), _weights(alone.output), strict=True):
        np.testing.assert_array_equal(ours, others)
        np.testing.assert_allclose(ours, single, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(ours == 0, single == 0)
    assert worker["report"]["kernels"] == chief["report"]["kernels"]
    assert sum(int((array == 0).sum()) for array in weights) == 234
    # The chief alone writes and tells.
    assert chief["artifact"]["path"] == str(output)
    assert worker["artifact"] is None
    for document in documents:
        assert {"EK729", "EK789"} <= {found["code"] for found in document["findings"]}
    assert {path.name for path in given.glob("*out*")} | {"log.csv"} == {
        "out.keras",
        "out.keras.json",
        "log.csv",
    }
    assert (given / "log.csv").read_text().count("\n") == 3


@pytest.mark.slow
def test_ranges_are_the_means_of_what_both_workers_saw(given):
    import keras

    from edgekit.train.fake_quant import FakeQuant

    options = {"weight_bits": 8, "activation_bits": 8, "exclude": []}
    files = {name: str(given / f"{name}.keras") for name in ("model", "chief", "other")}
    jobs = [
        Job("qat", files["model"], files[name], str(given / "train.npz"), 1, options=options, **_SHARED)
        for name in ("chief", "other")
    ]
    _together([["-c", _SCRIPT, job.to_json()] for job in jobs])

    for ours, others in zip(_weights(files["chief"]), _weights(files["other"]), strict=True):
        np.testing.assert_array_equal(ours, others)
    with np.load(given / "train.npz") as arrays:
        x = arrays["x"][np.random.default_rng(0).permutation(59)]
    expected = None
    for batch in np.split(x, [16, 32, 48]):
        parts = batch[::2], batch[1::2]
        seen = np.array([np.mean([part.min() for part in parts]), np.mean([part.max() for part in parts])])
        expected = seen if expected is None else expected + 0.05 * (seen - expected)
    model = keras.models.load_model(files["chief"])
    first = next(layer for layer in model.layers if isinstance(layer, FakeQuant))
    np.testing.assert_allclose([np.asarray(first.low), np.asarray(first.high)], expected, rtol=1e-5)


@pytest.mark.slow
def test_a_chief_that_nobody_joins_ends_with_a_sentence(given, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", next(_cluster(2))["TF_CONFIG"])
    monkeypatch.setenv("EDGEKIT_WORKERS_DEADLINE_S", "1")
    data = given / "train.npz"
    with pytest.raises(ModelError, match="Worker 0 of 2 waited 1 seconds for the others") as caught:
        edgekit.qat(
            given / "model.keras", given / "out.keras", train_data=data, epochs=1, strategy="multiworker"
        )
    assert caught.value.code == "EK788"
    assert sorted(path.name for path in given.iterdir()) == ["model.keras", "train.npz"]


def test_what_several_workers_cannot_train_is_refused(tmp_path):
    with pytest.raises(UsageError, match="does not train on several workers") as caught:
        edgekit.prune(
            "model.keras",
            tmp_path / "out.keras",
            train_data="train.npz",
            structured=True,
            target_macs=0.5,
            strategy="multiworker",
        )
    assert caught.value.code == "EK739"
