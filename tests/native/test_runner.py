"""The runner on this machine, held against worker.py: the same requests, the same replies."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit.devices import native_runner
from native.talk import ask, exchange


def opening(model, **more):
    return {
        "verb": "open",
        "model": str(model),
        "runtime": "litert",
        "threads": 1,
        "xnnpack": True,
        "seed": 0,
        **more,
    }


def predicting(*arrays, shapes=None):
    """A request for as many sets as the arrays have rows, each row a set of its own."""
    shapes = shapes or [[1, *array.shape[1:]] for array in arrays]
    blob = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return {"verb": "predict", "feeds": len(arrays[0]), "shapes": shapes, "blob": blob}


def values(reply):
    """The outputs of a reply to ``predict``, each (sets, *shape)."""
    found, position = [], 0
    total = sum(np.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize for entry in reply["outputs"])
    sets = int(len(reply["blob"]) // total)
    for entry in reply["outputs"]:
        count = sets * int(np.prod(entry["shape"]))
        array = np.frombuffer(reply["blob"], entry["dtype"], count, position)
        found.append(array.reshape(sets, *entry["shape"]))
        position += array.nbytes
    assert position == len(reply["blob"])
    return found


def samples(models, count, dtype="float32"):
    x = np.load(models.test_data)["x"][:count].astype(np.float32)
    return x if dtype == "float32" else np.clip(np.rint(x * 255 - 128), -128, 127).astype(np.int8)


def keys(value):
    """The names in a document, at every depth; of a list those of its first entry."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(value[0])] if isinstance(value, list) and value else None


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_answers_what_worker_answers(runner, python_worker, models, kind, xnnpack):
    model = models.tflite_cnn if kind == "float32" else models.tflite_cnn_int8
    requests = [
        opening(model, xnnpack=xnnpack),
        {"verb": "warm", "runs": 4, "max_seconds": 30},
        {"verb": "warm", "runs": None, "max_seconds": 2},
        {"verb": "measure", "runs": 7, "max_seconds": 30, "settle_ms": 1, "load_ms": 1},
        predicting(samples(models, 20, kind)),
    ]
    ours, theirs = ask(runner, *requests), ask(python_worker, *requests)
    assert (ours.status, theirs.status) == (0, 0), ours.errors
    assert [keys(reply) for reply in ours.replies] == [keys(reply) for reply in theirs.replies]
    for name in ("inputs", "outputs", "placement", "delegate", "batch", "peak_memory_method"):
        assert ours.opened[name] == theirs.opened[name]
    assert len(ours.replies[1]["samples_ns"]) == 4
    assert ours.replies[1]["steady"] is True
    assert len(ours.replies[2]["samples_ns"]) >= 9
    assert len(ours.replies[3]["samples_ns"]) == 7
    assert all(value > 0 for value in ours.replies[3]["samples_ns"])
    [mine], [reference] = values(ours.replies[4]), values(theirs.replies[4])
    if kind == "float32":
        np.testing.assert_allclose(mine, reference, atol=1e-5)
    else:
        assert np.abs(mine.astype(int) - reference.astype(int)).max() <= 1


def test_a_free_batch_takes_the_shape_of_the_data(runner, python_worker, models):
    x = samples(models, 6)
    requests = [
        opening(models.tflite_cnn_dynamic_batch),
        predicting(x),
        {**predicting(x), "feeds": 2, "shapes": [[3, 8, 8, 1]]},
        {"verb": "measure", "runs": 2, "max_seconds": 9},
    ]
    ours, theirs = ask(runner, *requests), ask(python_worker, *requests)
    assert ours.opened["inputs"] == theirs.opened["inputs"]
    assert ours.opened["inputs"][0]["shape"] == [None, 8, 8, 1]
    [by_one], [by_three] = values(ours.replies[1]), values(ours.replies[2])
    assert (by_one.shape, by_three.shape) == ((6, 1, 10), (2, 3, 10))
    np.testing.assert_allclose(by_three.reshape(6, 10), by_one.reshape(6, 10), atol=1e-6)
    np.testing.assert_allclose(by_three, values(theirs.replies[2])[0], atol=1e-5)
    assert len(ours.replies[3]["samples_ns"]) == 2


def test_inputs_and_outputs_stand_in_the_files_order_under_the_signatures_names(
    runner, python_worker, sum_model
):
    left = np.arange(12, dtype=np.float32).reshape(3, 4)
    right = np.full((3, 4), 4, np.float32)
    requests = [opening(sum_model), predicting(right, left)]
    ours, theirs = ask(runner, *requests), ask(python_worker, *requests)
    for answers in (ours, theirs):
        assert [tensor["name"] for tensor in answers.opened["inputs"]] == ["right", "left"]
        assert [tensor["name"] for tensor in answers.opened["outputs"]] == ["sum", "root"]
        total, root = values(answers.replies[1])
        np.testing.assert_array_equal(total[:, 0], left + right)
        np.testing.assert_allclose(root[:, 0], np.sqrt(left + right), rtol=1e-6)


