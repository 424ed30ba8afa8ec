"""The TensorFlow process: what it answers, and that nothing it does reaches edgekit's own process."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from edgekit import tensorflow_process
from edgekit.errors import DependencyError, ModelError
from edgekit.framework_process import FrameworkProcess
from edgekit.tensorflow_errors import translate
from edgekit.tensorflow_process import TFLiteExport


@pytest.fixture(scope="module")
def digits(models):
    with np.load(models.test_data) as data:
        return data["x"]


def outputs_of(path, samples):
    """What LiteRT computes, by the names of the signature."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path), num_threads=1).get_signature_runner()
    results = [runner(**{name: array[i : i + 1] for name, array in samples.items()}) for i in range(8)]
    return {name: np.concatenate([result[name] for result in results]) for name in results[0]}


@pytest.mark.parametrize("name", ["keras_cnn", "h5_cnn"])
def test_a_keras_model_is_described_by_its_own_names(models, name):
    inputs, outputs = tensorflow_process.describe(getattr(models, name))
    assert [(spec.name, spec.shape, spec.dtype) for spec in inputs] == [("image", (None, 8, 8, 1), "float32")]
    assert [(spec.name, spec.shape, spec.dtype) for spec in outputs] == [("classes", (None, 10), "float32")]


def test_a_saved_model_is_described_by_its_signature(models):
    inputs, outputs = tensorflow_process.describe(models.saved_model_cnn)
    assert [(spec.name, spec.shape) for spec in inputs + outputs] == [
        ("image", (None, 8, 8, 1)),
        ("output_0", (None, 10)),
    ]


def test_prediction_of_two_inputs_and_outputs(models):
    first, second = np.ones((70, 4), np.float32), np.full((70, 4), 0.5, np.float32)
    outputs = tensorflow_process.predict(models.keras_two_inputs, {"second": second, "first": first})
    assert outputs["wide"].shape == (70, 3)
    np.testing.assert_allclose(outputs["total"], np.full((70, 4), 2.5))


def test_a_float_export_computes_what_keras_computes(models, digits, tmp_path):
    for source in (models.keras_cnn, models.saved_model_cnn, models.h5_cnn):
        tensorflow_process.export_tflite(source, tmp_path / "float.tflite", TFLiteExport())
        expected = tensorflow_process.predict(source, {"image": digits[:8]})
        actual = outputs_of(tmp_path / "float.tflite", {"image": digits})
        assert actual.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(actual[name], values, atol=1e-5)


def test_names_of_several_inputs_survive_the_export(models, tmp_path):
    samples = {"first": np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)}
    samples["second"] = samples["first"][::-1] * 3
    tensorflow_process.export_tflite(models.keras_two_inputs, tmp_path / "two.tflite", TFLiteExport())
    actual = outputs_of(tmp_path / "two.tflite", samples)
    np.testing.assert_allclose(actual["total"], 2 * samples["first"] + samples["second"], atol=1e-5)
    assert actual["wide"].shape == (8, 3)


def test_every_kind_of_quantization_stays_near_the_float_model(models, digits, tmp_path):
    expected = tensorflow_process.predict(models.keras_cnn, {"image": digits[:8]})["classes"]
    calibration = {"image": digits[:100]}
    sizes = {}
    for optimize in ("none", "float16", "dynamic", "int8", "int16x8"):
        options = TFLiteExport(optimize=optimize, calibration=calibration if "int" in optimize else None)
        path = tmp_path / f"{optimize}.tflite"
        tensorflow_process.export_tflite(models.keras_cnn, path, options)
        actual = outputs_of(path, {"image": digits})["classes"]
        assert np.mean(np.abs(actual - expected)) < (
            0.03 if "int" in optimize or optimize == "dynamic" else 0.001
        )
        sizes[optimize] = path.stat().st_size
    assert sizes["float16"] < sizes["none"]
    assert sizes["int8"] < sizes["float16"]


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_integer_inputs_and_outputs(models, digits, tmp_path, io):
    from ai_edge_litert.interpreter import Interpreter

    options = TFLiteExport(optimize="int8", calibration={"image": digits[:50]}, io=io)
    tensorflow_process.export_tflite(models.keras_cnn, tmp_path / "m.tflite", options)
    interpreter = Interpreter(str(tmp_path / "m.tflite"))
    assert interpreter.get_input_details()[0]["dtype"] == np.dtype(io)
    assert interpreter.get_output_details()[0]["dtype"] == np.dtype(io)


