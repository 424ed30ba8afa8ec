"""Conversion: the result runs in another runtime and computes what its source computes."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import edgekit
from edgekit.artifact import TensorSpec
from edgekit.cli._group import run
from edgekit.errors import ModelError, UsageError
from edgekit.fidelity import measure
from edgekit.formats import open_artifact
from edgekit.reference import Reference


def codes(findings):
    return [finding.code for finding in findings]


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
@pytest.mark.parametrize("source", ["keras_cnn", "saved_model_cnn"])
def test_what_trains_becomes_what_is_deployed(models, tmp_path, source, suffix):
    output = tmp_path / f"model{suffix}"
    converted = edgekit.convert(getattr(models, source), output, data=models.test_data)
    assert converted.artifact.sha256 == open_artifact(output).sha256
    assert converted.artifact.inputs[0].shape == (1, 8, 8, 1)
    assert converted.fidelity.samples == 32
    assert converted.fidelity.snr_db > 100
    assert list(converted.fidelity.top1_agreement.values()) == [1.0]
    assert not converted.findings
    # Judged by itself, and not only by what the command says of it.
    before = edgekit.evaluate(getattr(models, source), models.test_data, workers=1).value
    assert edgekit.evaluate(output, models.test_data, workers=1).value == before


@pytest.mark.parametrize("source", ["tflite_cnn", "tflite_cnn_dynamic_batch", "tflite_cnn_no_signature"])
def test_tflite_becomes_onnx(models, tmp_path, source):
    converted = edgekit.convert(getattr(models, source), tmp_path / "model.onnx", data=models.test_data)
    assert converted.artifact.inputs[0].shape == (1, 8, 8, 1)
    assert converted.fidelity.snr_db > 100


def test_several_inputs_and_outputs_are_paired(models, tmp_path):
    converted = edgekit.convert(models.keras_two_inputs, tmp_path / "model.tflite")
    assert sorted(converted.fidelity.differences) == ["total", "wide"]
    assert converted.fidelity.snr_db > 100
    assert codes(converted.findings) == ["EK344"]


def test_a_free_batch_is_kept_where_it_is_asked_for(models, tmp_path):
    converted = edgekit.convert(models.keras_cnn, tmp_path / "model.onnx", batch=None, data=models.test_data)
    assert converted.artifact.inputs[0].shape == (None, 8, 8, 1)
    assert converted.fidelity.snr_db > 100
    assert not converted.findings


def test_fewer_samples_than_asked_for_are_a_finding(models, tmp_path):
    few = tmp_path / "few.npz"
    with np.load(models.test_data) as data:
        np.savez(few, x=data["x"][:3], y=data["y"][:3])
    converted = edgekit.convert(models.keras_cnn, tmp_path / "model.tflite", data=few)
    assert converted.fidelity.samples == 3
    assert codes(converted.findings) == ["EK342"]


def test_the_lineage_says_from_what_and_how(models, tmp_path):
    output = tmp_path / "model.tflite"
    edgekit.convert(models.keras_cnn, output, data=models.test_data)
    lineage = json.loads((tmp_path / "model.tflite.json").read_text())
    assert lineage["source_sha256"] == open_artifact(models.keras_cnn).sha256
    assert lineage["engine"] == "tensorflow"
    assert lineage["options"]["compared_on"] == {"data": str(models.test_data), "count": 32}


def test_the_preprocessing_contract_is_inherited(models, tmp_path):
    """A converted file expects of its samples what its source expects."""
    half = tmp_path / "half.tflite"
    edgekit.quantize(models.tflite_cnn, half, recipe="float16", preprocess="imagenet-torch")
    edgekit.convert(half, tmp_path / "half.onnx")
    lineages = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("half.tflite", "half.onnx")]
    assert lineages[0]["preprocessing"]
    assert lineages[0]["preprocessing"] == lineages[1]["preprocessing"]


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("tflite_cnn", "model.tflite", "tflite already"),
        ("onnx_cnn", "model.onnx", "onnx already"),
        ("tflite_cnn", "model.bin", "does not say which format"),
    ],
)
def test_nothing_leads_there(models, tmp_path, source, output, message):
    with pytest.raises(UsageError, match=message):
        edgekit.convert(getattr(models, source), tmp_path / output)
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_there_stays(models, tmp_path):
    output = tmp_path / "model.tflite"
    output.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists"):
        edgekit.convert(models.keras_cnn, output)
    assert output.read_bytes() == b"mine"


class _Session:
    """A runtime that gives what it was told to give."""

    def __init__(self, outputs):
        self._outputs = outputs

    def run(self, _inputs):
        return self._outputs

    def close(self):
        pass


def _measured(monkeypatch, exact, measured):
    """The fidelity of a converted model that gives ``measured`` in place of ``exact``."""
    specs = (TensorSpec("y", (1, exact.shape[1]), "float32"),)
    artifact = SimpleNamespace(inputs=specs, outputs=specs)
    monkeypatch.setattr("edgekit.reference.open_session", lambda _artifact: _Session({"y": measured}))
    return measure(Reference(artifact, {"y": exact}, {"y": exact}), artifact)


def test_hand_worked_distance(monkeypatch):
    exact = np.array([[3.0, 4.0], [4.0, 3.0]], np.float32)
    measured = np.array([[3.0, 4.0], [4.0, 3.5]], np.float32)
    fidelity = _measured(monkeypatch, exact, measured)
    # The sum of squares is 50, that of the errors 0.25.
    assert fidelity.snr_db == pytest.approx(10 * np.log10(200))
    assert fidelity.differences["y"].max_abs == 0.5


def test_another_largest_value_is_a_finding(monkeypatch):
    exact = np.array([[3.0, 3.01], [4.0, 3.0]], np.float32)
    measured = np.array([[3.02, 3.01], [4.0, 3.0]], np.float32)
    fidelity = _measured(monkeypatch, exact, measured)
    assert fidelity.top1_agreement == {"y": 0.5}
    assert codes(fidelity.findings()) == ["EK340", "EK345"]


@pytest.mark.parametrize("measured", [[[4.0, 3.0], [0.0, 1.0]], [[np.nan, 3.0], [4.0, 3.0]]])
def test_another_function_is_refused(monkeypatch, measured):
    exact = np.array([[3.0, 4.0], [4.0, 3.0]], np.float32)
    with pytest.raises(ModelError, match="computes something else") as caught:
        _measured(monkeypatch, exact, np.array(measured, np.float32))
    assert caught.value.code == "EK341"


def test_people_see_how_near_it_is(models, tmp_path, capsys):
    output = tmp_path / "model.tflite"
    assert run(["convert", str(models.keras_cnn), "-o", str(output), "--data", str(models.test_data)]) == 0
    out, err = capsys.readouterr()
    assert "32 of 32" in out
    assert "next: edgekit quantize" in err


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_images_lie_as_asked_for(models, tmp_path, layout):
    output = tmp_path / "model.tflite"
    converted = edgekit.convert(models.keras_cnn, output, layout=layout, data=models.test_data)
    assert converted.artifact.inputs[0].shape == ((1, 8, 8, 1) if layout == "nhwc" else (1, 1, 8, 8))
    assert converted.fidelity.snr_db > 100
    with np.load(models.test_data) as data:
        x = data["x"] if layout == "nhwc" else data["x"].transpose(0, 3, 1, 2)
        np.savez(tmp_path / "laid.npz", x=x, y=data["y"])
    before = edgekit.evaluate(models.keras_cnn, models.test_data, workers=1).value
    assert edgekit.evaluate(output, tmp_path / "laid.npz", workers=1).value == before


def test_dry_run_names_the_steps(models, tmp_path, capsys):
    output = tmp_path / "model.onnx"
    assert run(["convert", str(models.tflite_cnn), "-o", str(output), "--dry-run", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert (result["converter"], result["steps"]) == ("tf2onnx", ["fix_batch", "spell_out", "export_onnx"])
    assert not output.exists()


def test_what_a_converter_refuses_is_said_of_the_users_file(models, tmp_path):
    """tf2onnx writes opset 17, in which no integers of 16 bits are quantized."""
    wide = tmp_path / "wide.tflite"
    edgekit.quantize(models.tflite_cnn, wide, recipe="int16x8", calibration=models.train_data)
    with pytest.raises(ModelError, match=f"invalid file from {wide}") as caught:
        edgekit.convert(wide, tmp_path / "wide.onnx")
    assert caught.value.code == "EK125"
    assert not (tmp_path / "wide.onnx").exists()


def test_both_formats_are_compared_with_each_other(models, tmp_path, capsys):
    output = tmp_path / "model.onnx"
    words = [
        "convert",
        str(models.keras_cnn),
        "-o",
        str(output),
        "--data",
        str(models.test_data),
        "--check-both",
    ]
    assert run([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    twin = result["twin"]
    assert (result["artifact"]["format"], twin["artifact"]["format"]) == ("onnx", "tflite")
    assert twin["converter"] == "tensorflow"
    assert (
        min(fidelity["snr_db"] for fidelity in (result["fidelity"], twin["fidelity"], twin["between"])) > 100
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        name for stem in ("model.onnx", "model.tflite") for name in (stem, f"{stem}.json")
    }
    # A file that is there is seen before anything is made.
    output.unlink()
    assert run(words) == 2
    assert not output.exists()