def test_each_prediction_begins_afresh_and_runs_that_are_timed_do_not(runner, python_worker, recurrent_model):
    x = np.array([[[1.0, 2.0]], [[1.0, 2.0]], [[5.0, 0.0]]], np.float32)
    requests = [opening(recurrent_model), predicting(x[:, 0]), predicting(x[:, 0])]
    for command in (runner, python_worker):
        answers = ask(command, *requests)
        for reply in answers.replies[1:3]:
            np.testing.assert_array_equal(values(reply)[0][:, 0], x[:, 0])


def test_the_sets_of_open_take_turns(runner, sum_model):
    sets = predicting(np.ones((3, 4), np.float32), np.ones((3, 4), np.float32))
    answers = ask(runner, {**sets, **opening(sum_model)}, {"verb": "measure", "runs": 7, "max_seconds": 9})
    assert answers.opened["batch"] == 1
    assert len(answers.replies[1]["samples_ns"]) == 7


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"]
)
def test_every_dtype_goes_in_and_out(runner, tmp_path, made, dtype):
    x = made.tensor("x", dtype, (1, 3))
    shape = made.tensor("shape", "int32", (1,), values=[3])
    y = made.tensor("y", dtype, (3,))
    made.graph.inputs, made.graph.outputs = [x], [y]
    made.operator("RESHAPE", [x, shape], [y], schema.ReshapeOptionsT())
    (tmp_path / "m.tflite").write_bytes(made.bytes())
    given = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    answers = ask(runner, opening(tmp_path / "m.tflite"), predicting(given))
    assert answers.opened["inputs"][0]["dtype"] == dtype
    [result] = values(answers.replies[1])
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result, given)


def test_conditions_are_those_that_worker_sees(runner, python_worker):
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        requests = [{"verb": "conditions", "window_s": 0.5}, {"verb": "conditions", "own_pids": [busy.pid]}]
        ours, theirs = ask(runner, *requests).replies[:2], ask(python_worker, *requests).replies[:2]
    finally:
        busy.kill()
        busy.wait()
    assert [set(reply) for reply in ours] == [set(reply) for reply in theirs]
    same = (
        "cpu_model",
        "architecture",
        "cores",
        "governor",
        "max_frequency_mhz",
        "throttle_events",
        "throttle_flags",
    )
    for name in (*same, "memory_total_bytes", "kernel", "virtualized"):
        assert ours[0][name] == theirs[0][name], name
    shares = {process["pid"]: process["cpu_pct"] for process in ours[0]["busy_processes"]}
    # On a machine where five others are busier, it is not among the five that are told.
    assert busy.pid in shares or len(shares) == 5
    assert all(5 <= share <= 100 * os.cpu_count() + 20 for share in shares.values())
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert busy.pid not in {process["pid"] for process in ours[1]["busy_processes"]}
    assert ours[1]["own_ticks"] >= 5
    assert 0 <= theirs[0]["time"] - ours[0]["time"] < 60
    assert 0 <= theirs[0]["cpu_ticks"]["total"] - ours[0]["cpu_ticks"]["total"] < 60 * 100 * os.cpu_count()


def test_memory_counts_what_the_model_needs(runner, tmp_path, made):
    x = made.tensor("x", "float32", (1, 1))
    large = made.tensor("large", "float32", (1, 8_000_000), values=np.ones((1, 8_000_000), np.float32))
    y = made.tensor("y", "float32", (1, 8_000_000))
    made.graph.inputs, made.graph.outputs = [x], [y]
    made.operator("ADD", [large, x], [y], schema.AddOptionsT())
    (tmp_path / "m.tflite").write_bytes(made.bytes())
    opened = ask(runner, opening(tmp_path / "m.tflite")).opened
    assert 32e6 < opened["peak_memory_bytes"] < 200e6


def test_processors_are_chosen_and_refused(runner, sum_model):
    first = min(os.sched_getaffinity(0))
    answers = ask(runner, opening(sum_model, cpu_affinity=[first]), opening(sum_model, cpu_affinity=[1000]))
    assert "error" not in answers.replies[0]
    error = answers.replies[1]["error"]
    assert (error["kind"], "1000" in error["message"]) == ("usage", True)


