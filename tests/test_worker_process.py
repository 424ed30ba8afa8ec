"""What the parent makes of a worker that misbehaves: real processes, each broken in one way."""

import os
import sys
import time

import pytest

from edgekit.devices.channel import ProcessChannel
from edgekit.errors import DataError, DependencyError, DeviceError, InternalError, ModelError
from edgekit.worker_process import WorkerProcess

READ = "import json, os, signal, sys, time\nrequest = json.loads(sys.stdin.readline())\n"


def worker(program):
    return WorkerProcess("model.tflite", ProcessChannel([sys.executable, "-c", READ + program]))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_reply_and_the_last_line(tmp_path):
    with WorkerProcess("this machine") as process:
        reply = process.ask("conditions", deadline_s=30, window_s=0.0)
        process.close()
        pid = process.pid
    assert reply["cores"] == os.cpu_count()
    assert not alive(pid)


@pytest.mark.parametrize(
    "program",
    [
        "print(json.dumps({'reply': 'open'}))",  # no nonce
        "print(json.dumps({'reply': 'open', 'nonce': 'another'}))",
        "print('Segmentation fault (not really)')",
        "print(json.dumps([1, 2]))",
        "print(json.dumps({'reply': 'warm', 'nonce': request['nonce']}))",  # the answer to something else
        "sys.exit(0)",  # a status of 0 says nothing
        'sys.stdout.write(\'{"reply": "open"\'); sys.exit(0)',  # cut in the middle
        "sys.exit(9)",
    ],
)
def test_no_result_without_the_nonce(program):
    with worker(program) as process, pytest.raises(DeviceError) as caught:
        process.ask("open", deadline_s=30, runtime="litert")
    assert caught.value.code == "EK535"
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("program", ["sys.exit(0)", "print(json.dumps({'done': True, 'nonce': 'old'}))"])
def test_a_worker_must_end_with_its_last_line(program):
    with worker(program) as process, pytest.raises(DeviceError):
        process.close()


def test_a_crash_names_the_signal_and_the_model():
    program = "os.write(2, b'last words'); os.kill(os.getpid(), signal.SIGSEGV)"
    words = r"litert crashed with SIGSEGV on model\.tflite"
    with (
        worker(program) as process,
        pytest.raises(ModelError, match=words) as caught,
    ):
        process.ask("open", deadline_s=30, runtime="litert")
    assert caught.value.code == "EK530"
    assert caught.value.detail == "last words"


def test_a_worker_that_hangs_is_ended():
    with worker("time.sleep(600)") as process:
        pid = process.pid
        started = time.monotonic()
        with pytest.raises(ModelError, match=r"within 0\.3 s") as caught:
            process.ask("open", deadline_s=0.3, runtime="litert")
        assert caught.value.code == "EK532"
        assert time.monotonic() - started < 20
        assert not alive(pid)


def test_a_worker_ends_itself_when_its_parent_cannot(dense_onnx):
    # The deadline of the request, plus the grace that is left for the parent, ends it from inside.
    with WorkerProcess("dense.onnx") as process:
        line = b'{"verb": "conditions", "window_s": 600, "deadline_s": 0.2, "nonce": "n"}\n'
        process._stream.write(line, time.monotonic() + 5)
        assert process._stream._process.wait(timeout=20) == -14  # SIGALRM


@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [("model", ModelError, "EK531"), ("data", DataError, "EK534"), ("dependency", DependencyError, "EK533")],
)
def test_the_workers_own_errors(kind, error, code):
    program = (
        f"error = {{'kind': {kind!r}, 'message': 'because'}}\n"
        "print(json.dumps({'error': error, 'nonce': request['nonce']}), flush=True)\ntime.sleep(600)"
    )
    with worker(program) as process, pytest.raises(error, match="because") as caught:
        process.ask("open", deadline_s=30, runtime="tflite_runtime")
    assert caught.value.code == code
    if kind == "dependency":
        assert 'pip install "edgekit[tflite-runtime]"' in caught.value.hint


def test_a_refused_request_is_a_defect_of_edgekit():
    with WorkerProcess("this machine") as process, pytest.raises(InternalError, match="no model is open"):
        process.ask("measure", deadline_s=30, runs=1, max_seconds=1)


def test_leaving_by_an_exception_leaves_no_child():
    process = WorkerProcess("this machine")
    with pytest.raises(KeyboardInterrupt), process:
        raise KeyboardInterrupt
    assert not alive(process.pid)
