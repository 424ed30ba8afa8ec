"""The smallest part that fails: exact where one run of operators is at fault, and a file that really fails."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgekit
from edgekit.bisection import smallest_part
from edgekit.errors import ModelError, UsageError


@given(st.integers(1, 500), st.data())
def test_the_run_at_fault_is_found(count, data):
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first, count - 1))
    tried = []

    def fails(low, high):
        tried.append((low, high))
        return low <= first and last <= high

    assert smallest_part(count, fails) == (first, last)
    assert len(tried) <= 1 + 2 * count.bit_length()


@given(st.integers(1, 60), st.sets(st.integers(0, 59), min_size=1))
def test_of_several_faults_one_is_found(count, faults):
    there = {fault for fault in faults if fault < count}
    found = smallest_part(count, lambda low, high: any(low <= fault <= high for fault in there))
    assert found is None if not there else found[0] == found[1] in there


def test_nothing_is_found_where_nothing_fails():
    assert smallest_part(10, lambda _first, _last: False) is None
    assert smallest_part(0, lambda _first, _last: True) is None


def convert_again(folder, command):
    """What the written command says, with the paths of the test."""
    words = command.split()
    assert words[:2] == ["edgekit", "convert"]
    return edgekit.convert(folder / words[2], folder / words[4])


def test_a_layer_that_cannot_be_converted_is_cut_out(models, tmp_path):
    """The exact GELU, which tf2onnx gets wrong, stands beside a tanh and a sum that are fine."""
    folder, output = tmp_path / "failing", tmp_path / "model.onnx"
    with pytest.raises(
        ModelError, match=r"The smallest part that fails is operator \d of 3, Dense "
    ) as caught:
        edgekit.convert(models.odd / "ops.keras", output, bisect=folder)
    assert not output.exists()
    report = json.loads((folder / "part.json").read_text())
    assert report["code"] == caught.value.code == "EK125"
    assert [text.split()[0] for text in report["operators"]] == ["Dense"]
    with pytest.raises(ModelError) as again:
        convert_again(folder, report["command"])
    assert again.value.code == "EK125"
    assert sorted(path.name for path in folder.iterdir()) == ["part.json", "part.keras"]


def test_a_search_that_fails_does_not_hide_why_it_was_made(models, tmp_path, monkeypatch):
    def refuse(_path):
        raise ModelError("EK355", "Its graph is code.")

    monkeypatch.setattr("edgekit.cutting.keras.operators", refuse)
    with pytest.raises(ModelError, match=r"not found: Its graph is code\.") as caught:
        edgekit.convert(models.odd / "ops.keras", tmp_path / "model.onnx", bisect=tmp_path)
    assert caught.value.code == "EK125"


def test_nothing_is_written_where_the_conversion_works(models, tmp_path):
    edgekit.convert(models.keras_cnn, tmp_path / "model.tflite", bisect=tmp_path / "failing")
    assert not (tmp_path / "failing").exists()


def test_a_saved_model_is_refused_at_once(models, tmp_path):
    with pytest.raises(UsageError) as caught:
        edgekit.convert(models.saved_model_cnn, tmp_path / "model.tflite", bisect=tmp_path / "failing")
    assert caught.value.code == "EK355"


def test_a_part_that_was_there_stays(models, tmp_path):
    (tmp_path / "part.keras").write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists"):
        edgekit.convert(models.keras_cnn, tmp_path / "model.tflite", bisect=tmp_path)
    assert (tmp_path / "part.keras").read_bytes() == b"mine"
