"""Sensitivity: the noise of single layers against what the engine makes of them, and recipes that spare layers."""

import json

import jsonschema
import numpy as np
import pytest

import edgekit
from edgekit.cli._group import run
from edgekit.errors import DataError, UsageError
from edgekit.layerwise.sensitivity import decibels
from edgekit.recipe import PRECISIONS, Recipe
from edgekit.verbs.schema import schema


def quantized(model, output, data, recipe, effort="none"):
    return edgekit.quantize(model, output, recipe=recipe, calibration=data, effort=effort)


@pytest.fixture(scope="module")
def found(models):
    return edgekit.sensitivity(models.tflite_cnn, calibration=models.train_data, effort="none")


@pytest.fixture
def document(capsys):
    """Run the command with --json, and check its document before handing it over."""

    def ask(*arguments, exit_code=0):
        assert run(["sensitivity", *map(str, arguments), "--json"]) == exit_code
        answer = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator(schema("sensitivity")).validate(answer)
        return answer

    return ask


def test_the_noise_of_one_layer_is_what_the_engine_makes_of_it(models, found, tmp_path):
    by_place = {layer.place: layer for layer in found.layers}
    compared = 0
    for layer in found.layers:
        if not layer.weight_bits:
            continue
        recipe = Recipe("one", PRECISIONS["float32"], found.sparing([layer], "static_wi8_ai8").rules)
        file = quantized(models.tflite_cnn, tmp_path / f"{layer.place}.tflite", models.train_data, recipe)
        # The engine rounds what a quantized layer reads too.
        read = [by_place[place].activations_noise for place in layer.reads]
        noise = np.sum([layer.weights_noise, layer.activations_noise, *read], axis=0)
        assert decibels(noise) == pytest.approx(file.read_back.snr_db, abs=3.5)
        compared += 1
    assert compared == 4


def test_without_corrections_the_measured_snr_is_that_of_the_engines_file(models, found, tmp_path):
    file = quantized(models.tflite_cnn, tmp_path / "int8.tflite", models.train_data, "int8")
    assert found.measured_db == pytest.approx(file.read_back.snr_db, abs=0.2)
    assert found.predicted_db == pytest.approx(found.measured_db, abs=4)
    shares = [layer.share_of_noise for layer in found.layers]
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("recipe", "instead", "more"), [("int8", "float32", 5), ("int8", "int16x8", 3), ("int4", "int8", 6)]
)
def test_an_emitted_recipe_keeps_what_it_promises(models, tmp_path, recipe, instead, more):
    plain = edgekit.sensitivity(
        models.tflite_cnn, calibration=models.train_data, recipe=recipe, effort="none"
    )
    found = edgekit.sensitivity(
        models.tflite_cnn,
        calibration=models.train_data,
        recipe=recipe,
        spare_precision=instead,
        reach_db=plain.measured_db + more,
        effort="none",
    )
    assert 0 < len(found.spared.layers) < len(found.layers)
    assert found.spared.snr_db >= plain.measured_db + more
    file = tmp_path / "spared.toml"
    found.write_recipe(file)
    made = quantized(models.tflite_cnn, tmp_path / "spared.tflite", models.train_data, str(file))
    assert made.read_back.snr_db == pytest.approx(found.spared.snr_db, abs=1)
    assert "EK322" not in {finding.code for finding in made.findings}
    if instead == "float32":
        assert made.read_back.describe_operators()["float"] == len(found.spared.layers)


def test_an_emitted_recipe_works_for_onnx(models, tmp_path):
    found = edgekit.sensitivity(models.onnx_cnn, calibration=models.train_data, spare_layers=2)
    assert [layer.operator for layer in found.layers].count("Relu") == 0
    file = tmp_path / "spared.toml"
    found.write_recipe(file)
    made = quantized(models.onnx_cnn, tmp_path / "spared.onnx", models.train_data, str(file))
    # ONNX Runtime's integer kernels round otherwise than the operators as they stand in the file.
    assert made.read_back.snr_db == pytest.approx(found.spared.snr_db, abs=3)
    assert "EK322" not in {finding.code for finding in made.findings}


