"""Runs of recipes on the digits of the examples: what is done, what is kept, and what a change does to it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit import files
from edgekit.errors import DataError, ModelError, UsageError
from edgekit.workflows.steps import check_options

_DIGITS = Path(__file__).parents[2] / "examples" / "digits"
_RECIPE = """
[recipe]
schema = 1
model = "model.tflite"

[data]
calibration = "calibration.npz"
test = "test.npz"

[[step]]
do = "quantize"
recipe = "int8"

[[step]]
do = "evaluate"
input = ["source", "quantize"]

[check]
max_drop = 0.03
size_bytes = 25000
"""


def write(folder, text):
    for name in ("model.tflite", "calibration.npz", "test.npz"):
        if not (folder / name).exists():
            shutil.copy(_DIGITS / name, folder)
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def statuses(found):
    return {step.step.id: step.status for step in found.steps}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run from the beginning to the end, in a folder that the tests copy."""
    folder = tmp_path_factory.mktemp("first")
    return folder, edgekit.run(write(folder, _RECIPE))


@pytest.fixture
def again(first, tmp_path):
    """The same recipe in another folder, with everything that was kept."""
    shutil.copytree(first[0], tmp_path, dirs_exist_ok=True)
    return tmp_path / "recipe.toml"


def test_the_steps_are_done_and_the_numbers_are_those_of_the_verbs(first):
    folder, found = first
    assert statuses(found) == {"quantize": "done", "evaluate": "done", "check": "done"}
    assert found.model == folder / "recipe.run" / "quantize" / "quantize.tflite"
    before = edgekit.evaluate(folder / "model.tflite", folder / "test.npz")
    after = edgekit.evaluate(found.model, folder / "test.npz")
    source, quantized = found.steps[1].result.measured
    assert (source["value"], source["drop"]) == (before.value, None)
    assert quantized["value"] == after.value
    assert quantized["n"] == 600
    assert quantized["drop"] == pytest.approx(before.value - after.value)
    broken = int(np.sum((before.rows[:, 1] == before.rows[:, 0]) & (after.rows[:, 1] != after.rows[:, 0])))
    assert quantized["broken"] == broken
    assert found.steps[2].result.document["verdict"] == "pass"
    assert (found.exit_code, found.status) == (0, "ok")
    assert all(finding.message.split(":")[0] in statuses(found) for finding in found.findings)


def test_a_second_run_takes_everything_from_what_is_kept_wherever_the_folder_lies(again):
    found = edgekit.run(again)
    assert set(statuses(found).values()) == {"cached"}
    assert found.exit_code == 0
    assert found.steps[1].result.measured[1]["n"] == 600
    assert [step.status for step in edgekit.run(again, dry_run=True).steps] == ["cached"] * 3


@pytest.mark.parametrize(
    ("changes", "done", "why"),
    [
        ({"quantize.recipe": "dynamic"}, {"quantize", "evaluate", "check"}, "options: recipe"),
        ({"check.max_drop": 0.05}, {"check"}, "options: max_drop"),
        ({"evaluate.samples": 300}, {"evaluate"}, "options: samples"),
    ],
)
def test_only_what_depends_on_a_change_is_done_anew(again, changes, done, why):
    planned = edgekit.run(again, changes=changes, dry_run=True)
    assert {step.step.id for step in planned.steps if step.status == "planned"} == done
    assert why in next(step.why for step in planned.steps if step.status == "planned")
    found = edgekit.run(again, changes=changes)
    assert {step.step.id for step in found.steps if step.status == "done"} == done


def test_changed_data_a_changed_file_and_damage_are_noticed(again):
    folder = again.parent
    with np.load(_DIGITS / "test.npz") as arrays:
        np.savez(folder / "test.npz", x=arrays["x"][:500], y=arrays["y"][:500])
    planned = edgekit.run(again, dry_run=True)
    assert [(step.status, step.why) for step in planned.steps] == [
        ("cached", ""),
        ("planned", "the data of data changed"),
        ("planned", "the data of data changed"),
    ]
    model = folder / "recipe.run" / "quantize" / "quantize.tflite"
    model.write_bytes(model.read_bytes() + b"x")
    assert "quantize.tflite is missing or was changed" in edgekit.run(again, dry_run=True).steps[0].why
    (folder / "recipe.run" / "quantize" / "step.json").write_text('{"schema_version": 1, "ident')
    assert "damaged" in edgekit.run(again, dry_run=True).steps[0].why


def test_a_forced_step_is_done_and_equal_outputs_leave_the_rest(again):
    found = edgekit.run(again, force=["quantize"])
    # Quantization is the same bit for bit, so that nothing behind it has changed.
    assert statuses(found) == {"quantize": "done", "evaluate": "cached", "check": "cached"}
    with pytest.raises(UsageError, match="'quantise'"):
        edgekit.run(again, force=["quantise"])
    assert set(statuses(edgekit.run(again, resume=False)).values()) == {"done"}


