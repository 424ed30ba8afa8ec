"""Recipes of runs: what is read, what is refused, and in which words."""

import pytest

from edgekit.errors import UsageError
from edgekit.run_recipe import RunRecipe

_HEAD = '[recipe]\nschema = 1\nmodel = "model.keras"\n'


def load(folder, text, changes=None):
    path = folder / "small.toml"
    path.write_text(text)
    return RunRecipe.load(path, changes)


def refusal(folder, text, changes=None):
    with pytest.raises(UsageError) as caught:
        load(folder, text, changes)
    return caught.value


def test_steps_read_the_model_before_them(tmp_path):
    found = load(
        tmp_path,
        _HEAD + '[data]\ntrain = "a.npz"\n'
        '[[step]]\ndo = "prune"\nsparsity = 0.8\n[[step]]\ndo = "qat"\n[[step]]\ndo = "evaluate"\n'
        '[[step]]\ndo = "qat"\nid = "small"\ninput = "prune"\n[[step]]\ndo = "compare"\n[check]\nmax_drop = 0.01\n',
    )
    assert [(step.id, step.do, step.inputs) for step in found.steps] == [
        ("prune", "prune", ("source",)),
        ("qat", "qat", ("prune",)),
        ("evaluate", "evaluate", ("qat",)),
        ("small", "qat", ("prune",)),
        ("compare", "compare", ("source", "small")),
        ("check", "check", ("small",)),
    ]
    assert [step.tflite for step in found.steps[:2]] == [False, True]
    assert found.name == "small"
    assert found.model == tmp_path / "model.keras"
    assert found.data == {"train": str(tmp_path / "a.npz")}
    assert found.steps[0].options == {"sparsity": 0.8}


def test_paths_are_seen_from_the_recipe_and_names_stay(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    text = _HEAD + '[data]\ntrain = "feed.py:samples"\npreprocess = "digits"\n[[step]]\ndo = "evaluate"\n'
    found = load(tmp_path, text)
    assert found.data == {"train": f"{tmp_path}/feed.py:samples", "preprocess": "digits"}


def test_changes_replace_values_and_their_paths_are_seen_from_here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "other.npz").write_bytes(b"")
    monkeypatch.chdir(tmp_path / "here")
    text = _HEAD + '[data]\ntest = "test.npz"\n[[step]]\ndo = "qat"\nepochs = 2\n[check]\nmax_drop = 0.1\n'
    changes = {"qat.epochs": 5, "data.test": "other.npz", "check.max_drop": 0.2}
    found = load(tmp_path, text, changes)
    assert found.steps[0].options == {"epochs": 5}
    assert found.steps[1].options == {"max_drop": 0.2}
    assert found.data == {"test": str(tmp_path / "here" / "other.npz")}


def test_an_option_inside_of_a_table_is_changed_alone(tmp_path, monkeypatch):
    (tmp_path / "large.tflite").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    text = _HEAD + '[[step]]\ndo = "qat"\nteacher = { model = "small.tflite", alpha = 0.5 }\n'
    found = load(tmp_path, text, {"qat.teacher.model": "large.tflite", "qat.teacher.temperature": 2})
    wanted = {"model": str(tmp_path / "large.tflite"), "alpha": 0.5, "temperature": 2}
    assert found.steps[0].options == {"teacher": wanted}
    assert refusal(tmp_path, text, {"qat.teacher.alpha.more": 1}).code == "EK776"


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("not = toml = at all", "EK770", "cannot be read"),
        ('[recipe]\nmodel = "m"\n[[step]]\ndo = "qat"\n', "EK770", "schema = 1"),
        ("[recipe]\nschema = 1\n[[step]]\ndo = 'qat'\n", "EK770", "model is None"),
        (_HEAD, "EK770", "0 steps"),
        (_HEAD + "step = 3\n", "EK901", "step"),
        (_HEAD + "[[step]]\nepochs = 3\n", "EK770", "no 'do'"),
        (_HEAD + '[[step]]\ndo = "qtt"\n', "EK901", "qtt"),
        (_HEAD + '[date]\n[[step]]\ndo = "qat"\n', "EK901", "date"),
        (_HEAD + '[data]\ntrian = "x.npz"\n[[step]]\ndo = "qat"\n', "EK901", "trian"),
        (_HEAD + '[data]\ntrain = 3\n[[step]]\ndo = "qat"\n', "EK770", "train is 3"),
        (_HEAD + '[[step]]\ndo = "qat"\n[[step]]\ndo = "qat"\n', "EK772", "Two steps"),
        (_HEAD + '[[step]]\ndo = "qat"\nid = "../up"\n', "EK772", "../up"),
        (_HEAD + '[[step]]\ndo = "qat"\nid = "source"\n', "EK772", "source"),
        (_HEAD + '[[step]]\ndo = "qat"\ntflite = "yes"\n', "EK771", "tflite"),
        (_HEAD + '[[step]]\ndo = "qat"\ninput = "prune"\n', "EK773", "prune"),
        (_HEAD + '[[step]]\ndo = "qat"\ninput = ["source", "source"]\n', "EK773", "one model"),
        (_HEAD + '[[step]]\ndo = "evaluate"\n[[step]]\ndo = "benchmark"\ninput = "evaluate"\n', "EK773", "evaluate"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_a_sentence(tmp_path, text, code, word):
    error = refusal(tmp_path, text)
    assert error.code == code
    assert word in error.message
    assert error.exit_code == 2


def test_the_nearest_name_is_given(tmp_path):
    assert "Did you mean quantize?" in refusal(tmp_path, _HEAD + '[[step]]\ndo = "quantise"\n').hint
    text = _HEAD + '[[step]]\ndo = "qat"\n'
    assert "Did you mean qat?" in refusal(tmp_path, text, {"qta.epochs": 3}).hint
    assert refusal(tmp_path, text, {"epochs": 3}).code == "EK776"


def test_a_missing_file_and_a_device_are_refused(tmp_path):
    with pytest.raises(UsageError, match="There is no file"):
        RunRecipe.load(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="no regular file"):
        RunRecipe.load(type(tmp_path)("/dev/zero"))
