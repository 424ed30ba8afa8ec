"""Runs of single steps: what an error of one says."""

import pytest

import edgekit
from edgekit import pipeline
from edgekit.errors import ModelError
from edgekit.pipeline import Settings, run
from edgekit.plan import Candidate
from edgekit.recipe import Recipe


def test_error_names_the_step_and_those_before_but_no_working_file(models, tmp_path, monkeypatch):
    """The pass writes what no runtime takes, as converters do at times."""
    monkeypatch.setitem(
        pipeline._STEPS, "compact", lambda source, output, settings: output.write_bytes(b"broken") and []
    )
    source = edgekit.open_artifact(models.tflite_cnn)
    candidate = Candidate("ai_edge_quantizer", ("add_signature", "compact"))
    with pytest.raises(ModelError) as caught:
        run(candidate, source, Settings(Recipe.load("dynamic"), {}, {}), tmp_path)
    assert str(tmp_path) not in caught.value.message
    assert "the file that compact made" in caught.value.message
    assert "In step compact of engine ai_edge_quantizer, after add_signature." in caught.value.detail
