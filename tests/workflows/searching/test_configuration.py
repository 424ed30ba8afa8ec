"""Configurations and spaces: what a point means, which files are refused, and that no file is made twice."""

import itertools
import json
from pathlib import Path

import pytest

from edgekit.artifact import Format
from edgekit.errors import UsageError
from edgekit.recipe import Recipe
from edgekit.workflows.searching.configuration import KNOBS, Configuration, engines
from edgekit.workflows.searching.space import Space, sparing

_EXAMPLE = Path(__file__).parents[3] / "examples" / "search" / "space.toml"
_RANKING = {"static_wi4_ai8": ("b", "a", "c"), "static_wi8_ai8": ("c",)}


def space(tmp_path, text, source=Format.TFLITE, output=Format.TFLITE):
    path = tmp_path / "space.toml"
    path.write_text(text)
    return Space.read(path, source, output)


def test_a_configuration_is_read_as_it_was_described():
    made = Configuration("static_wi4_ai8", knobs={"effort": "medium"}, rules=(("conv", "float32"),)).sparing(
        ["b", "a"], "static_wi8_ai8"
    )
    again = Configuration.read(json.loads(json.dumps(made.describe())))
    assert again == made
    assert again.digest("x") == made.digest("x") != made.digest("y")
    assert made.name == "static_wi4_ai8, effort medium, 2 layers static_wi8_ai8, conv float32"


def test_what_changes_nothing_makes_no_other_configuration():
    assert Configuration("float16", knobs={"effort": "medium"}) == Configuration("float16")
    assert Configuration("static_wi8_ai8", knobs={"effort": "low"}) == Configuration("static_wi8_ai8")
    assert Configuration("static_wi8_ai8", "tensorflow", {"effort": "none"}).knobs == {}
    assert Configuration("static_wi8_ai8", rules=(("x", "static_wi8_ai8"),)) == Configuration(
        "static_wi8_ai8"
    )
    assert Configuration("static_wi8_ai8", spared_as="float32") == Configuration("static_wi8_ai8")


def test_spared_layers_are_matched_whole_and_with_what_engines_put_behind_them():
    recipe = Configuration("static_wi4_ai8").sparing(["a/conv.1"], "static_wi8_ai8").recipe_with_rules
    spared = {name for name in ("a/conv.1", "a/conv.1;", "a/convX1", "a/conv.12", "aa/conv.1", "b")
              if recipe.precision_of("CONV_2D", [name]).name == "static_wi8_ai8"}  # fmt: skip
    assert spared == {"a/conv.1", "a/conv.1;"}


def test_the_recipe_file_of_a_configuration_says_the_same(tmp_path):
    made = Configuration("static_wi4_ai8", rules=(("d", "float32"),)).sparing(["a;b"], "static_wi8_ai8")
    path = tmp_path / "recipe.toml"
    path.write_text(made.toml())
    assert Recipe.load(str(path)) == made.recipe_with_rules
    words = made.command(Path("m.tflite"), path, "-o", "out.tflite")
    assert words[:3] == ["edgekit", "quantize", "m.tflite"]
    assert words[words.index("-r") + 1] == str(path)
    plain = Configuration("static_wi8_ai8", knobs={"effort": "none"}).command(Path("m.tflite"), path)
    assert plain[plain.index("-r") + 1] == "static_wi8_ai8"
    assert plain[-2:] == ["--effort", "none"]


def test_tensorflow_is_an_engine_for_what_it_reads():
    assert "tensorflow" in engines(Format.KERAS, Format.TFLITE, "static_wi8_ai8")
    assert engines(Format.TFLITE, Format.TFLITE, "static_wi8_ai8") == ("ai_edge_quantizer",)
    assert engines(Format.KERAS, Format.TFLITE, "static_wi4_ai8") == ("ai_edge_quantizer",)
    assert engines(Format.ONNX, Format.ONNX, "static_wi8_ai8") == ("onnxruntime",)


