"""Extensions and data files are found by name; an unknown name is an error that names the nearest."""

import pytest

from edgekit import catalog
from edgekit.errors import UsageError


def test_names_are_the_files_without_underscore():
    names = catalog.names("cli")
    assert "explain" in names
    assert names == sorted(names)
    assert not any(name.startswith("_") for name in names)


def test_load_imports_the_file_of_that_name():
    assert catalog.load("cli", "explain").__name__ == "edgekit.cli.explain"


@pytest.mark.parametrize("name", ["expalin", "_group", "../errors", "", "__init__"])
def test_load_refuses_an_unknown_name(name):
    with pytest.raises(UsageError) as caught:
        catalog.load("cli", name)
    assert caught.value.code == "EK901"
    assert "explain" in caught.value.hint


def test_the_nearest_name_comes_first():
    error = catalog.unknown("recipe", "itn8", ["float16", "int8"])
    assert error.message == "There is no recipe named 'itn8'."
    assert error.hint == "Did you mean int8? Known: float16, int8."


def test_a_long_list_of_names_is_cut():
    error = catalog.unknown("code", "EK1", [f"EK{number}" for number in range(100, 200)])
    assert error.hint.endswith("EK118, EK119 and 80 more.")


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgekit.metrics]\nother_metric = other_package_metric\n")
    (tmp_path / "other_package_metric.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("plugin")
def test_another_package_can_register_an_extension():
    assert "other_metric" in catalog.names("metrics")
    assert catalog.load("metrics", "other_metric").answer == 42
    assert "other_metric" not in catalog.names("runtimes")


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A package folder of our own with one shipped target, and an empty working folder."""
    package = tmp_path / "site" / "edgekit"
    (package / "_data" / "targets").mkdir(parents=True)
    (package / "_data" / "targets" / "board.toml").write_text("built in")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setattr(catalog, "_PACKAGE", package)
    monkeypatch.chdir(work)
    return work


def test_data_is_looked_up_as_path_then_here_then_built_in(shipped):
    assert catalog.data_file("targets", "board").read_text() == "built in"
    (shipped / "targets").mkdir()
    (shipped / "targets" / "board.toml").write_text("here")
    assert catalog.data_file("targets", "board").read_text() == "here"
    (shipped / "board").write_text("a path")
    assert catalog.data_file("targets", "board").read_text() == "a path"


@pytest.mark.usefixtures("shipped")
def test_an_unknown_data_file_names_the_nearest():
    with pytest.raises(UsageError) as caught:
        catalog.data_file("targets", "bord")
    assert caught.value.hint == "Did you mean board? Known: board."


def test_data_stands_beside_the_package_in_a_checkout():
    assert (catalog.data_folder("examples") / "digits").parent.name == "examples"
    assert catalog.data_folder("targets").is_dir()