def test_a_delegate_takes_its_operators_and_is_named(runner, host_library, sum_model, delegate_library):
    delegate = {"library": str(delegate_library), "options": {"mode": "take", "library": str(host_library)}}
    ones = np.ones((2, 4), np.float32)
    answers = ask(runner, opening(sum_model, delegate=delegate), predicting(ones, ones), opening(sum_model))
    assert answers.opened["delegate"] == "libtests_delegate.so"
    assert answers.opened["placement"] == {
        "accelerated_pct": 50.0,
        "ops": [{"op": "ADD", "accelerated": True}, {"op": "SQRT", "accelerated": False}],
    }
    # The delegate adds 100, so it was asked.
    np.testing.assert_array_equal(values(answers.replies[1])[0], np.full((2, 1, 4), 102))
    assert answers.replies[2]["delegate"] == "xnnpack"


@pytest.mark.parametrize(
    ("library", "options", "kind", "words"),
    [
        (None, {"mode": "refuse"}, "delegate", "libtests_delegate.so refuses the model"),
        (None, {"mode": "none"}, "delegate", "there is no such accelerator"),
        ("/nowhere/libnpu.so", {}, "delegate", "/nowhere/libnpu.so"),
        ("libc.so.6", {}, "delegate", "lacks tflite_plugin_create_delegate"),
        (None, {"mode": 3}, "request", "mode is no string"),
    ],
)
def test_delegates_that_cannot_be_used(runner, sum_model, delegate_library, library, options, kind, words):
    delegate = {"library": library or str(delegate_library), "options": options}
    answers = ask(runner, opening(sum_model, delegate=delegate), opening(sum_model))
    assert answers.replies[0]["error"]["kind"] == kind
    assert words in answers.replies[0]["error"]["message"]
    # The next request finds the runner as it was.
    assert answers.replies[1]["delegate"] == "xnnpack"


def test_libraries_that_cannot_be_used(asan_runner, sum_model):
    for library, words in (("/nowhere/lib.so", "/nowhere/lib.so"), ("libc.so.6", "lacks TfLiteVersion")):
        answers = ask([asan_runner, library], opening(sum_model), {"verb": "conditions", "window_s": 0})
        assert answers.replies[0]["error"]["kind"] == "dependency"
        assert words in answers.replies[0]["error"]["message"]
        assert answers.replies[1]["cores"] == os.cpu_count()


def test_a_library_that_can_do_little_says_what_it_cannot(asan_runner, bare_library, models):
    model = models.tflite_cnn_dynamic_batch
    answers = ask(
        [asan_runner, bare_library],
        opening(model),
        {"verb": "measure", "runs": 3, "max_seconds": 9},
        predicting(samples(models, 1)),
        opening(model, xnnpack=False),
    )
    assert (answers.opened["delegate"], answers.opened["placement"]) == ("unknown", None)
    assert answers.opened["inputs"][0]["shape"] == [1, 8, 8, 1]
    assert len(answers.replies[1]["samples_ns"]) == 3
    assert answers.replies[2]["error"]["kind"] == "dependency"
    assert "TfLiteInterpreterResetVariableTensors" in answers.replies[2]["error"]["message"]
    assert answers.replies[3]["error"]["kind"] == "usage"


def test_models_that_cannot_be_opened(runner, python_worker, tmp_path, models):
    content = models.tflite_cnn.read_bytes()
    (tmp_path / "cut.tflite").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.tflite").write_text("no model")
    (tmp_path / "empty.tflite").write_bytes(b"")
    names = ["cut.tflite", "text.tflite", "empty.tflite", "missing.tflite", ""]
    for command in (runner, python_worker):
        answers = ask(command, *(opening(tmp_path / name) for name in names), opening(models.tflite_cnn))
        assert [reply.get("error", {}).get("kind") for reply in answers.replies[:5]] == ["model"] * 5
        assert "missing.tflite" in answers.replies[3]["error"]["message"]
        assert answers.replies[5]["reply"] == "open"


def test_data_that_do_not_fit(runner, python_worker, sum_model):
    ones = np.ones((2, 4), np.float32)
    wrong = [
        predicting(ones),
        predicting(ones, ones, ones),
        predicting(ones, ones, shapes=[[1, 4], [2, 4]]),
        predicting(ones, ones, shapes=[[1, 4], [1, 4, 1]]),
        {**predicting(ones, ones), "feeds": 1},
        {**predicting(ones, ones), "feeds": 3},
    ]
    for command in (runner, python_worker):
        answers = ask(command, opening(sum_model), *wrong, predicting(ones, ones))
        assert [reply.get("error", {}).get("kind") for reply in answers.replies[1:7]] == ["data"] * 6
        np.testing.assert_array_equal(values(answers.replies[7])[0], np.full((2, 1, 4), 2))
    message = ask(runner, opening(sum_model), wrong[2]).replies[1]["error"]["message"]
    assert message == "the input left takes [1, 4], the data has [2, 4]"


