"""The cluster of TF_CONFIG: read as TensorFlow reads it, and what is no cluster refused in a sentence."""

import json

import pytest

from edgekit.errors import UsageError
from edgekit.train.tf_config import Cluster, cluster_of, deadline_s

TWO = {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}


def _config(cluster, kind="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def test_each_process_finds_its_place(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", _config(TWO, index=1))
    cluster = cluster_of("multiworker")
    assert cluster == Cluster(("10.0.0.1:2222", "10.0.0.2:2222"), 1)
    assert (cluster.is_chief, cluster.name) == (False, "worker 1 of 2")


def test_a_chief_stands_before_the_workers(monkeypatch):
    both = {"worker": ["10.0.0.2:2222"], "chief": ["10.0.0.1:2222"]}
    monkeypatch.setenv("TF_CONFIG", _config(both, "chief"))
    assert Cluster.from_environment() == Cluster(("10.0.0.1:2222", "10.0.0.2:2222"), 0)
    monkeypatch.setenv("TF_CONFIG", _config(both))
    assert Cluster.from_environment().index == 1


def test_other_strategies_do_not_look(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    assert cluster_of(None) is None
    assert cluster_of("mirrored") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not set"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no table 'cluster'"),
        ('{"cluster": {}}', "no table 'task'"),
        (_config({"worker": "10.0.0.1:2222"}), "no list of addresses"),
        (_config({"worker": ["10.0.0.1", "10.0.0.2"]}), "each HOST:PORT"),
        (_config({"worker": ["a:1", "b:99999"]}), "each HOST:PORT"),
        (_config({"worker": ["a:1", 2]}), "each HOST:PORT"),
        (_config({"worker": ["10.0.0.1:2222"]}), "names 1 workers"),
        (_config({**TWO, "ps": ["a:1"]}), "do not train: ps"),
        (_config(TWO, index=2), "this is 'worker' 2"),
        (_config(TWO, index=-1), "this is 'worker' -1"),
        (_config(TWO, index="0"), "this is 'worker' '0'"),
        (_config(TWO, index=True), "this is 'worker' True"),
        (_config(TWO, index=1.0), "this is 'worker' 1.0"),
        (_config(TWO, index=[0]), "this is 'worker' [0]"),
        (_config(TWO, "chief"), "this is 'chief' 0"),
        (json.dumps({"cluster": TWO, "task": {}}), "this is None None"),
    ],
)
def test_what_is_no_cluster_is_refused_in_a_sentence(monkeypatch, text, said):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UsageError) as caught:
        Cluster.from_environment()
    assert caught.value.code == "EK787"
    assert said in caught.value.message
    assert len(caught.value.message) < 200


def test_the_deadline_is_a_number_of_seconds(monkeypatch):
    monkeypatch.delenv("EDGEKIT_WORKERS_DEADLINE_S", raising=False)
    assert deadline_s() == 600
    monkeypatch.setenv("EDGEKIT_WORKERS_DEADLINE_S", "2.5")
    assert deadline_s() == 2.5
    for text in ("soon", "0", "nan", "inf", "-1"):
        monkeypatch.setenv("EDGEKIT_WORKERS_DEADLINE_S", text)
        with pytest.raises(UsageError, match="no number of seconds"):
            deadline_s()
