"""Runs of single steps: what an error of one says."""

import pytest

import edgekit
from edgekit import pipeline
from edgekit.errors import ModelError
from edgekit.pipeline import Settings, run
from edgekit.plan import Candidate
from edgekit.recipe import Recipe


def write_nonsense(_source, output, _settings):
    """What converters do at times: a file that no runtime takes, and no error."""
    output.write_bytes(b"broken")
    return []


def test_error_names_the_step_and_those_before_but_no_working_file(models, tmp_path, monkeypatch):
    monkeypatch.setitem(pipeline._STEPS, "compact", write_nonsense)
    source = edgekit.open_artifact(models.tflite_cnn)
    candidate = Candidate("ai_edge_quantizer", ("add_signature", "compact"))
    with pytest.raises(ModelError) as caught:
        run(candidate, source, Settings(Recipe.load("dynamic"), {}, {}), tmp_path)
    assert str(tmp_path) not in caught.value.message
    assert "the file that compact made" in caught.value.message
    assert "In step compact of engine ai_edge_quantizer, after add_signature." in caught.value.detail