def test_the_example_is_a_space_and_each_of_its_points_a_configuration():
    found = Space.read(_EXAMPLE, Format.TFLITE, Format.TFLITE)
    dimensions = found.dimensions()
    assert dimensions["recipe"] == (
        "static_wi4_ai8",
        "static_wi8_ai8",
        "static_wi8_ai16",
        "dynamic_wi8_afp32",
    )
    assert dimensions["effort"] == ("low", "medium")
    assert dimensions["spared"] == (0, 1, 2, 3)
    points = [
        dict(zip(dimensions, values, strict=True)) for values in itertools.product(*dimensions.values())
    ]
    made = [found.configuration(point, Format.TFLITE, Format.TFLITE, _RANKING) for point in points]
    # 4 bits: 2 efforts, and 3 counts in 2 ways; 8 bits: 2 efforts, and 1 layer in 2 ways; 16x8: 2 efforts; dynamic.
    assert len({one.digest() for one in made}) == 2 * (1 + 3 * 2) + 2 * (1 + 2) + 2 + 1


def test_a_point_spares_the_first_of_the_ranking():
    found = Space(
        ("static_wi4_ai8",), ("ai_edge_quantizer",), spared=3, spared_as=("float32", "static_wi8_ai8")
    )
    point = {
        "recipe": "static_wi4_ai8",
        "engine": "ai_edge_quantizer",
        "spared": 2,
        "spared_as": "static_wi8_ai8",
    }
    made = found.configuration(point, Format.TFLITE, Format.TFLITE, _RANKING)
    assert made.spared == ("a", "b")
    assert made.spared_as == "static_wi8_ai8"
    assert found.configuration({**point, "spared": 0}, Format.TFLITE, Format.TFLITE, _RANKING).spared == ()


def test_onnx_mixes_with_float_alone():
    assert sparing("static_wi8_ai8", Format.TFLITE) == ("static_wi8_ai16", "float32")
    assert sparing("static_wi8_ai8", Format.ONNX) == ("float32",)
    assert sparing("float16", Format.TFLITE) == ()


def test_what_needs_calibration_leaves_where_there_is_none():
    usual = Space.usual(Format.TFLITE, Format.TFLITE)
    assert "static_wi8_ai8" in usual.recipes
    assert usual.without_calibration().recipes == tuple(
        r for r in usual.recipes if not r.startswith("static")
    )
    with pytest.raises(UsageError, match="needs calibration"):
        Space(("static_wi8_ai8",), ("ai_edge_quantizer",)).without_calibration()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "schema = 1"),
        ("schema = 1\n[choice]\n", "choice"),
        ("schema = 1\nchoices = 3\n", "not a table"),
        ('schema = 1\n[choices]\nrecipe = "int8"\n', "no list"),
        ('schema = 1\n[choices]\nrecipe = ["int8", "int8"]\n', "different"),
        ('schema = 1\n[choices]\nrecipe = ["itn8"]\n', "itn8"),
        ('schema = 1\n[choices]\neffort = ["hihg"]\n', "no value of effort"),
        ('schema = 1\n[choices]\nengine = ["tensorflow"]\n', "tensorflow"),
        ("schema = 1\n[choices]\ncalibration_samples = [0]\n", "calibration_samples"),
        ("schema = 1\n[spare]\nlayers = -1\n", "layers"),
        ('schema = 1\n[layers]\n"(" = ["int8"]\n', "regular expression"),
        ("schema = 1\n[", "cannot be read"),
    ],
)
def test_a_file_that_is_no_space_is_refused(tmp_path, text, said):
    with pytest.raises(UsageError) as caught:
        space(tmp_path, text)
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no file"):
        Space.read(tmp_path / "none.toml", Format.TFLITE, Format.TFLITE)


def test_layers_by_name_are_dimensions(tmp_path):
    found = space(
        tmp_path, 'schema = 1\n[choices]\nrecipe = ["int8"]\n[layers]\n"conv" = ["int8", "float32"]\n'
    )
    assert found.dimensions() == {
        "recipe": ("static_wi8_ai8",),
        "engine": ("ai_edge_quantizer",),
        "layers conv": ("static_wi8_ai8", "float32"),
    }
    point = {"recipe": "static_wi8_ai8", "engine": "ai_edge_quantizer", "layers conv": "float32"}
    made = found.configuration(point, Format.TFLITE, Format.TFLITE, {})
    assert made.rules == (("conv", "float32"),)


def test_every_knob_is_an_option_of_quantize():
    import inspect

    import edgekit

    assert set(KNOBS) <= set(inspect.signature(edgekit.quantize).parameters)
