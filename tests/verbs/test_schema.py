"""Every document that a command prints has the form that ``edgekit schema`` says."""

import json
from pathlib import Path

import jsonschema
import pytest

import edgekit
from edgekit.catalog import names
from edgekit.cli._group import run
from edgekit.errors import UsageError
from edgekit.verbs.schema import schema

_DIGITS = Path(edgekit.__file__).parent.parent / "examples" / "digits"
_MODEL, _CALIBRATION, _TEST = (
    str(_DIGITS / name) for name in ("model.tflite", "calibration.npz", "test.npz")
)


@pytest.fixture
def document(capsys, tmp_path, monkeypatch):
    """Run a command line in an empty folder, and check its document before handing it over."""
    monkeypatch.chdir(tmp_path)

    def ask(*arguments: str, exit_code: int = 0) -> dict:
        assert run([*arguments, "--json"]) == exit_code
        answer = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator(schema(arguments[0])).validate(answer)
        return answer

    return ask


def test_a_device_that_fails_has_its_error_in_its_place(document):
    where = ("--device", "local", "--device", "null")
    measured = document("benchmark", _MODEL, "--runs", "20", *where, exit_code=5)
    evaluated = document("evaluate", _MODEL, "--data", _TEST, "--samples", "20", *where, exit_code=5)
    for answer in (measured, evaluated):
        first, second = answer["result"]["devices"]
        assert (first["device"], second["device"]) == ("local", "null")
        assert second["error"]["code"] == "EK804"
        assert answer["status"] == "failed"


def test_every_command_has_a_schema():
    files = {file.stem for file in (Path(edgekit.__file__).parent / "schemas").glob("*.json")}
    assert files == {*names("cli"), "document"}


@pytest.mark.parametrize("name", names("cli"))
def test_every_schema_is_one(name):
    found = schema(name)
    jsonschema.Draft202012Validator.check_schema(found)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", "EK601"),
        ("schema", "quantize"),
        ("doctor", "--no-imports"),
        ("inspect", _MODEL),
        ("inspect", _MODEL, "--ops", "--tensors"),
        ("evaluate", _MODEL, "--data", _TEST, "--samples", "50"),
        ("evaluate", _MODEL, "--data", _TEST, "--samples", "50", "--metric", "snr", "--reference", _MODEL),
        ("evaluate", _MODEL, "--data", _TEST, "--dry-run"),
        ("debug", _MODEL, "--runtime-b", "litert_builtin", "--data", _TEST, "--samples", "2"),
        ("debug", _MODEL, _MODEL, "--data", _TEST, "--dry-run"),
        ("benchmark", _MODEL, "--runs", "20", "--warmup", "5"),
        ("benchmark", _MODEL, _MODEL, "--runs", "40", "--warmup", "5"),
        ("benchmark", _MODEL, "--dry-run"),
        ("benchmark", _MODEL, "--runs", "20", "--device", "local"),
        pytest.param(("benchmark", _MODEL, "--sustained", "10", "--device", "local"), marks=pytest.mark.slow),
        ("evaluate", _MODEL, "--data", _TEST, "--samples", "50", "--device", "local"),
        ("quantize", _MODEL, "-o", "a.tflite", "-r", "dynamic"),
        ("quantize", _MODEL, "-o", "a.tflite", "--calibration", _CALIBRATION, "--evaluate", _TEST),
        ("quantize", _MODEL, "-o", "a.tflite", "--calibration", _CALIBRATION, "--dry-run"),
        ("lint", _CALIBRATION, "--model", _MODEL, "--against", _TEST),
        ("lint", _CALIBRATION, "--model", _MODEL, "--dry-run"),
        ("demo", "--dry-run"),
    ],
    ids=lambda arguments: " ".join(Path(word).name for word in arguments),
)
def test_documents_follow_their_schema(document, arguments):
    if arguments[0] not in names("cli"):
        pytest.skip(f"there is no command {arguments[0]}")
    assert document(*arguments)["status"] == "ok"


def test_errors_follow_it_too(document):
    assert document("quantize", "none.tflite", "-o", "a.tflite", exit_code=7)["status"] == "error"
    assert document("explain", "EK000", exit_code=2)["status"] == "error"


def test_a_document_with_a_wrong_field_is_refused(document):
    answer = document("explain", "EK601")
    answer["result"]["titel"] = answer["result"].pop("title")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema("explain")).validate(answer)


def test_an_unknown_command_names_the_nearest():
    with pytest.raises(UsageError) as caught:
        schema("quantise")
    assert "Did you mean quantize?" in caught.value.hint
