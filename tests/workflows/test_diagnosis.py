"""Diagnosis: models and calibration data broken on purpose, and whether it names what was broken and mends it."""

import json
import shlex

import jsonschema
import numpy as np
import pytest

import edgekit
from edgekit import flatbuffer
from edgekit.catalog import data_folder
from edgekit.cli._group import run
from edgekit.verbs.schema import schema
from edgekit.workflows.diagnosis import diagnose

_LIMIT = 0.01


@pytest.fixture(scope="session")
def digits():
    folder = data_folder("examples") / "digits"
    return folder / "model.tflite", folder / "calibration.npz", folder / "test.npz"


@pytest.fixture(scope="session")
def rescaled(digits, tmp_path_factory):
    """The same function, with three channels behind the first ReLU 128 times as large."""

    def edit(tree):
        graph = tree.subgraphs[0]
        stem, following = graph.operators[:2]
        for index, change in (
            (stem.inputs[1], lambda values: values[:3].__imul__(128)),
            (stem.inputs[2], lambda values: values[:3].__imul__(128)),
            (following.inputs[1], lambda values: values[..., :3].__itruediv__(128)),
        ):
            tensor = graph.tensors[index]
            buffer = tree.buffers[tensor.buffer]
            values = np.frombuffer(bytes(memoryview(buffer.data)), np.float32).reshape(tensor.shape).copy()
            change(values)
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)

    path = tmp_path_factory.mktemp("rescaled") / "rescaled.tflite"
    path.write_bytes(flatbuffer.rewrite(digits[0].read_bytes(), edit))
    return path


def changed(calibration, folder, change):
    """The calibration data with something done to its samples."""
    with np.load(calibration) as arrays:
        content = {name: arrays[name] for name in arrays.files}
    x = content["x"].astype(np.float32)
    change(x)
    path = folder / "changed.npz"
    np.savez(path, **(content | {"x": x}))
    return path


def diagnosed(model, calibration, test, folder):
    output = folder / "int8.tflite"
    made = edgekit.quantize(model, output, recipe="int8", calibration=calibration, effort="none")
    options = {"recipe": "int8", "effort": "none"}
    found = diagnose(model, output, test, calibration=calibration, limit=_LIMIT, options=options)
    assert found.before.drop > _LIMIT, "the break is not one"
    return made, found


def test_the_rescaled_model_computes_what_the_other_does(digits, rescaled):
    drop = edgekit.before_and_after(digits[0], rescaled, digits[2]).drop
    assert (drop.broken, drop.fixed) == (0, 0)


def test_unbalanced_channels_are_named_and_mended_by_sparing_layers(digits, rescaled, tmp_path):
    _, found = diagnosed(rescaled, digits[1], digits[2], tmp_path)
    [cause] = found.causes
    assert cause.kind == "unbalanced"
    assert "stem" in cause.layer or "middle" in cause.layer
    mended = found.mended_by
    assert mended is not None
    assert mended.drop <= _LIMIT < found.before.drop
    assert mended.snr_db > found.before.snr_db + 10
    text = found.paragraph()
    assert cause.layer.split(";")[0] in text
    assert shlex.join(mended.arguments) in found.finding.hint
    assert mended.option in text


def test_an_outlier_in_calibration_is_found_and_left_out(digits, tmp_path):
    calibration = changed(digits[1], tmp_path, lambda x: x[17].__imul__(5000))
    _, found = diagnosed(digits[0], calibration, digits[2], tmp_path)
    assert found.causes[0].kind == "stretched"
    assert found.causes[0].layer == "image"
    mended = found.mended_by
    assert mended is not None
    assert "without sample 17 " in mended.option
    assert mended.drop <= _LIMIT


def test_a_wrong_range_in_calibration_is_found_and_mended_by_other_samples(digits, tmp_path):
    calibration = changed(digits[1], tmp_path, lambda x: x.__itruediv__(16))
    _, found = diagnosed(digits[0], calibration, digits[2], tmp_path)
    assert found.causes[0].kind == "cut off"
    assert found.causes[0].layer == "image"
    assert found.first_loss is not None
    mended = found.mended_by
    assert mended is not None
    assert "judged by the others" in mended.option
    # Samples that calibrate do not judge.
    with np.load(digits[2]) as arrays:
        assert found.samples < len(arrays["x"])


def test_onnx_files_are_diagnosed_too(models, tmp_path):
    calibration = changed(models.train_data, tmp_path, lambda x: x[::20].__imul__(500))
    output = tmp_path / "int8.onnx"
    edgekit.quantize(models.onnx_cnn, output, recipe="int8", calibration=calibration)
    found = diagnose(models.onnx_cnn, output, models.test_data, calibration=calibration, limit=0.05)
    assert found.before.drop > 0.05
    assert found.causes[0].kind == "stretched"
    assert "without samples 0, 20, 40 ..." in found.mended_by.option


def test_without_labels_the_snr_is_judged(digits, rescaled, tmp_path):
    samples = tmp_path / "x.npy"
    with np.load(digits[2]) as arrays:
        np.save(samples, arrays["x"][:64])
    output = tmp_path / "int8.tflite"
    edgekit.quantize(rescaled, output, recipe="int8", calibration=digits[1], effort="none")
    found = diagnose(rescaled, output, samples, calibration=digits[1], options={"effort": "none"})
    assert found.before.drop is None
    assert found.mended_by.snr_db >= 26 > found.before.snr_db


def test_quantize_says_why_and_exits_with_1(digits, rescaled, tmp_path, capsys):
    output = tmp_path / "int8.tflite"
    words = [
        "quantize",
        rescaled,
        "-o",
        output,
        "-r",
        "int8",
        "--calibration",
        digits[1],
        "--evaluate",
        digits[2],
        "--equalize",
        "never",
    ]
    assert run([*map(str, words), "--max-drop", "1", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(schema("quantize")).validate(answer)
    assert answer["status"] == "failed"
    assert output.is_file()
    diagnosis = answer["result"]["diagnosis"]
    assert diagnosis["mended_by"] in diagnosis["text"]
    assert [f["message"] for f in answer["findings"] if f["code"] == "EK567"] == [diagnosis["text"]]


def test_quantize_within_the_limit_needs_no_diagnosis(digits, tmp_path, capsys):
    words = ["quantize", digits[0], "-o", tmp_path / "a.tflite", "-r", "int8", "--calibration", digits[1]]
    assert run([*map(str, words), "--evaluate", str(digits[2]), "--max-drop", "3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(schema("quantize")).validate(answer)
    assert answer["result"]["diagnosis"] is None
    words[3] = tmp_path / "b.tflite"
    assert run([*map(str, words), "--max-drop", "3", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "EK568"
