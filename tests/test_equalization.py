"""Whether balanced channels are kept: a trial decides, unless the user does."""

import json

import numpy as np
import pytest
from passes.test_equalize import chain, unbalanced

import edgekit
from edgekit.cli._group import run
from edgekit.engines import Job, engine
from edgekit.equalization import Trial, balance
from edgekit.errors import ModelError
from edgekit.formats import open_artifact
from edgekit.recipe import Recipe


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(7).normal(size=(120, 6, 6, 3)).astype(np.float32)


@pytest.fixture
def balanced(samples, tmp_path):
    """Balances a model, deciding by a trial with the real engine; gives what was done and the file's bytes."""

    def run_balance(model, attempt=None):
        source, output = tmp_path / "float.tflite", tmp_path / "out.tflite"
        source.write_bytes(model)
        calibration = {"image": samples[:80]}

        def quantized(model, name):
            job = Job(model, Recipe.load("int8"), tmp_path / f"{name}.tflite", calibration)
            engine("ai_edge_quantizer").quantize(job)
            return job.output

        trial = Trial(attempt or quantized, open_artifact, {"image": samples[80:]})
        found = balance(open_artifact(source), output, calibration, imbalance_db=6.0, trial=trial)
        return found, output.read_bytes()

    return run_balance


def codes_of(found):
    return [finding.code for finding in found.findings]


def test_unbalanced_channels_are_balanced(balanced):
    model = unbalanced(chain())
    found, content = balanced(model)
    assert codes_of(found) == ["EK326"]
    assert found.kept.name == "balanced.tflite"
    assert content != model


def test_balanced_channels_are_left_alone_without_a_word(balanced):
    model = chain()
    found, content = balanced(model)
    assert (found.findings, found.kept, content) == ((), None, model)


def test_what_a_trial_does_not_confirm_is_not_kept(balanced, monkeypatch):
    monkeypatch.setattr("edgekit.equalization._WORTH_DB", 500.0)
    model = unbalanced(chain())
    found, content = balanced(model)
    assert codes_of(found) == ["EK327"]
    assert found.kept.name == "plain.tflite"
    assert content == model


def test_an_engine_that_fails_keeps_nothing(balanced):
    def fails(_model, _name):
        raise ModelError("EK310", "No.")

    model = unbalanced(chain())
    found, content = balanced(model, fails)
    assert (codes_of(found), found.kept) == (["EK327"], None)
    assert content == model


def test_files_whose_outputs_would_change_are_refused(balanced, monkeypatch):
    monkeypatch.setattr("edgekit.passes.equalize.SAME_DB", 500.0)
    model = unbalanced(chain())
    found, content = balanced(model)
    assert codes_of(found) == ["EK327"]
    assert "changed the float outputs" in found.findings[0].message
    assert content == model


@pytest.mark.parametrize(
    ("equalize", "codes"), [("auto", {"EK326"}), ("always", {"EK326"}), ("never", set())]
)
def test_quantize_balances_as_it_is_told(equalize, codes, samples, tmp_path, capsys):
    model, data = tmp_path / "float.tflite", tmp_path / "x.npz"
    model.write_bytes(unbalanced(chain()))
    np.savez(data, x=samples)
    output = tmp_path / "int8.tflite"
    arguments = ["--json", "quantize", str(model), "-o", str(output), "--calibration", str(data)]
    run([*arguments, "--equalize", equalize])
    document = json.loads(capsys.readouterr().out)
    found = {finding["code"] for finding in document["findings"]} & {"EK326", "EK327"}
    assert found == codes
    assert (document["result"]["read_back"]["snr_db"] > 20) is (equalize != "never")
    lineage = json.loads(output.with_name("int8.tflite.json").read_text(encoding="utf-8"))
    assert lineage["options"]["equalize"] == equalize


def test_a_trial_gives_the_file_that_the_steps_give(samples, tmp_path):
    """What the trial has quantized is not quantized again; the result is the same."""
    model, data = tmp_path / "float.tflite", tmp_path / "x.npz"
    model.write_bytes(unbalanced(chain()))
    np.savez(data, x=samples)
    outputs = [tmp_path / f"{equalize}.tflite" for equalize in ("auto", "always")]
    for output in outputs:
        edgekit.quantize(model, output, recipe="int8", calibration=data, equalize=output.stem)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
