"""The shipped target profiles: facts with their sources, and names that edgekit knows."""

import tomllib

import pytest

from edgekit.artifact import Format
from edgekit.catalog import data_folder, names
from edgekit.recipe import PRECISIONS

_PROFILES = sorted(data_folder("targets").glob("*.toml"))
_TEXTS = {"schema", "description", "default_recipe"}


@pytest.fixture(params=_PROFILES, ids=lambda file: file.stem)
def profile(request):
    return tomllib.loads(request.param.read_text(encoding="utf-8"))


def test_there_are_profiles():
    assert {"linux-x86-64", "raspberry-pi-5"} <= {file.stem for file in _PROFILES}


def test_every_fact_has_its_source(profile):
    facts = {name: fact for name, fact in profile.items() if name not in _TEXTS}
    assert set(facts) == {"processor", "formats", "runtimes", "dtypes"}
    for fact in facts.values():
        assert set(fact) in ({"value", "source"}, {"values", "source"})
        assert fact["source"].startswith("https://")


def test_names_are_those_of_edgekit(profile):
    assert profile["schema"] == 1
    assert profile["description"].endswith(".")
    assert profile["default_recipe"] in PRECISIONS
    assert set(profile["formats"]["values"]) <= {item.value for item in Format}
    assert set(profile["runtimes"]["values"]) <= set(names("runtimes"))