@pytest.mark.parametrize(
    ("request_line", "words"),
    [
        ({"verb": "measure", "runs": 1, "max_seconds": 1}, "no model is open"),
        ({"verb": "predict", "feeds": 1, "shapes": []}, "no model is open"),
        ({"verb": "dance"}, "unknown verb"),
        ({}, "unknown verb"),
        ({"verb": "open"}, "no model is named"),
        ({"verb": "open", "model": "m", "runtime": "onnxruntime"}, "no such runtime"),
        ({"verb": "conditions", "window_s": -1}, "window_s"),
        ({"verb": "open", "model": "m", "threads": "many"}, "m: No such file"),
    ],
)
def test_requests_that_are_wrong(runner, request_line, words):
    answers = ask(runner, request_line, {"verb": "conditions", "window_s": 0})
    assert words in answers.replies[0]["error"]["message"]
    assert answers.replies[1]["reply"] == "conditions"
    assert answers.status == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"no json\n",
        b"[1]\n",
        b'{"verb": "open", "blob_bytes": -1}\n',
        b'{"verb": "open", "blob_bytes": 1e300}\n',
        b'{"verb": "open", "blob_bytes": 2147483648}\n',
        b'{"verb": "open", "blob_bytes": 1000}\nshort',
        b'{"verb": "open", "deadline_s": "soon"}\n',
        b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}\n",
        b'{"a": "' + b"x" * (2 << 20) + b'"}\n',
    ],
)
def test_a_line_that_is_no_request_ends_the_runner(runner, content):
    answers = exchange(runner, content + b'{"verb": "close"}\n' * bool(content))
    assert answers.status == 1
    assert "Sanitizer" not in answers.errors
    if content:
        assert [reply["error"]["kind"] for reply in answers.replies] == ["request"]


def test_a_request_that_outlives_its_deadline_ends_the_runner(runner):
    # Started with the signal ignored and blocked, as some parents leave it to their children.
    start = "import os, signal, sys; signal.signal(signal.SIGALRM, signal.SIG_IGN); "
    start += "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM]); os.execv(sys.argv[1], sys.argv[1:])"
    answers = exchange(
        [sys.executable, "-c", start, *runner],
        json.dumps({"verb": "conditions", "window_s": 60, "deadline_s": 0.3, "nonce": 1}).encode() + b"\n",
        timeout=30,
    )
    assert answers.status == -signal.SIGALRM
    assert answers.replies == []


def test_the_end_of_the_requests_without_close_is_an_error(runner, sum_model):
    answers = ask(runner, opening(sum_model), close=False)
    assert answers.status == 1
    assert len(answers.replies) == 1


def test_nonces_come_back_as_they_were(runner):
    given = ["7f3a", 'ä " \\ \n \U0001f600', 12345678901234567890, 1.5e-7, True, None]
    content = b"".join(json.dumps({"verb": "dance", "nonce": nonce}).encode() + b"\n" for nonce in given)
    content += json.dumps({"verb": "close", "nonce": "end"}, ensure_ascii=False).encode() + b"\n"
    answers = exchange(runner, content)
    assert [reply["nonce"] for reply in answers.replies] == [*given, "end"]


def test_what_the_library_prints_does_not_reach_the_replies(asan_runner, tmp_path, host_library, sum_model):
    # A library that prints when it is loaded, and passes everything on.
    (tmp_path / "loud.c").write_text(
        '#include <stdio.h>\n__attribute__((constructor)) static void speak(void) { puts("hello"); fflush(stdout); }\n'
    )
    loud = tmp_path / "libloud.so"
    link = ["-Wl,--no-as-needed", f"-Wl,-rpath,{host_library.parent}", host_library]
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", loud, tmp_path / "loud.c", *link], check=True)
    answers = ask([asan_runner, loud], opening(sum_model))
    assert answers.opened["delegate"] == "xnnpack"
    assert "hello" in answers.errors


def test_operators_have_the_names_of_the_schema():
    text = (native_runner.SOURCES / "operator_names.h").read_text()
    names = text.partition("OPERATOR_NAMES[] = {")[2].partition("}")[0].replace('"', "").split(",")
    codes = {name: code for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    listed = [name.strip() for name in names if name.strip()]
    assert {name: code for code, name in enumerate(listed)} == codes


def test_a_runner_without_a_library_says_how_it_is_used(asan_runner):
    done = subprocess.run([asan_runner], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"usage: {asan_runner} LIBRARY\n"


def test_the_sources_are_few_lines_each():
    sizes = {
        path.name: len(path.read_text().splitlines()) for path in Path(native_runner.SOURCES).glob("*.[ch]")
    }
    assert max(sizes.values()) <= 400, sizes
