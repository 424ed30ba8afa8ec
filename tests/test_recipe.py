"""Recipes: names that decode, aliases, files with rules."""

from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.recipe import ALIASES, PRECISIONS, Mode, Recipe


@pytest.mark.parametrize("name", [name for name in PRECISIONS if "_w" in name])
def test_name_decodes_to_mode_and_bits(name):
    precision = Recipe.load(name).default
    mode, weights = name.split("_wi")
    assert precision.mode.value == mode
    assert precision.weight_bits == int(weights[0])
    activation = name.rsplit("_a", 1)[1]
    assert precision.activation_bits == int(activation.lstrip("ifp"))


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_alias_is_the_recipe_that_it_stands_for(alias, name):
    assert Recipe.load(alias) == Recipe.load(name)
    assert Recipe.load(alias).name == name


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(UsageError, match="no recipe named 'itn8'") as caught:
        Recipe.load("itn8")
    assert "Did you mean int8" in caught.value.hint


def test_only_static_recipes_need_calibration():
    needy = {name for name in PRECISIONS if Recipe.load(name).needs_calibration}
    assert needy == {"static_wi8_ai8", "static_wi8_ai16", "static_wi4_ai8"}


def test_file_with_rules_of_which_the_last_match_wins(tmp_path):
    path = tmp_path / "mixed.toml"
    path.write_text(
        """
        schema = 1
        base = "int8"
        [[rules]]
        operators = ["conv_2d"]
        precision = "int4"
        [[rules]]
        layers = "first"
        precision = "float32"
        """
    )
    recipe = Recipe.load(str(path))
    assert recipe.name == "mixed"
    assert recipe.precision_of("FULLY_CONNECTED", ["dense"]).name == "static_wi8_ai8"
    assert recipe.precision_of("CONV_2D", ["second/conv"]).name == "static_wi4_ai8"
    assert recipe.precision_of("CONV_2D", ["first/conv"]).mode is Mode.FLOAT32


def test_the_recipe_of_the_readme_is_read(tmp_path):
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    path = tmp_path / "mixed.toml"
    blocks = [block.split("```")[0] for block in readme.split("```toml")[1:]]
    path.write_text(next(block for block in blocks if "[[rules]]" in block))
    recipe = Recipe.load(str(path))
    assert recipe.precision_of("FULLY_CONNECTED", ["body/dense"]).name == "static_wi4_ai8"
    assert recipe.precision_of("FULLY_CONNECTED", ["head/dense"]).mode is Mode.FLOAT32


def test_keep_float_adds_rules_behind_those_of_the_file():
    recipe = Recipe.load("int8").keeping_float(["^head", "stem"])
    assert recipe.precision_of("CONV_2D", ["head/conv"]).mode is Mode.FLOAT32
    assert recipe.precision_of("CONV_2D", ["the/stem"]).mode is Mode.FLOAT32
    assert recipe.precision_of("CONV_2D", ["the/head"]).mode is Mode.STATIC


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base = 'int8'", "schema = 1"),
        ("schema = 1\nbsae = 'int8'", "'bsae'"),
        ("schema = 1\nbase = 'int9'", "'int9'"),
        ("schema = 1\n[[rules]]\nlayers = 'x'", "rule 1 has no precision"),
        ("schema = 1\n[[rules]]\nlayers = '('\nprecision = 'int8'", "not a regular expression"),
        ("schema = 1\nrules = ['x']", "not a table"),
        ("schema = ", "not readable as TOML"),
    ],
)
def test_wrong_file_is_refused_in_one_sentence(tmp_path, text, said):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        Recipe.load(str(path))
    assert said in caught.value.message
    assert caught.value.hint


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="There is no file"):
        Recipe.load(str(tmp_path / "none.toml"))
