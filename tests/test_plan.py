"""Plans: which engines can do what, without doing anything."""

import pytest

from edgekit.artifact import Format
from edgekit.errors import UsageError
from edgekit.plan import plan_quantization
from edgekit.recipe import PRECISIONS, Recipe


def engines(source, output, recipe="int8", engine="auto"):
    plan = plan_quantization(source, output, Recipe.load(recipe), engine_name=engine)
    return {candidate.engine: candidate.steps for candidate in plan.candidates}


def test_tflite_needs_no_tensorflow():
    assert engines(Format.TFLITE, Format.TFLITE) == {
        "ai_edge_quantizer": (
            "fix_batch",
            "add_signature",
            "bound_pads",
            "fold_batch_norm",
            "subtract",
            "equalize",
            "quantize",
            "ranges_and_biases",
            "drop_conversions",
            "set_io",
            "pointwise",
            "compact",
        )
    }


@pytest.mark.parametrize("source", [Format.KERAS, Format.SAVED_MODEL])
def test_models_with_a_framework_try_both_ways(source):
    found = engines(source, Format.TFLITE)
    assert set(found) == {"ai_edge_quantizer", "tensorflow"}
    assert found["ai_edge_quantizer"][0] == "export_tflite"
    assert found["tensorflow"] == ("quantize", "drop_conversions", "set_io", "pointwise", "compact")


def test_onnx_is_reached_directly_or_by_export():
    steps = (
        "fold_batch_norm_onnx",
        "prepare_onnx",
        "equalize",
        "quantize",
        "ranges_and_biases",
        "compact_onnx",
    )
    assert engines(Format.ONNX, Format.ONNX) == {"onnxruntime": steps}
    assert engines(Format.KERAS, Format.ONNX) == {"onnxruntime": ("export_onnx", *steps)}


def test_engine_that_cannot_follow_the_recipe_is_refused_with_its_reason():
    plan = plan_quantization(Format.KERAS, Format.TFLITE, Recipe.load("int4"))
    assert [candidate.engine for candidate in plan.candidates] == ["ai_edge_quantizer"]
    assert "no static_wi4_ai8" in plan.refused["tensorflow"]


def test_no_way_says_why_for_each_engine():
    with pytest.raises(UsageError, match="No engine makes onnx out of tflite") as caught:
        plan_quantization(Format.TFLITE, Format.ONNX, Recipe.load("dynamic_wi4_afp32"))
    assert caught.value.hint.count("it writes tflite") == 2


def test_named_engine_is_not_replaced():
    assert set(engines(Format.KERAS, Format.TFLITE, engine="tensorflow")) == {"tensorflow"}
    with pytest.raises(UsageError):
        engines(Format.TFLITE, Format.TFLITE, engine="tensorflow")
    with pytest.raises(UsageError, match="no engine named"):
        engines(Format.TFLITE, Format.TFLITE, engine="tensroflow")


def test_float32_is_no_quantization():
    with pytest.raises(UsageError, match="changes nothing"):
        plan_quantization(Format.TFLITE, Format.TFLITE, Recipe("float32", PRECISIONS["float32"]))


@pytest.mark.parametrize(
    ("recipe", "effort", "equalize", "expected"),
    [
        ("int8", "low", "auto", True),
        ("int8", "none", "auto", False),
        ("int8", "none", "always", True),
        ("int8", "medium", "never", False),
        ("dynamic", "low", "always", False),
    ],
)
def test_channels_are_balanced_for_static_recipes(recipe, effort, equalize, expected):
    plan = plan_quantization(
        Format.KERAS, Format.TFLITE, Recipe.load(recipe), effort=effort, equalize=equalize
    )
    found = {candidate.engine: "equalize" in candidate.steps for candidate in plan.candidates}
    # TFLiteConverter reads the Keras model itself.
    assert found == {"ai_edge_quantizer": expected, "tensorflow": False}
