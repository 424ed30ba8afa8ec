"""Exported programs of PyTorch: read, run, converted and quantized by the real thing."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.cutting import cutter
from edgekit.errors import ModelError, OutputError
from edgekit.runtimes import open_session

pytestmark = [
    pytest.mark.pytorch,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the torch extra"),
]

_BUILD = Path(__file__).with_name("build_programs.py")


@pytest.fixture(scope="module")
def programs(build_once):
    """The folder with the programs of ``build_programs.py``."""
    return build_once(
        "programs", lambda folder: subprocess.run([sys.executable, str(_BUILD), str(folder)], check=True)
    )


def codes(result):
    return [finding.code for finding in result.findings]


def predicted(artifact, values):
    session = open_session(artifact)
    try:
        return next(iter(session.run({artifact.inputs[0].name: values}).values()))
    finally:
        session.close()


def specs(found):
    return [(spec.name, spec.shape, spec.dtype) for spec in found]


def test_it_is_known_by_its_arguments(programs):
    cnn = edgekit.open_artifact(programs / "cnn_free_batch.pt2")
    assert cnn.format == "pytorch"
    assert specs(cnn.inputs) == [("input", (None, 3, 16, 16), "float32")]
    assert specs(cnn.outputs) == [("output_0", (None, 10), "float32")]
    two = edgekit.open_artifact(programs / "two_inputs.pt2")
    assert specs(two.inputs) == [("first", (1, 4), "float32"), ("second", (1, 4), "float32")]
    assert specs(two.outputs) == [("wide", (1, 3), "float32"), ("total", (1, 4), "float32")]


def test_inspect_sees_the_operators(programs):
    found = edgekit.inspect(programs / "cnn.pt2")
    assert {"CONV_2D", "FULLY_CONNECTED"} <= {facts.operator.kind for facts in found.operators}


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
@pytest.mark.parametrize("name", ["cnn", "cnn_free_batch"])
def test_images_stay_as_they_lie(programs, tmp_path, name, suffix):
    converted = edgekit.convert(programs / f"{name}.pt2", tmp_path / f"model{suffix}")
    assert specs(converted.artifact.inputs) == [("input", (1, 3, 16, 16), "float32")]
    assert specs(converted.artifact.outputs) == [("output_0", (1, 10), "float32")]
    assert converted.fidelity.snr_db > 100
    assert converted.fidelity.top1_agreement == {"output_0": 1.0}
    assert codes(converted) == ["EK344"]


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_several_inputs_and_outputs_keep_their_names(programs, tmp_path, suffix):
    output = tmp_path / f"model{suffix}"
    converted = edgekit.convert(programs / "two_inputs.pt2", output)
    assert {spec.name for spec in converted.artifact.inputs} == {"first", "second"}
    assert converted.fidelity.snr_db > 100
    # A hand-worked sample in the file's own runtime.
    from edgekit.runtimes import open_session

    session = open_session(converted.artifact)
    first, second = np.arange(4, dtype=np.float32)[None], np.ones((1, 4), np.float32)
    assert session.run({"first": first, "second": second})["total"].tolist() == [[1, 3, 5, 7]]
    session.close()


def test_a_free_batch_is_kept_where_the_converter_can(programs, tmp_path):
    source = programs / "cnn_free_batch.pt2"
    kept = edgekit.convert(source, tmp_path / "model.onnx", batch=None)
    assert kept.artifact.inputs[0].shape == (None, 3, 16, 16)
    assert codes(kept) == ["EK344"]
    fixed = edgekit.convert(source, tmp_path / "model.tflite", batch=None)
    assert fixed.artifact.inputs[0].shape == (1, 3, 16, 16)
    assert codes(fixed) == ["EK344", "EK348"]


def test_a_batch_that_the_source_fixes_is_said(programs, tmp_path):
    converted = edgekit.convert(programs / "batch_2.pt2", tmp_path / "model.tflite")
    assert converted.artifact.inputs[0].shape == (2, 3, 16, 16)
    assert converted.fidelity.snr_db > 100
    assert codes(converted) == ["EK344", "EK348"]


def test_it_is_quantized_and_evaluated(programs, tmp_path):
    x = np.random.default_rng(0).normal(size=(100, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "calibration.npz", x=x)
    quantized = edgekit.quantize(
        programs / "cnn.pt2", tmp_path / "int8.tflite", calibration=tmp_path / "calibration.npz"
    )
    assert quantized.read_back.snr_db > 20
    assert quantized.read_back.describe_operators()["quantized"] >= 3


def test_a_function_gives_the_module(programs, tmp_path):
    converted = edgekit.convert(f"{_BUILD}:cnn", tmp_path / "model.tflite")
    assert converted.fidelity.snr_db > 100
    assert codes(converted)[0:2] == ["EK344", "EK349"]
    # What it exported is a model like any other.
    assert edgekit.open_artifact(tmp_path / "model.pt2").sha256 == converted.source.sha256
    with pytest.raises(OutputError, match="exists"):
        edgekit.convert(f"{_BUILD}:cnn", tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("function", "message"), [("nothing", "gave int"), ("missing", "no function missing")]
)
def test_a_function_that_gives_no_module(tmp_path, function, message):
    with pytest.raises(ModelError, match=message) as caught:
        edgekit.convert(f"{_BUILD}:{function}", tmp_path / "model.tflite")
    assert caught.value.code == "EK139"
    assert not list(tmp_path.iterdir())


def test_an_operator_that_no_runtime_has_is_named(programs, tmp_path):
    with pytest.raises(ModelError, match="linalg_eigh") as caught:
        edgekit.convert(programs / "eigenvalues.pt2", tmp_path / "model.tflite")
    assert caught.value.code == "EK120"
    assert not list(tmp_path.iterdir())


def test_the_operator_is_cut_out(programs, tmp_path):
    with pytest.raises(ModelError, match="The smallest part that fails is operator 2 of"):
        edgekit.convert(programs / "eigenvalues.pt2", tmp_path / "model.tflite", bisect=tmp_path)
    report = json.loads((tmp_path / "part.json").read_text())
    assert report["code"] == "EK120"
    assert report["operators"][0].startswith("aten.linalg_eigvalsh")
    assert edgekit.open_artifact(tmp_path / "part.pt2").format == "pytorch"


def test_two_parts_make_the_whole(programs, tmp_path):
    source = edgekit.open_artifact(programs / "cnn.pt2")
    cutting = cutter(source.format)
    count = len(cutting.operators(source.path))
    samples = np.random.default_rng(0).random((2, 3, 16, 16), np.float32)
    exact = predicted(source, samples)
    for place in (1, count // 2, count - 1):
        values = samples
        for number, (first, last) in enumerate(((0, place - 1), (place, count - 1))):
            path = tmp_path / f"{place}-{number}.pt2"
            cutting.cut(source.path, first, last, path)
            values = predicted(edgekit.open_artifact(path), values)
        np.testing.assert_allclose(values, exact, atol=1e-5)


def test_a_program_that_trains_is_refused(programs):
    with pytest.raises(ModelError, match="exported as it trains") as caught:
        edgekit.open_artifact(programs / "training.pt2")
    assert caught.value.code == "EK137"


def _changed(source, target, changes):
    """Copy an archive, with other contents for the members that end as named."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = next((text for end, text in changes.items() if name.endswith(end)), old.read(name))
            new.writestr(name, content)


