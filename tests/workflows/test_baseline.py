"""Baselines: written and read back, refused when damaged, replaced only by what passed."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.baseline import Baseline
from edgekit.cli._group import run
from edgekit.errors import DataError, OutputError, UsageError

OLD = Path(__file__).parents[1] / "data" / "baseline_v1.json"


@pytest.fixture(scope="module")
def made_once(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    data = pair.data(folder / "d.npz", 300)
    return edgekit.create_baseline(pair.baseline, data, folder / "b.json", max_seconds=0.2)[0], folder


@pytest.fixture
def made(made_once, tmp_path):
    """A baseline and its file, which the test may change."""
    baseline, folder = made_once
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return baseline, tmp_path / "b.json"


def test_it_is_read_back_as_it_was_written(made, pair):
    written, path = made
    found = Baseline.read(path)
    assert found.summary() == written.summary()
    np.testing.assert_array_equal(found.rows, written.rows)
    np.testing.assert_array_equal(found.digests.samples, written.digests.samples)
    assert found.value == pytest.approx(0.9)
    assert found.n == 300
    assert found.model["sha256"] == edgekit.open_artifact(pair.baseline).sha256
    assert found.benchmark.models[0][1] == written.benchmark.models[0][1]
    assert len(found.benchmark.models[0][1].blocks) >= 10
    assert found.versions["edgekit"] == edgekit.__version__


def test_rows_are_those_of_evaluate(made, pair, tmp_path):
    evaluation = edgekit.evaluate(pair.baseline, tmp_path / "d.npz")
    np.testing.assert_array_equal(made[0].rows, evaluation.rows)


def test_an_infinite_value_survives(pair, tmp_path):
    data = pair.data(tmp_path / "d.npz", 60)
    edgekit.create_baseline(
        pair.baseline, data, tmp_path / "b.json", metric="snr", reference=pair.baseline, latency=False
    )
    assert math.isinf(Baseline.read(tmp_path / "b.json").value)
    json.loads((tmp_path / "b.json").read_text(), parse_constant=pytest.fail)


def test_old_ones_are_read():
    found = Baseline.read(OLD)
    assert (found.metric, found.n, found.value) == ("top1", 30, 0.9)
    assert found.benchmark.models[0][1].median > 0
    assert found.digests.digest() == json.loads(OLD.read_text())["data_digest"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_one_is_refused(tmp_path, share):
    content = OLD.read_bytes()
    (tmp_path / "b.json").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match="no baseline of edgekit, or a damaged one") as caught:
        Baseline.read(tmp_path / "b.json")
    assert caught.value.code == "EK470"


def damaged(change):
    document = json.loads(OLD.read_text())
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(n=31),
        lambda d: d["samples"]["rows"].update(shape=[29, 3]),
        lambda d: d["samples"]["rows"].update(shape=[30, 3_000_000_000]),
        lambda d: d["samples"]["rows"].update(dtype="|O"),
        lambda d: d["samples"]["digests"].update(zlib="AAAA"),
        lambda d: d.update(data_digest="0" * 64),
        lambda d: d.update(benchmark={"zlib": 3}),
        lambda d: d.update(ci95=None),
        lambda d: d.pop("metric"),
        lambda d: d.update(kind="benchmark"),
        lambda d: d.update(schema_version="1"),
    ],
)
def test_one_changed_by_hand_is_refused(tmp_path, change):
    (tmp_path / "b.json").write_text(damaged(change))
    with pytest.raises(DataError) as caught:
        Baseline.read(tmp_path / "b.json")
    assert caught.value.code in {"EK470", "EK541"}


def test_one_of_a_newer_edgekit_is_refused(tmp_path):
    (tmp_path / "b.json").write_text(damaged(lambda d: d.update(schema_version=2)))
    with pytest.raises(DataError, match="schema version 2; this edgekit reads up to 1"):
        Baseline.read(tmp_path / "b.json")


def test_what_never_ends_is_not_read():
    with pytest.raises(DataError, match="no baseline"):
        Baseline.read(Path("/dev/zero"))
    with pytest.raises(UsageError, match="it is no regular file"):
        edgekit.Budget.read(Path("/dev/zero"))


def test_deep_nesting_is_no_crash(tmp_path):
    (tmp_path / "b.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="no baseline"):
        Baseline.read(tmp_path / "b.json")


def test_a_file_in_its_place_is_kept(pair, tmp_path):
    data = pair.data(tmp_path / "d.npz", 30)
    (tmp_path / "b.json").write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        edgekit.create_baseline(pair.baseline, data, tmp_path / "b.json")
    assert (tmp_path / "b.json").read_text() == "precious"


@pytest.fixture
def checked(made, pair, tmp_path):
    edgekit.check(pair.candidate, made[1], limits={"max_drop": 0.05}, save_candidate=tmp_path / "c.json")
    return tmp_path / "c.json"


def test_a_candidate_that_passed_is_promoted(made, checked, pair):
    old, path = made
    edgekit.promote(checked, path)
    found = Baseline.read(path)
    assert found.model["path"] == str(pair.candidate)
    assert [entry["model_sha256"] for entry in found.history] == [old.model["sha256"]]
    # What it is now was checked against what it was before, and so is not promoted again.
    with pytest.raises(UsageError, match="another baseline"):
        edgekit.promote(checked, path)


def test_a_candidate_that_failed_is_not_promoted_without_force(made, checked):
    candidate = Baseline.read(checked)
    replace(candidate, checked={**candidate.checked, "verdict": "fail"}).save(checked)
    before = made[1].read_bytes()
    with pytest.raises(UsageError, match="fail, not pass"):
        edgekit.promote(checked, made[1])
    assert made[1].read_bytes() == before
    edgekit.promote(checked, made[1], force=True)
    assert made[1].read_bytes() != before


def test_what_was_never_checked_is_not_promoted(made, pair, tmp_path):
    edgekit.create_baseline(pair.candidate, tmp_path / "d.npz", tmp_path / "c.json", latency=False)
    with pytest.raises(UsageError, match="was not checked"):
        edgekit.promote(tmp_path / "c.json", made[1])


def test_the_command_shows_what_it_holds(capsys):
    assert run(["baseline", "show", str(OLD)]) == 0
    shown = capsys.readouterr().out
    assert "90.00%" in shown
    assert "30 samples" in shown
    assert run(["baseline", "show", "nothing.json"]) == 7
    assert "nothing.json does not exist" in capsys.readouterr().err


def test_the_command_makes_one_and_its_document_says_so(pair, tmp_path, capsys):
    data = pair.data(tmp_path / "d.npz", 30)
    arguments = [
        "baseline",
        "create",
        str(pair.baseline),
        "--data",
        str(data),
        "-o",
        str(tmp_path / "b.json"),
    ]
    assert run([*arguments, "--no-latency", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "baseline"
    assert document["result"]["n"] == 30
    assert document["result"]["latency"] is None
    assert run(["baseline", "--help"]) == 0
