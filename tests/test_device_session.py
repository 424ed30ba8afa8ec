"""A model on a device gives what it gives here, also when the worker or the link dies in between."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from edgekit import device_session
from edgekit.device import Device
from edgekit.device_session import DeviceSession, start_worker
from edgekit.errors import DeviceError, ModelError, UsageError
from edgekit.formats import open_artifact
from edgekit.runtimes import open_session
from edgekit.shell import Shell
from edgekit.transports import Limits


@pytest.fixture
def shell():
    with Shell(Device("here", "local"), Limits(patience_s=5)) as shell:
        yield shell


def samples(artifact, count):
    generator = np.random.default_rng(0)
    return {
        spec.name: generator.random((count, *[size or 1 for size in spec.shape[1:]]), np.float32)
        for spec in artifact.inputs
    }


@pytest.mark.parametrize("name", ["tflite_cnn", "tflite_cnn_int8", "tflite_cnn_dynamic_batch"])
def test_outputs_are_those_of_this_machine(shell, models, name):
    artifact = open_artifact(getattr(models, name))
    inputs = samples(artifact, 37)
    expected = open_session(artifact).run(inputs)
    with DeviceSession(shell, artifact) as session:
        found = session.run(inputs)
        session.close()
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_array_equal(found[key], values)


def test_a_link_that_dies_costs_no_sample(shell, dense_onnx):
    artifact = open_artifact(dense_onnx)
    inputs = samples(artifact, 50)
    with DeviceSession(shell, artifact) as session:
        first = session.run({"x": inputs["x"][:20]})
        # What a dead link leaves behind: a channel that ends without the worker's last line.
        stream = session._worker._stream
        for pid in (stream.channel.pid, stream.pid):
            os.kill(pid, signal.SIGKILL)
        second = session.run({"x": inputs["x"][20:]})
        session.close()
    assert session.reconnections == 1
    np.testing.assert_allclose(
        np.concatenate([first["y"], second["y"]]), inputs["x"] @ np.ones((4, 3)), rtol=1e-6
    )


def test_a_device_that_answers_nothing_is_an_error(dense_onnx):
    with (
        pytest.raises(DeviceError) as caught,
        Shell(Device("nothing", "null"), Limits(patience_s=0)) as shell,
    ):
        DeviceSession(shell, open_artifact(dense_onnx))
    assert caught.value.code == "EK804"


def test_a_model_that_is_refused_leaves_no_worker(shell, dense_onnx, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(
        device_session, "start_worker", lambda *args: started.append(start_worker(*args)) or started[-1]
    )
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelError):
        DeviceSession(shell, open_artifact(dense_onnx), path=str(broken))
    assert len(started) == 1
    environment = Path("/proc", str(started[0].pid), "environ")
    # What is left of an ended process until its parent asks has no environment.
    assert not environment.exists() or not environment.read_bytes()


def test_a_runtime_must_open_the_format(shell, dense_onnx):
    artifact = open_artifact(dense_onnx)
    with pytest.raises(UsageError, match=r"litert opens dense\.onnx"):
        DeviceSession(shell, artifact, runtime="litert")
