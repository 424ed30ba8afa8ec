"""``search`` on the digits of the examples: the same front by any number of workers, resumed, and on a Ray cluster."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

import edgekit
from edgekit.cli._group import run
from edgekit.errors import DataError, DeviceError, OutputError, UsageError
from edgekit.workflows.search import planned

_ROOT = Path(__file__).parents[2]
_DIGITS = _ROOT / "examples" / "digits"
_SPACE = _ROOT / "examples" / "search" / "space.toml"
_MODEL, _CALIBRATION, _TEST = (_DIGITS / name for name in ("model.tflite", "calibration.npz", "test.npz"))


def search(**options):
    given = {"calibration": _CALIBRATION, "space": _SPACE, "trials": 10, "generation": 5, **options}
    return edgekit.search(_MODEL, _TEST, **given)


def results(found):
    """What has to be the same: each trial's configuration and numbers, and the front."""
    names = (
        "number",
        "configuration",
        "status",
        "size_bytes",
        "snr_db",
        "value",
        "drop",
        "drop_ci95",
        "pareto",
        "error",
    )
    return [{name: one[name] for name in names} for one in found.describe()["tried"]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One worker, everything kept."""
    folder = tmp_path_factory.mktemp("search")
    return search(workers=1, storage=folder / "s.journal", output=folder / "front"), folder


@pytest.mark.slow
def test_two_workers_find_what_one_finds(alone):
    assert results(search(workers=2)) == results(alone[0])


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_finds_what_one_worker_finds(alone):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        address = cluster.address
        found = search(ray=address)
    finally:
        cluster.shutdown()
    assert results(found) == results(alone[0])
    assert found.ray == address


@pytest.mark.slow
def test_a_search_that_ctrl_c_ended_goes_on_to_the_same_front(alone, tmp_path):
    journal = tmp_path / "s.journal"
    words = [
        "search", str(_MODEL), "--data", str(_TEST), "--calibration", str(_CALIBRATION), "--space", str(_SPACE),
        "--trials", "10", "--generation", "5", "--workers", "1", "--storage", str(journal),
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    until = time.monotonic() + 120
    kept = journal.with_name("s.journal.trials")
    while len(list(kept.glob("*.trial.json"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert len(list(kept.glob("*.trial.json"))) < len({one.key for one in alone[0].tried})
    begun = []
    found = search(workers=2, storage=journal, resume=True, report=begun.append)
    assert results(found) == results(alone[0])
    assert sum(one.was_kept for one in begun) >= 2


@pytest.mark.slow
def test_a_finished_search_is_answered_from_what_was_kept_and_goes_on(alone, tmp_path):
    first, folder = alone
    shutil.copy(folder / "s.journal", tmp_path)
    shutil.copytree(folder / "s.journal.trials", tmp_path / "s.journal.trials")
    begun = []
    again = search(storage=tmp_path / "s.journal", resume=True, report=begun.append)
    assert results(again) == results(first)
    assert all(one.was_kept for one in begun)
    more = search(storage=tmp_path / "s.journal", resume=True, trials=15)
    assert len(more.tried) == 15
    assert [one.configuration for one in more.tried[:10]] == [one.configuration for one in first.tried]


@pytest.mark.slow
def test_the_front_is_kept_with_commands_that_make_it_again(alone, tmp_path):
    first, folder = alone
    front = folder / "front"
    document = json.loads((front / "front.json").read_text())
    assert [member["number"] for member in document["front"]] == [one.number for one in first.front]
    sizes = [member["size_bytes"] for member in document["front"]]
    drops = [member["drop"] for member in document["front"]]
    assert sizes == sorted(sizes)
    assert drops == sorted(drops, reverse=True)
    for member in document["front"]:
        model = front / member["model"]
        assert model.stat().st_size == member["size_bytes"]
        words = shlex.split(member["command"])
        words[words.index("-o") + 1] = str(tmp_path / model.name)
        assert run(words[1:]) == 0
        assert (tmp_path / model.name).read_bytes() == model.read_bytes()
    assert (front / "commands.sh").read_text().splitlines() == [m["command"] for m in document["front"]]


@pytest.mark.slow
def test_another_search_in_the_same_storage_is_refused(alone):
    _, folder = alone
    with pytest.raises(UsageError, match="another model, data"):
        search(storage=folder / "s.journal", resume=True, seed=5)
    with pytest.raises(OutputError, match="exists already"):
        search(storage=folder / "s.journal")


@pytest.mark.slow
def test_the_command_has_a_table_a_page_and_a_document(alone, tmp_path, capsys):
    _, folder = alone
    words = [
        "search", str(_MODEL), "--data", str(_TEST), "--calibration", str(_CALIBRATION), "--space", str(_SPACE),
        "--trials", "10", "--generation", "5", "--storage", str(folder / "s.journal"), "--resume",
    ]  # fmt: skip
    page = tmp_path / "front.html"
    assert run([*words, "--plot", str(page), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, edgekit.schema("search"))
    text = page.read_text()
    different = {one["configuration"]["name"] for one in document["result"]["tried"]}
    assert text.count("<circle") == len(different)
    assert "Content-Security-Policy" in text
    for one in document["result"]["tried"]:
        assert one["configuration"]["name"] in text
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert "front" in out
    assert "kept from before" in err


@pytest.mark.slow
def test_latency_is_said_to_promise_nothing(tmp_path):
    found = search(objectives=("latency", "drop"), trials=2, generation=2)
    assert "EK586" in {finding.code for finding in found.findings}
    assert all(one.latency_ms > 0 for one in found.tried if one.is_done)


def test_the_plan_says_what_varies(capsys, tmp_path):
    plan = planned(_MODEL, _TEST, calibration=_CALIBRATION, space=_SPACE, trials=7)
    assert (plan["trials"], plan["samples"], plan["objectives"]) == (7, 600, ["size", "drop"])
    assert plan["space"]["spared"] == [0, 1, 2, 3]
    code = run(["search", str(_MODEL), "--data", str(_TEST), "--dry-run", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == 0
    jsonschema.validate(document, edgekit.schema("search"))
    recipes = document["result"]["plan"]["space"]["recipe"]
    assert not any(name.startswith("static") for name in recipes)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--resume needs --storage"):
        search(resume=True)
    with pytest.raises(DataError, match="no search in"):
        search(resume=True, storage=tmp_path / "none")
    with pytest.raises(UsageError, match="given twice"):
        search(objectives=("size", "size"))
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputError, match="did not make it"):
        search(output=tmp_path / "mine", overwrite=True)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "auto"])
def test_a_cluster_that_is_not_there_is_named(address):
    with pytest.raises(DeviceError, match="no Ray cluster"):
        search(ray=address)