def test_noise_can_be_measured_on_other_samples_than_those_held_back(models, tmp_path):
    with np.load(models.train_data) as arrays:
        far = tmp_path / "far.npy"
        np.save(far, arrays["x"][:40] * 8)
    found = edgekit.sensitivity(models.tflite_cnn, calibration=models.train_data, noise_data=far, samples=30)
    assert found.samples == 30
    [image] = [layer for layer in found.layers if layer.is_input]
    # Calibration has seen an eighth of it.
    assert image.seen_range[1] > 4 * image.calibrated_range[1]
    assert found.measured_db < 20


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["tflite", "onnx"])
def test_keras_models_are_converted_first(models, tmp_path, wanted):
    found = edgekit.sensitivity(
        models.keras_cnn, calibration=models.train_data, format=wanted, spare_layers=1
    )
    file = tmp_path / "spared.toml"
    found.write_recipe(file)
    output = tmp_path / f"spared.{wanted}"
    made = quantized(models.keras_cnn, output, models.train_data, str(file), effort="low")
    assert made.read_back.describe_operators()["float"] >= 1
    assert made.read_back.snr_db == pytest.approx(found.spared.snr_db, abs=4)
    assert "EK322" not in {finding.code for finding in made.findings}


def test_what_spares_nothing_is_refused(models):
    with pytest.raises(UsageError, match="spares nothing") as error:
        edgekit.sensitivity(models.tflite_cnn, calibration=models.train_data, spare_precision="int4")
    assert error.value.code == "EK562"
    with pytest.raises(UsageError, match="float32 alone"):
        edgekit.sensitivity(models.onnx_cnn, calibration=models.train_data, spare_precision="int16x8")
    with pytest.raises(DataError):
        edgekit.sensitivity(models.tflite_cnn, calibration="nowhere.npz")


def test_the_command_ranks_emits_and_draws(document, models, tmp_path):
    recipe, page = tmp_path / "spared.toml", tmp_path / "page.html"
    answer = document(
        models.tflite_cnn, "--calibration", models.train_data, "--data", models.test_data, "--top", 2,
        "--emit-recipe", recipe, "--spare-layers", 1, "--html", page,
    )  # fmt: skip
    layers = answer["result"]["layers"]
    assert [layer["metric_drop"] is not None for layer in layers] == [True, True] + [False] * (
        len(layers) - 2
    )
    assert layers[0]["metric_drop"]["metric"] == "top1"
    assert layers[0]["metric_drop"]["n"] > 100
    [spared] = answer["result"]["spared"]["layers"]
    assert answer["result"]["emitted"] == str(recipe)
    assert [rule.precision.name for rule in Recipe.load(str(recipe)).rules] == ["float32"]
    assert Recipe.load(str(recipe)).rules[0].matches("CONV_2D", [spared])
    assert layers[0]["name"] in page.read_text(encoding="utf-8")


def test_the_command_refuses_files_that_exist_and_plans(document, models, tmp_path):
    recipe = tmp_path / "spared.toml"
    recipe.write_text("schema = 1")
    refused = document(
        models.tflite_cnn, "--calibration", models.train_data, "--emit-recipe", recipe, exit_code=2
    )
    assert refused["error"]["code"] == "EK602"
    plan = document(models.onnx_cnn, "--calibration", models.train_data, "--dry-run")["result"]
    assert (plan["format"], plan["engine"], plan["samples"]) == ("onnx", "onnxruntime", 64)


def test_reaching_what_is_reached_already_spares_nothing(document, models, tmp_path, capsys):
    recipe = tmp_path / "spared.toml"
    answer = document(
        models.tflite_cnn, "--calibration", models.train_data, "--emit-recipe", recipe, "--reach", 1
    )
    assert answer["result"]["spared"]["layers"] == []
    assert [finding["code"] for finding in answer["findings"]] == ["EK564"]
    assert Recipe.load(str(recipe)).rules == ()
    high = document(
        models.tflite_cnn, "--calibration", models.train_data, "--reach", 300, "--spare-layers", 1
    )
    assert [finding["code"] for finding in high["findings"]] == ["EK565"]
