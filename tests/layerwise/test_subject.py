"""The float file with everything rounded computes what the quantized file computes, in both formats."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.artifact import Format
from edgekit.calibration import draw
from edgekit.layerwise.measuring import Outputs
from edgekit.layerwise.sensitivity import decibels
from edgekit.layerwise.sparing import settled
from edgekit.layerwise.subject import Care, open_subject
from edgekit.recipe import Recipe
from edgekit.runtimes import open_session
from edgekit.tensor import difference


def opened(model: Path, data: Path, folder: Path, *, recipe="int8", output=Format.TFLITE, effort="none"):
    source = edgekit.open_artifact(model)
    samples, _ = draw(edgekit.open_dataset(data), source.inputs, count=None, seed=0)
    return open_subject(source, Recipe.load(recipe), samples, folder, output=output, care=Care(effort))


def rounded_everywhere(subject):
    weights = {key: values for place in subject.places for key, values in place.weights.items()}
    grids = {place.value.key: place.grid for place in subject.places if place.grid is not None}
    return subject.graph.rounded(weights, grids)


@pytest.mark.parametrize("recipe", ["int8", "int16x8", "int4", "weight_only"])
def test_all_places_rounded_at_once_are_the_quantized_tflite(models, tmp_path, recipe):
    subject = opened(models.tflite_cnn, models.train_data, tmp_path, recipe=recipe)
    outputs = Outputs(subject, tmp_path)
    exact = decibels(outputs.noise_of(subject.quantized))
    assert decibels(outputs.noise(rounded_everywhere(subject))) == pytest.approx(exact, abs=0.3)


@pytest.mark.parametrize("recipe", ["int8", "int16x8"])
def test_all_places_rounded_at_once_are_the_quantized_onnx(models, tmp_path, recipe):
    subject = opened(models.onnx_cnn, models.train_data, tmp_path, recipe=recipe, output=Format.ONNX)
    everywhere = tmp_path / "everywhere.onnx"
    everywhere.write_bytes(rounded_everywhere(subject))
    # Integer kernels round otherwise: the operators as they stand in the files are what has to agree.
    sessions = [
        open_session(artifact, "onnxruntime_unoptimized")
        for artifact in (subject.quantized, edgekit.open_artifact(everywhere))
    ]
    quantized, rounded = (next(iter(session.run(subject.inputs).values())) for session in sessions)
    assert difference(quantized, rounded).snr_db > 60


def test_dynamic_layers_are_measured_in_their_own_kernels(models, tmp_path):
    subject = opened(models.tflite_cnn, models.train_data, tmp_path, recipe="dynamic")
    outputs = Outputs(subject, tmp_path)
    whole = sum(outputs.noise(subject.rounded(weights=place))[0] for place in subject.places)
    exact = decibels(outputs.noise_of(subject.quantized))
    assert decibels((whole,)) == pytest.approx(exact, abs=3)
    assert all(np.isfinite(decibels(outputs.noise(subject.rounded(weights=p)))) for p in subject.places)


def test_corrected_biases_leave_less_noise_of_the_weights(models, tmp_path):
    plain = opened(models.tflite_cnn, models.train_data, tmp_path, effort="low")
    outputs = Outputs(plain, tmp_path)

    def noise(subject):
        return sum(outputs.noise(subject.rounded(weights=p))[0] for p in subject.places if p.weights)

    assert noise(plain.corrected()) < noise(plain)


def test_biases_are_corrected_only_where_that_helps(models, tmp_path):
    subject = opened(models.tflite_cnn, models.train_data, tmp_path, effort="low")
    outputs = Outputs(subject, tmp_path)
    ones = [1.0] * len(subject.places)
    both = [decibels(outputs.noise(one.mixed(ones, ones))) for one in (subject, subject.corrected())]
    _, reached = settled(subject, outputs)
    assert reached == (both[1] if both[1] >= both[0] + 0.5 else both[0])
    harmful = replace(subject, biases={key: values + 1 for key, values in subject.biases.items()})
    assert settled(harmful, outputs) == (harmful, both[0])