def test_a_failed_check_ends_the_run_with_its_exit_code(again):
    text = _RECIPE.replace("[check]", '[[step]]\ndo = "check"\nid = "gate"\nsize_bytes = 1000\n[check]')
    again.write_text(text)
    found = edgekit.run(again)
    assert statuses(found) == {
        "quantize": "cached",
        "evaluate": "cached",
        "gate": "done",
        "check": "left out",
    }
    assert (found.exit_code, found.status) == (1, "failed")
    assert "EK777" in {finding.code for finding in found.findings}
    assert edgekit.run(again).exit_code == 1  # a kept verdict is the same verdict


def test_too_few_samples_are_inconclusive(again):
    assert edgekit.run(again, changes={"check.max_drop": 0.001, "check.samples": 40}).exit_code == 6


def test_the_saved_run_becomes_a_page(first, tmp_path):
    folder, found = first
    saved = json.loads((folder / "recipe.run" / "run.json").read_text())
    assert saved["command"] == "run"
    assert saved["result"]["steps"][0]["artifact"]["size_bytes"] == found.model.stat().st_size
    page = tmp_path / "page.html"
    edgekit.report([folder / "recipe.run" / "run.json"], page)
    assert "quantize" in page.read_text()


def test_a_step_that_is_refused_names_itself_and_what_was_done_stays(again):
    changes = {"evaluate.metric": "auc"}
    with pytest.raises(DataError) as caught:
        edgekit.run(again, changes=changes)
    assert caught.value.message.startswith("Step evaluate: ")
    assert edgekit.run(again, dry_run=True).steps[0].status == "cached"


def test_two_runs_do_not_share_a_folder(again):
    with files.locked_folder(again.parent / "recipe.run"), pytest.raises(UsageError) as caught:
        edgekit.run(again)
    assert caught.value.code == "EK775"


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"quantize.recipy": "int8"}, "EK901", "recipy"),
        ({"quantize.output": "x.tflite"}, "EK901", "output"),
        ({"quantize.seed": "one"}, "EK771", "a whole number"),
        ({"quantize.io": "int9"}, "EK771", "'float32' or"),
        ({"evaluate.samples": True}, "EK771", "samples of evaluate is True"),
        ({"check.max_dorp": 0.1}, "EK901", "max_dorp"),
        ({"check.against": "evaluate"}, "EK773", "evaluate"),
    ],
)
def test_options_are_refused_before_anything_is_done(tmp_path, changes, code, words):
    path = write(tmp_path, _RECIPE)
    with pytest.raises(UsageError) as caught:
        edgekit.run(path, changes=changes)
    assert caught.value.code == code
    assert words in caught.value.message
    assert not (tmp_path / "recipe.run").exists()


@pytest.mark.parametrize("role", ["calibration", "test"])
def test_missing_data_are_noticed_before_anything_is_done(tmp_path, role):
    path = write(tmp_path, _RECIPE.replace(f'{role} = "{role}.npz"\n', ""))
    with pytest.raises(UsageError) as caught:
        edgekit.run(path)
    assert caught.value.code == "EK774"
    assert role in caught.value.hint


def test_data_that_are_not_there_are_noticed_before_anything_is_done(tmp_path):
    path = write(tmp_path, _RECIPE)
    with pytest.raises(DataError, match=r"no data at .*none\.npz"):
        edgekit.run(path, changes={"check.data": "none.npz"})
    with pytest.raises(ModelError):
        edgekit.run(path, changes={"recipe.model": "none.tflite"})
    assert not (tmp_path / "recipe.run").exists()


def test_every_kind_of_step_has_options(tmp_path):
    """The arguments of each verb can be read and none that a run sets itself is left to the user."""
    from edgekit.run_recipe import KINDS, RunRecipe
    from edgekit.workflows.steps import known_options

    for kind in KINDS:
        if kind in edgekit.__all__:
            assert not known_options(kind).keys() & {
                "output",
                "overwrite",
                "progress",
                "model",
                "resume",
                "tflite",
            }
    text = '[recipe]\nschema = 1\nmodel = "m.keras"\n[data]\ntrain = "t.npz"\n[[step]]\ndo = "qat"\n'
    text += (
        'weight_bits = 4\nexclude = ["dense"]\nbatch_size = 64\nlearning_rate = 1e-3\nranges = "learned"\n'
    )
    path = tmp_path / "qat.toml"
    path.write_text(text)
    check_options(RunRecipe.load(path))
    with pytest.raises(UsageError, match="4 or 8"):
        check_options(RunRecipe.load(path, {"qat.weight_bits": 5}))
    with pytest.raises(UsageError, match="does not train on several workers, as qat"):
        check_options(RunRecipe.load(path, {"qat.strategy": "multiworker"}))
