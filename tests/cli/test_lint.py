"""``edgekit lint`` for people and for programs."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import edgekit
from edgekit.cli._group import run
from edgekit.verbs.schema import schema

_DIGITS = Path(edgekit.__file__).parent.parent / "examples" / "digits"
_MODEL, _CALIBRATION = str(_DIGITS / "model.tflite"), str(_DIGITS / "calibration.npz")


@pytest.fixture
def bright(tmp_path):
    with np.load(_CALIBRATION) as arrays:
        path = tmp_path / "bright.npz"
        np.savez(path, x=arrays["x"] * 255, y=arrays["y"])
    return str(path)


def test_clean_data_end_with_0_and_the_next_command(capsys):
    assert run(["lint", _CALIBRATION, "--model", _MODEL]) == 0
    captured = capsys.readouterr()
    assert "200 samples, 200 of them run through model.tflite: no mistake was found." in captured.out
    assert "--against was not given." in captured.out
    assert "next: edgekit quantize" in captured.err


def test_a_mistake_ends_with_7_its_code_and_its_fix(bright, capsys):
    assert run(["lint", bright, "--model", _MODEL]) == 7
    captured = capsys.readouterr()
    assert "1 mistake." in captured.out
    assert "error EK240" in captured.err
    assert "--preprocess SPEC" in captured.err


def test_the_document_follows_its_schema(bright, capsys):
    assert run(["lint", bright, "--model", _MODEL, "--samples", "60", "--json"]) == 7
    document = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(schema("lint")).validate(document)
    assert document["status"] == "failed"
    assert (document["result"]["samples"], document["result"]["samples_run"]) == (200, 60)
    verdicts = {check["check"]: check["verdict"] for check in document["result"]["checks"]}
    assert (verdicts["wrong_range"], verdicts["duplicates"], verdicts["leakage"]) == (
        "mistake",
        "clean",
        "not run",
    )


def test_a_dry_run_lists_what_would_be_looked_for(capsys):
    assert run(["lint", _CALIBRATION, "--model", _MODEL, "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(schema("lint")).validate(document)
    assert len(document["result"]["checks"]) == 12


def test_a_missing_file_is_one_sentence(capsys):
    assert run(["lint", "none.npz", "--model", _MODEL]) == 7
    assert "EK201" in capsys.readouterr().err