def test_per_tensor_quantization_has_one_scale_per_weight(models, digits, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    most = {}
    for per_channel in (True, False):
        options = TFLiteExport(optimize="int8", calibration={"image": digits[:50]}, per_channel=per_channel)
        tensorflow_process.export_tflite(models.keras_cnn, tmp_path / "m.tflite", options)
        details = Interpreter(str(tmp_path / "m.tflite")).get_tensor_details()
        convolutions = [d for d in details if len(d["shape"]) == 4 and d["dtype"] == np.int8]
        most[per_channel] = max(len(d["quantization_parameters"]["scales"]) for d in convolutions)
    assert most == {True: 24, False: 1}


def test_the_batch_is_fixed_or_free_as_asked(models, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    shapes = {}
    for batch in (1, 4, None):
        tensorflow_process.export_tflite(models.keras_cnn, tmp_path / "m.tflite", TFLiteExport(batch=batch))
        shapes[batch] = int(
            Interpreter(str(tmp_path / "m.tflite")).get_input_details()[0]["shape_signature"][0]
        )
    assert shapes == {1: 1, 4: 4, None: -1}


def test_a_recurrent_model_is_written_out_to_be_quantized(models, tmp_path):
    steps = np.random.default_rng(1).normal(size=(30, 5, 3)).astype(np.float32)
    expected = tensorflow_process.predict(models.keras_recurrent, {"steps": steps[:8]})["dense"]
    options = TFLiteExport(optimize="int8", calibration={"steps": steps})
    findings = tensorflow_process.export_tflite(models.keras_recurrent, tmp_path / "m.tflite", options)
    assert [finding.code for finding in findings] == ["EK132"]
    actual = outputs_of(tmp_path / "m.tflite", {"steps": steps})["dense"]
    assert np.max(np.abs(actual - expected)) < 0.1


@pytest.mark.parametrize("source", ["keras_two_inputs", "keras_cnn", "saved_model_cnn", "tflite_cnn"])
def test_onnx_export_computes_the_same_under_the_same_names(models, digits, tmp_path, source):
    import onnxruntime

    path = getattr(models, source)
    rng = np.random.default_rng(2)
    samples = {name: rng.normal(size=(1, 4)).astype(np.float32) for name in ("first", "second")}
    if source != "keras_two_inputs":
        samples = {"image": digits[:1]}
    tensorflow_process.export_onnx(path, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    assert {value.name for value in session.get_inputs()} == set(samples)
    names = [value.name for value in session.get_outputs()]
    actual = dict(zip(names, session.run(names, samples), strict=True))
    keras = models.keras_cnn if source == "tflite_cnn" else path
    expected = tensorflow_process.predict(keras, samples)
    if source == "tflite_cnn":
        expected = {"output_0": expected["classes"]}
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, atol=1e-5)


def test_an_export_that_onnx_runtime_refuses_is_an_error(models, tmp_path):
    with pytest.raises(ModelError, match="exact GELU") as caught:
        tensorflow_process.export_onnx(models.odd / "gelu.keras", tmp_path / "gelu.onnx")
    assert caught.value.code == "EK125"
    assert not (tmp_path / "gelu.onnx").exists()


def test_operators_without_a_litert_form_are_named(models, tmp_path):
    with pytest.raises(ModelError, match="MatrixDeterminant") as caught:
        tensorflow_process.export_tflite(models.odd / "determinant", tmp_path / "m.tflite", TFLiteExport())
    assert caught.value.code == "EK120"


def test_several_signatures_without_a_default_are_named(models):
    with pytest.raises(ModelError, match="a, b") as caught:
        tensorflow_process.describe(models.odd / "many")
    assert caught.value.code == "EK112"


def random_inputs(path, count=8):
    """Numbers for each input of a model, 9 where a size is free."""
    rng = np.random.default_rng(3)
    inputs, _outputs = tensorflow_process.describe(path)
    shapes = {spec.name: [9 if size is None else size for size in spec.shape[1:]] for spec in inputs}
    return {name: rng.random((count, *shape), np.float32) for name, shape in shapes.items()}


def run_onnx(path, samples):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    assert {value.name for value in session.get_inputs()} == set(samples)
    names = [value.name for value in session.get_outputs()]
    rows = [session.run(names, {name: array[i : i + 1] for name, array in samples.items()}) for i in range(8)]
    return dict(zip(names, map(np.concatenate, zip(*rows, strict=True)), strict=True))


@pytest.mark.parametrize("name", ["dict_inputs", "captured", "mixed", "free_size", "both_ways", "ops"])
def test_unusual_models_compute_the_same_in_every_format(models, tmp_path, name):
    path = models.odd / f"{name}.keras"
    samples = random_inputs(path)
    expected = tensorflow_process.predict(path, samples)
    tensorflow_process.export_tflite(path, tmp_path / "m.tflite", TFLiteExport())
    results = [outputs_of(tmp_path / "m.tflite", samples)]
    if name != "ops":  # which has an exact GELU
        tensorflow_process.export_onnx(path, tmp_path / "m.onnx")
        results.append(run_onnx(tmp_path / "m.onnx", samples))
    for actual in results:
        assert actual.keys() == expected.keys()
        for key, values in expected.items():
            np.testing.assert_allclose(actual[key], values, atol=1e-5)


def test_mixed_precision_is_undone_and_this_is_said(models):
    assert [finding.code for finding in tensorflow_process.findings(models.odd / "mixed.keras")] == ["EK136"]
    assert tensorflow_process.findings(models.keras_cnn) == ()


def test_a_short_bidirectional_layer_is_quantized_and_a_long_one_refused(models, tmp_path):
    short, long = (models.odd / name for name in ("both_ways.keras", "long.keras"))
    options = TFLiteExport(optimize="int8", calibration=random_inputs(short, 30))
    tensorflow_process.export_tflite(short, tmp_path / "m.tflite", options)
    samples = random_inputs(short)
    expected = tensorflow_process.predict(short, samples)["out"]
    assert np.abs(outputs_of(tmp_path / "m.tflite", samples)["out"] - expected).max() < 0.05
    options = TFLiteExport(optimize="int8", calibration=random_inputs(long, 3))
    with pytest.raises(ModelError, match="too many steps") as caught:
        tensorflow_process.export_tflite(long, tmp_path / "long.tflite", options)
    assert caught.value.code == "EK127"


def test_samples_of_a_stateful_model_do_not_see_each_other(models, tmp_path):
    path = models.odd / "stateful.keras"
    samples = random_inputs(path, 4)
    together = tensorflow_process.predict(path, samples)["out"]
    alone = tensorflow_process.predict(path, {"frame": samples["frame"][2:3]})["out"]
    np.testing.assert_allclose(together[2], alone[0], atol=1e-6)
    with pytest.raises(ModelError, match="keeps a state") as caught:
        tensorflow_process.export_onnx(path, tmp_path / "m.onnx")
    assert caught.value.code == "EK128"


def test_the_state_of_a_prediction_is_not_exported(models, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = models.odd / "stateful.keras"
    samples = random_inputs(path, 3)
    expected = tensorflow_process.predict(path, samples)["out"]
    tensorflow_process.export_tflite(path, tmp_path / "m.tflite", TFLiteExport())
    fresh = Interpreter(str(tmp_path / "m.tflite")).get_signature_runner()
    np.testing.assert_allclose(fresh(frame=samples["frame"][:1])["out"], expected[:1], atol=1e-5)


def test_integer_export_needs_samples():
    with pytest.raises(ValueError, match="needs calibration samples"):
        TFLiteExport(optimize="int8")


def child_pid():
    return tensorflow_process._process.started().pid


def alive(pid):
    """Whether a process runs; one that ended and was not yet waited for does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def gone_within(pid, seconds):
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


def test_one_child_serves_every_request_and_survives_a_refusal(models, tmp_path):
    tensorflow_process.describe(models.keras_cnn)
    before = child_pid()
    (tmp_path / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000))
    with pytest.raises(ModelError):
        tensorflow_process.describe(tmp_path / "bad.h5")
    tensorflow_process.describe(models.keras_two_inputs)
    assert child_pid() == before


def test_a_crash_is_an_error_and_the_next_request_works(models):
    os.kill(child_pid(), signal.SIGSEGV)
    samples = {"first": np.ones((1, 4), np.float32), "second": np.ones((1, 4), np.float32)}
    with pytest.raises(ModelError, match=r"crashed on .*SIGSEGV") as caught:
        tensorflow_process.predict(models.keras_two_inputs, samples)
    assert caught.value.code == "EK123"
    assert tensorflow_process.predict(models.keras_two_inputs, samples)["total"][0, 0] == 3.0


def test_a_deadline_ends_the_child(models, monkeypatch):
    # A process of its own: the one that the other tests share would have to import TensorFlow again.
    process = FrameworkProcess(tensorflow_process._process._framework)
    monkeypatch.setattr(tensorflow_process, "_process", process)
    pid = child_pid()
    monkeypatch.setenv("EDGEKIT_TENSORFLOW_DEADLINE_S", "0")
    with pytest.raises(ModelError, match="did not finish") as caught:
        # So many samples take far longer than no time at all, whatever else the machine does.
        tensorflow_process.predict(models.keras_cnn, {"image": np.ones((50_000, 8, 8, 1), np.float32)})
    assert caught.value.code == "EK124"
    assert gone_within(pid, 5)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_child_ends_with_its_parent(how, models):
    script = f"""
        from pathlib import Path
        from edgekit import tensorflow_process
        print(tensorflow_process._process.started().pid, tensorflow_process._process.started().folder, flush=True)
        tensorflow_process.describe(Path({str(models.keras_cnn)!r}))
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        pid, folder = parent.stdout.readline().split()
        time.sleep(0.5)
        parent.send_signal(how)
        parent.wait(10)
    assert gone_within(int(pid), 20)
    assert not Path(folder).exists()


def test_without_tensorflow_the_pip_line_is_named(models):
    script = f"""
        import sys
        sys.modules["tensorflow"] = None
        from pathlib import Path
        from edgekit import tensorflow_process
        from edgekit.errors import DependencyError
        tensorflow_process.start()
        try:
            tensorflow_process.describe(Path({str(models.keras_cnn)!r}))
        except DependencyError as error:
            print(error.code, error.exit_code, error.hint)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == 'EK610 3 Install it: pip install "edgekit[tensorflow]"'


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        ("ConverterError", "x: error: 'tf.Angle' op is neither a custom op nor a flex op", "EK120"),
        ("ConverterError", "failed for another reason", "EK121"),
        ("RuntimeError", "Quantization to 16x8-bit not yet supported for op: 'NEG'.", "EK126"),
        ("TypeError", "Could not locate class 'Swirl'. Make sure custom classes are decorated", "EK109"),
        ("ValueError", "Unknown layer: 'Swirl'. Please ensure you are using a `keras.utils`", "EK109"),
        ("UnusableError", "SquaredDifference only supports FLOAT32 and INT32 now, got 7", "EK122"),
        ("ResourceExhaustedError", "OOM when allocating tensor", "EK135"),
        ("OSError", "Unable to open file", "EK105"),
        ("TooLongError", "lstm", "EK127"),
        ("StatefulError", "", "EK128"),
    ],
)
def test_what_frameworks_say_becomes_a_code(error, message, code):
    translated = translate(Path("m.keras"), error, message, "raw text")
    assert (translated.code, translated.detail) == (code, "raw text")
    assert "m.keras" in translated.message
    assert "\n" not in translated.message


def test_the_reason_stands_before_the_place():
    message = (
        "Exception encountered when calling Dense.call().\n\n\x1b[1mMatrix too small\x1b[0m\n\nArguments: ..."
    )
    translated = translate(Path("m.keras"), "ValueError", message, "", doing="converted")
    assert translated.message == "m.keras cannot be converted by TensorFlow: Matrix too small"
    assert translated.code == "EK121"


def test_a_missing_package_is_a_dependency_error():
    translated = translate(Path("m.h5"), "ModuleNotFoundError", "No module named 'tf_keras'", "")
    assert isinstance(translated, DependencyError)
    assert "tf_keras" in translated.message