class _Harmful:
    def __reduce__(self):
        return print, ("CODE OF A MODEL FILE HAS RUN",)


def _pickle_in_zip(path):
    import torch

    torch.save(_Harmful(), path)
    return path.read_bytes()


def test_inputs_that_are_code_are_not_unpickled(programs, tmp_path, capfd):
    harmful = tmp_path / "harmful.pt2"
    _changed(programs / "cnn.pt2", harmful, {"sample_inputs/model.pt": _pickle_in_zip(tmp_path / "code.pt")})
    with pytest.raises(ModelError) as caught:
        edgekit.open_artifact(harmful)
    assert caught.value.code == "EK105"
    assert "HAS RUN" not in capfd.readouterr().out + caught.value.detail


def test_constants_that_are_code_are_refused(programs, tmp_path):
    harmful = tmp_path / "harmful.pt2"
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    config = json.dumps({"config": {"thing": entry}})
    _changed(programs / "cnn.pt2", harmful, {"model_constants_config.json": config})
    with pytest.raises(ModelError, match="thing as a pickled object") as caught:
        edgekit.open_artifact(harmful)
    assert caught.value.code == "EK110"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_was_cut_off(programs, tmp_path, share):
    cut = tmp_path / "cut.pt2"
    content = (programs / "cnn.pt2").read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError) as caught:
        edgekit.open_artifact(cut)
    assert caught.value.code == "EK105"
