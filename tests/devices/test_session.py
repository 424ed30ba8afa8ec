"""A model on a device gives what it gives here, also when the worker or the link dies in between."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from devicelab.processes import wait_until
from faulty_links import QUICK, device_of, failing

from edgekit.devices import session as session_module
from edgekit.devices.device import Device
from edgekit.devices.installed_runtimes import InstalledRuntime, installed, record
from edgekit.devices.installed_runtimes import start_worker as start_there
from edgekit.devices.session import DeviceSession, start_worker
from edgekit.devices.shell import Shell
from edgekit.errors import DependencyError, DeviceError, ModelError, UsageError
from edgekit.formats import open_artifact
from edgekit.runtimes import open_session
from edgekit.transports import Limits
from edgekit.worker_process import WORKER


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
        session_module, "start_worker", lambda *args: started.append(start_worker(*args)) or started[-1]
    )
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelError):
        DeviceSession(shell, open_artifact(dense_onnx), path=str(broken))
    assert len(started) == 1
    # An ended process that nobody has asked for yet has no environment.
    with contextlib.suppress(OSError):
        assert not Path("/proc", str(started[0].pid), "environ").read_bytes()


def test_a_runtime_must_open_the_format(shell, dense_onnx):
    artifact = open_artifact(dense_onnx)
    with pytest.raises(UsageError, match=r"litert opens dense\.onnx"):
        DeviceSession(shell, artifact, runtime="litert")


@pytest.fixture
def far(sshd):
    """The same machine behind an SSH server, with ONNX Runtime set up and a link that can be broken."""
    sshd.access.through_proxy()
    with Shell(device_of(sshd.access), replace(QUICK, patience_s=5)) as shell:
        record(shell, InstalledRuntime("onnxruntime", "1", (sys.executable, str(WORKER))))
        yield shell


def fake_runtime(shell, script, name="onnxruntime"):
    """Set up a runtime whose worker is a small script."""
    record(shell, InstalledRuntime(name, "1", ("/bin/sh", "-c", script)))


def test_outputs_over_a_link_are_those_of_this_machine(sshd, far, dense_onnx):
    artifact = open_artifact(dense_onnx)
    inputs = samples(artifact, 37)
    with DeviceSession(far, artifact) as session:
        found = session.run(inputs)
        session.close()
    np.testing.assert_array_equal(found["y"], open_session(artifact).run(inputs)["y"])
    [model] = (sshd.home / ".edgekit/models").iterdir()
    assert model.read_bytes() == dense_onnx.read_bytes()
    wait_until(lambda: far_workers(sshd) == [], "the end of the worker")


def far_workers(sshd) -> list[int]:
    def is_worker(pid: int) -> bool:
        with contextlib.suppress(OSError):
            return (
                Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"{sys.executable}\0{WORKER}".encode())
            )
        return False

    return [pid for pid in sshd.programs() if is_worker(pid)]


@pytest.mark.parametrize(
    "fault",
    [
        *("cut", "worker killed"),
        *(
            pytest.param(fault, marks=pytest.mark.slow)
            for fault in ("cut on the way back", "session killed", "stall")
        ),
    ],
)
def test_whatever_breaks_costs_no_sample_and_leaves_one_worker(sshd, far, dense_onnx, fault):
    artifact, proxy = open_artifact(dense_onnx), sshd.access.proxy
    inputs = samples(artifact, 600)
    with DeviceSession(far, artifact) as session:
        first = session.run({"x": inputs["x"][:100]})
        timer = None
        if fault == "stall":
            proxy.stall()
            timer = threading.Timer(1.5, proxy.reset_once)
            timer.start()
        elif fault.startswith("cut"):
            proxy.cut_after(300, upwards=fault == "cut")
        elif fault == "session killed":
            sshd.kill_sessions()
        else:
            os.kill(session._worker.pid, signal.SIGKILL)
            # A worker that dies is no broken link: its runtime may have crashed on the model.
            with failing("EK530", within_s=5, kind=ModelError):
                session.run({"x": inputs["x"][100:]})
            return
        second = session.run({"x": inputs["x"][100:]})
        if timer is not None:
            timer.join(10)
        assert session.reconnections >= 1
        wait_until(lambda: len(far_workers(sshd)) == 1, "the end of the worker before")
        session.close()
    np.testing.assert_array_equal(
        np.concatenate([first["y"], second["y"]]), open_session(artifact).run(inputs)["y"]
    )


def test_a_link_that_stays_lost_is_given_up(sshd, far, dense_onnx):
    artifact = open_artifact(dense_onnx)
    far.limits = replace(far.limits, patience_s=0.5)
    with DeviceSession(far, artifact) as session:
        sshd.access.proxy.refuse()
        with failing("EK800", within_s=8):
            session.run(samples(artifact, 10))
    sshd.access.proxy.pass_all()


def test_a_worker_that_crashes_or_is_none(sshd, far, dense_onnx):
    for script, code, kind in (
        ("read -r line; kill -SEGV $$", "EK530", ModelError),
        ("read -r line; kill -ALRM $$", "EK532", ModelError),
        ("read -r line; echo 'no json'; read -r line", "EK535", DeviceError),
        ("read -r line; echo '{}'; read -r line", "EK535", DeviceError),
        ("exit 1", "EK535", DeviceError),
        ("exit 255", "EK535", DeviceError),
        ("exec /opt/python/that/was/removed", "EK533", DependencyError),
        ("exec /", "EK533", DependencyError),
    ):
        fake_runtime(far, script)
        with failing(code, within_s=8, kind=kind):
            DeviceSession(far, open_artifact(dense_onnx))
        wait_until(lambda: sshd.programs() == [], "the end of the worker")


def test_a_worker_that_never_answers_is_ended(sshd, far, dense_onnx, monkeypatch):
    monkeypatch.setattr(session_module, "_OPEN_S", 0.5)
    fake_runtime(far, "trap '' TERM HUP; sleep 1000; true")
    with failing("EK532", within_s=6, kind=ModelError):
        DeviceSession(far, open_artifact(dense_onnx))
    wait_until(lambda: sshd.programs() == [], "the end of the worker")


def test_a_device_without_a_runtime_or_with_a_damaged_record(sshd, dense_onnx):
    artifact = open_artifact(dense_onnx)
    with Shell(device_of(sshd.access), QUICK) as shell:
        with failing("EK860", within_s=5, kind=DependencyError):
            DeviceSession(shell, artifact)
        folder = sshd.home / ".edgekit/runtimes"
        folder.mkdir(parents=True)
        record = {"name": "onnxruntime", "version": "1", "words": ["/bin/true"], "environment": {}}
        for damage in (
            "{",
            "[]",
            "7",
            json.dumps(record | {"words": "/bin/true"}),
            json.dumps(record | {"words": []}),
            json.dumps(record | {"words": [1]}),
            json.dumps(record | {"environment": ["A"]}),
            json.dumps(record | {"environment": {"-u": "PATH"}}),
            json.dumps(record | {"environment": {"A": 1}}),
            json.dumps({"name": "onnxruntime"}),
        ):
            (folder / "onnxruntime.json").write_text(damage)
            with failing("EK815", within_s=5):
                DeviceSession(shell, artifact)


def test_a_worker_gets_its_environment_and_odd_folders(sshd, far):
    folder = sshd.home / "a=b it's $(touch x)"
    folder.mkdir()
    program = folder / "work er"
    program.write_text('#!/bin/sh\necho "$TWO_WORDS"\n')
    program.chmod(0o755)
    runtime = InstalledRuntime("native", "1", (str(program),), {"TWO_WORDS": "two 'words' $(touch y)"})
    record(far, runtime)
    assert installed(far)["native"] == runtime
    running = start_there(far, runtime)
    assert running.read_line(time.monotonic() + 5) == b"two 'words' $(touch y)"
    running.close()
    assert not (sshd.home / "x").exists()
    assert not (sshd.home / "y").exists()
