"""worker.py as a device would run it: copied alone into an empty folder, started from a file of requests."""

import ast
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgekit

WORKER = Path(edgekit.__file__).with_name("worker.py")


def run_worker(folder, requests, *, python=(sys.executable,)):
    """The replies to requests, the last of which closes the worker."""
    alone = folder / "worker.py"
    shutil.copy(WORKER, alone)
    lines = [*requests, {"verb": "close"}]
    parts = []
    for line in lines:
        blob = line.pop("blob", b"")
        parts.append(json.dumps({"nonce": "n1", "blob_bytes": len(blob), **line}).encode() + b"\n" + blob)
    (folder / "requests.jsonl").write_bytes(b"".join(parts))
    done = subprocess.run(
        [*python, str(alone), str(folder / "requests.jsonl")],
        cwd=folder,
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stream, replies = io.BytesIO(done.stdout), []
    for line in stream:
        replies.append(json.loads(line))
        if blob := stream.read(replies[-1].pop("blob_bytes", 0)):
            replies[-1]["blob"] = blob
    assert replies[-1] == {"done": True, "nonce": "n1"}
    return replies[:-1]


def opening(model, **more):
    request = {
        "verb": "open",
        "runtime": "onnxruntime",
        "xnnpack": True,
        "threads": 1,
        "seed": 0,
        "deadline_s": 60,
    }
    return {**request, "model": str(model), **more}


def test_imports_nothing_of_edgekit_and_is_python_3_9():
    tree = ast.parse(WORKER.read_text(), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = set(sys.stdlib_module_names) | {"numpy"}
    assert {name.partition(".")[0] for name in imported} <= allowed


def test_annotations_are_never_evaluated():
    # `int | None` in a signature is an error in Python 3.9 unless annotations are postponed.
    first = next(node for node in ast.parse(WORKER.read_text()).body if isinstance(node, ast.ImportFrom))
    assert (first.module, first.names[0].name) == ("__future__", "annotations")


def test_measures_a_model_alone_in_an_empty_folder(tmp_path, dense_onnx):
    opened, warmed, measured = run_worker(
        tmp_path,
        [
            opening(dense_onnx),
            {"verb": "warm", "runs": 4, "max_seconds": 30},
            {"verb": "measure", "runs": 7, "max_seconds": 30, "settle_ms": 1},
        ],
    )
    real = {"dtype": "float32", "scale": 0.0, "zero_point": 0}
    assert opened["inputs"] == [{"name": "x", "shape": [None, 4], "used_shape": [1, 4], **real}]
    assert opened["outputs"][0]["shape"][1:] == [3]
    assert opened["load_ms"] > 0
    assert opened["first_inference_ms"] > 0
    assert opened["delegate"] == "CPUExecutionProvider"
    assert opened["placement"] is None
    assert 0 < opened["peak_memory_bytes"] < 500e6
    assert len(warmed["samples_ns"]) == 4
    assert warmed["steady"] is True
    assert len(measured["samples_ns"]) == 7
    assert all(isinstance(value, int) and value > 0 for value in measured["samples_ns"])
    assert len(measured["settle_ns"]) >= 1
    assert measured["start_ns"] > 0


def test_onnx_runtime_for_cpus_is_no_gpu(tmp_path, dense_onnx):
    gpu = {"library": "gpu", "options": {}}
    [reply] = run_worker(tmp_path, [opening(dense_onnx, delegate=gpu)])
    assert reply["error"]["kind"] == "gpu"
    assert "built without WebGPU" in reply["error"]["message"]


def test_peak_memory_grows_with_the_model(tmp_path, dense_onnx):
    weights = np.ones((4, 4_000_000), np.float32)  # 64 MB
    model = onnx.load(dense_onnx)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = weights.shape[1]
    onnx.save(model, tmp_path / "large.onnx")
    small, large = (
        run_worker(tmp_path, [opening(dense_onnx)]),
        run_worker(tmp_path, [opening(tmp_path / "large.onnx")]),
    )
    difference = large[0]["peak_memory_bytes"] - small[0]["peak_memory_bytes"]
    assert 60e6 < difference < 400e6


def test_numpy_2_is_named_where_it_breaks_tflite_runtime(tmp_path, models):
    pytest.importorskip("tflite_runtime")
    reply = run_worker(tmp_path, [opening(models.tflite_cnn, runtime="tflite_runtime")])[0]
    if int(np.__version__.partition(".")[0]) < 2:
        assert reply["runtime_version"].startswith("2.")
    else:
        assert reply["error"]["kind"] == "dependency"
        assert "numpy" in reply["error"]["message"]


def test_time_bounds_a_block(tmp_path, dense_onnx):
    measured = run_worker(
        tmp_path, [opening(dense_onnx), {"verb": "measure", "runs": 1_000_000, "max_seconds": 0.05}]
    )[1]
    assert 1 <= len(measured["samples_ns"]) < 1_000_000
    assert sum(measured["samples_ns"]) <= 0.05e9 + measured["samples_ns"][-1]


def test_warm_up_ends_by_itself_or_at_its_bound(tmp_path, dense_onnx):
    warmed = run_worker(tmp_path, [opening(dense_onnx), {"verb": "warm", "runs": None, "max_seconds": 2}])[1]
    # Three windows of at least three runs each are the least that can be called steady.
    assert len(warmed["samples_ns"]) >= 9
    assert sum(warmed["samples_ns"]) < 2.5e9


def test_xnnpack_can_be_switched_off_and_tells_what_it_took(tmp_path, models):
    request = opening(models.tflite_cnn_int8, runtime="litert")
    on = run_worker(tmp_path, [request])[0]
    off = run_worker(tmp_path, [{**request, "xnnpack": False}])[0]
    assert (on["delegate"], off["delegate"]) == ("xnnpack", "none")
    assert on["placement"]["accelerated_pct"] > 50
    assert off["placement"]["accelerated_pct"] == 0
    kinds = [[op["op"] for op in reply["placement"]["ops"]] for reply in (on, off)]
    assert kinds[0] == kinds[1]
    assert "CONV_2D" in kinds[0]
    assert "DELEGATE" not in kinds[0]


def test_dynamic_batch_runs_with_one_sample(tmp_path, models):
    opened = run_worker(tmp_path, [opening(models.tflite_cnn_dynamic_batch, runtime="litert")])[0]
    assert [tensor["used_shape"] for tensor in opened["inputs"]] == [[1, 8, 8, 1]]
    assert opened["batch"] == 1


def test_a_delegate_that_refuses_is_named(tmp_path, models):
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc to make a delegate with")
    (tmp_path / "delegate.c").write_text(
        "#include <stddef.h>\n"
        "void *tflite_plugin_create_delegate(char **k, char **v, size_t n, void (*say)(const char *)) "
        '{ say("no such chip"); return NULL; }\n'
        "void tflite_plugin_destroy_delegate(void *d) {}\n"
    )
    library = tmp_path / "libchip.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "delegate.c"], check=True)
    request = opening(models.tflite_cnn_int8, runtime="litert", delegate={"library": str(library)})
    reply = run_worker(tmp_path, [request])[0]
    assert reply["error"]["kind"] == "delegate"
    assert "libchip.so gives no delegate" in reply["error"]["message"]


def test_outputs_of_many_sets_come_back_in_order(tmp_path, dense_onnx):
    samples = np.arange(12, dtype=np.float32).reshape(3, 4)
    sets = {"feeds": 3, "shapes": [[1, 4]], "blob": samples.tobytes()}
    opened, first, again = run_worker(
        tmp_path, [opening(dense_onnx, **sets), {"verb": "predict", **sets}, {"verb": "predict", **sets}]
    )
    assert "error" not in opened
    (described,) = first["outputs"]
    outputs = np.frombuffer(first["blob"], described["dtype"]).reshape(3, *described["shape"])
    np.testing.assert_allclose(outputs[:, 0], samples @ np.ones((4, 3)), rtol=1e-5)
    assert again == first


def test_integers_go_in_as_they_are(tmp_path, models):
    pixels = np.arange(-128, 0, dtype=np.int8).reshape(2, 1, 8, 8, 1)
    sets = {"feeds": 2, "shapes": [[1, 8, 8, 1]], "blob": pixels.tobytes()}
    request = opening(models.tflite_cnn_int8, runtime="litert", xnnpack=False)
    reply = run_worker(tmp_path, [request, {"verb": "predict", **sets}])[1]
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(models.tflite_cnn_int8),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    expected = []
    for sample in pixels:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
        interpreter.invoke()
        expected.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    assert reply["outputs"] == [{"shape": list(expected[0].shape), "dtype": "int8"}]
    assert reply["blob"] == np.stack(expected).tobytes()


@pytest.mark.parametrize(
    ("shapes", "size", "words"),
    [
        ([[1, 5]], 20, "takes [None, 4], the data has [1, 5]"),
        ([[1, 4]], 12, "fewer than 1 sets"),
        ([[1, 4]], 32, "more than 1 sets"),
        ([[1, 4], [1, 4]], 32, "has 1 inputs, the data 2"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(tmp_path, dense_onnx, shapes, size, words):
    request = {"verb": "predict", "feeds": 1, "shapes": shapes, "blob": bytes(size)}
    _, reply = run_worker(tmp_path, [opening(dense_onnx), request])
    assert reply["error"]["kind"] == "data"
    assert words in reply["error"]["message"]


def test_a_library_that_is_no_delegate_is_named(tmp_path, models):
    request = opening(models.tflite_cnn_int8, runtime="litert", delegate={"library": "/nowhere/libnpu.so"})
    reply = run_worker(tmp_path, [request])[0]
    assert reply["error"]["kind"] == "delegate"
    assert "/nowhere/libnpu.so" in reply["error"]["message"]


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("float32", 0.0, 1.0), ("int8", -128, 127), ("uint8", 0, 255), ("int64", 0, 1), ("bool", 0, 1)],
)
def test_random_inputs_have_the_dtype_and_stay_in_its_range(dtype, low, high):
    generator = np.random.default_rng(3)
    spec = {"name": "x", "shape": [None, 500], "dtype": dtype}
    values = load_worker()._random(generator, spec)
    assert values.shape == (1, 500)
    assert values.dtype == np.dtype(dtype)
    assert low <= values.min() < values.max() <= high


def test_conditions_are_those_of_proc(tmp_path):
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        seen, own = run_worker(
            tmp_path,
            [
                {"verb": "conditions", "window_s": 0.5},
                {"verb": "conditions", "window_s": 0.3, "own_pids": [busy.pid]},
            ],
        )
    finally:
        busy.kill()
        busy.wait()
    shares = {process["pid"]: process["cpu_pct"] for process in seen["busy_processes"]}
    assert 5 <= shares[busy.pid] <= 120
    assert busy.pid not in {process["pid"] for process in own["busy_processes"]}
    total = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]) * 1024
    assert seen["memory_total_bytes"] == total
    assert seen["kernel"].startswith("Linux ")
    assert len(seen["load_average"]) == 3
    if not list(Path("/sys/class/thermal").glob("thermal_zone*/temp")):
        assert seen["temperature_c"] is None


@pytest.mark.parametrize(
    ("request_line", "kind", "words"),
    [
        ({"verb": "measure", "runs": 1, "max_seconds": 1}, "request", "no model is open"),
        ({"verb": "dance"}, "request", "unknown verb"),
        (opening("missing.onnx"), "model", "missing.onnx"),
        (opening("m.tflite", runtime="tflite_runtime"), "dependency", "tflite_runtime"),
    ],
)
def test_what_goes_wrong_is_an_answer(tmp_path, request_line, kind, words):
    if kind == "dependency":
        pytest.importorskip(
            "numpy", minversion="2.0", reason="tflite_runtime may be installed beside numpy 1"
        )
    reply = run_worker(tmp_path, [request_line])[0]
    assert reply["error"]["kind"] == kind
    assert words in reply["error"]["message"]


def test_an_edgekit_module_never_hides_a_standard_one():
    # Started by its path, Python puts edgekit/ first, where edgekit/statistics.py is.
    requests = json.dumps({"verb": "close", "nonce": "n"})
    program = f"import runpy, sys; sys.argv = [{str(WORKER)!r}]; sys.path[0] = {str(WORKER.parent)!r}\n"
    program += f"try:\n    runpy.run_path({str(WORKER)!r}, run_name='__main__')\nexcept SystemExit: pass\n"
    program += "import statistics; print(statistics.__file__, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], input=requests, capture_output=True, text=True, check=True
    )
    assert "edgekit" not in done.stderr


def load_worker():
    import importlib.util

    spec = importlib.util.spec_from_file_location("standalone_worker", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
