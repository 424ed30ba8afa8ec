"""Models that tflite_runtime gets wrong are refused, and those that it gets right are not."""

import numpy as np
import pytest

import edgekit
from edgekit.devices import model_limits, trial
from edgekit.errors import TargetError


@pytest.fixture
def dense(tmp_path):
    """Quantize the trial's model, one layer without a bias, with a recipe."""
    source, data = tmp_path / "dense.tflite", tmp_path / "data.npz"
    np.savez(data, x=np.random.default_rng(0).random((32, 4), dtype=np.float32))

    def quantize(recipe: str, outputs: int = 3):
        source.write_bytes(trial.tflite(outputs))
        made = tmp_path / f"dense.{recipe}.tflite"
        edgekit.quantize(source, made, recipe=recipe, calibration=str(data), engine="ai-edge-quantizer")
        return edgekit.open_artifact(made)

    return quantize


@pytest.mark.parametrize("architecture", ["aarch64", "armv7l", "x86_64"])
def test_dynamic_layers_are_refused_everywhere(dense, architecture):
    with pytest.raises(TargetError) as refused:
        model_limits.check(dense("dynamic"), "tflite_runtime", architecture)
    assert refused.value.exit_code == 4
    assert refused.value.code == "EK839"
    assert "FULLY_CONNECTED 'y'" in refused.value.message
    assert "weight_only_wi8_afp32" in refused.value.hint


@pytest.mark.parametrize(("outputs", "crashes_on"), [(3, {"aarch64", "armv7l"}), (8, {"armv7l"})])
def test_int8_layers_without_bias_are_refused_on_arm_alone(dense, outputs, crashes_on):
    artifact = dense("int8", outputs)
    for architecture in ("x86_64", "aarch64", "armv7l"):
        if architecture in crashes_on:
            with pytest.raises(TargetError, match="crashes"):
                model_limits.check(artifact, "tflite_runtime", architecture)
        else:
            model_limits.check(artifact, "tflite_runtime", architecture)


@pytest.mark.parametrize("recipe", ["weight_only", "float16", "int16x8"])
def test_what_the_hint_advises_is_not_refused(dense, recipe):
    model_limits.check(dense(recipe), "tflite_runtime", "aarch64")


@pytest.mark.parametrize("recipe", ["dynamic", "int8"])
def test_other_runtimes_have_none_of_these_defects(dense, recipe):
    model_limits.check(dense(recipe), "litert", "aarch64")


def test_convolutions_are_refused_with_four_bits_alone(models, tmp_path):
    for precision, refused in (("dynamic_wi8_afp32", False), ("dynamic_wi4_afp32", True)):
        recipe, made = tmp_path / f"{precision}.toml", tmp_path / f"{precision}.tflite"
        recipe.write_text(
            f'schema = 1\nbase = "float32"\n[[rules]]\noperators = ["CONV_2D"]\nprecision = "{precision}"\n'
        )
        edgekit.quantize(models.tflite_cnn, made, recipe=str(recipe), engine="ai-edge-quantizer")
        artifact = edgekit.open_artifact(made)
        if refused:
            with pytest.raises(TargetError, match="4-bit CONV_2D"):
                model_limits.check(artifact, "tflite_runtime", "x86_64")
        else:
            model_limits.check(artifact, "tflite_runtime", "x86_64")


def test_int8_with_biases_is_not_refused_on_arm(models):
    """The CNN's ten outputs with biases, and the TensorFlow converter's file of the same model, run there."""
    model_limits.check(edgekit.open_artifact(models.tflite_cnn_int8), "tflite_runtime", "aarch64")
