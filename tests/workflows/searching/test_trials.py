"""What trials are made from, what is kept of them, which stand on a front, and that equal ones are tried once."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgekit
from edgekit import files
from edgekit.artifact import Format
from edgekit.data import open_dataset
from edgekit.errors import OutputError, UsageError
from edgekit.formats import open_artifact
from edgekit.workflows.searching.configuration import Configuration
from edgekit.workflows.searching.evaluator import Evaluator
from edgekit.workflows.searching.material import Asked, Material, halves, labels_of
from edgekit.workflows.searching.setting import Setting, overlaps
from edgekit.workflows.searching.store import Store
from edgekit.workflows.searching.trial import try_out
from edgekit.workflows.searching.tried import Tried, deaths, fronts

_DIGITS = Path(__file__).parents[3] / "examples" / "digits"


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.integers(0, 5))
def test_halves_are_apart_and_have_half_of_every_class(labels, seed):
    labels = np.array(labels)
    first, second = halves(labels, seed)
    assert sorted(first + second) == list(range(len(labels)))
    assert list(first) == sorted(first)
    assert abs(len(first) - len(second)) <= 1
    for label in np.unique(labels):
        parts = [int((labels[list(half)] == label).sum()) for half in (first, second)]
        assert abs(parts[0] - parts[1]) <= 1


def test_halves_depend_on_the_seed_alone():
    labels = np.arange(40) % 4
    assert halves(labels, 1) == halves(labels, 1) != halves(labels, 2)


def test_labels_that_are_no_classes_are_halved_too():
    first, second = halves(np.random.default_rng(0).normal(size=(9, 3)), 0)
    assert sorted(first + second) == list(range(9))


def test_samples_without_labels_tell_no_drop(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 2), np.float32))
    with pytest.raises(UsageError, match="no labels"):
        labels_of(open_dataset(tmp_path / "x.npy"))


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    asked = Asked(
        open_artifact(_DIGITS / "model.tflite"),
        Format.TFLITE,
        open_dataset(_DIGITS / "calibration.npz"),
        open_dataset(_DIGITS / "test.npz").subset(range(0, 600, 3)),
        None,
    )
    return asked, Material.prepare(asked, tmp_path_factory.mktemp("material"))


def test_material_has_the_samples_as_the_model_takes_them(material):
    asked, made = material
    with np.load(made.search) as arrays, np.load(_DIGITS / "test.npz") as whole:
        assert np.array_equal(arrays["y"], whole["y"][::3])
        name = asked.source.inputs[0].name
        assert np.array_equal(arrays[name], whole["x"][::3].astype(arrays[name].dtype))
    assert made.before.shape == (200, 3)
    assert (made.metric, made.n) == ("top1", 200)


def test_material_that_moved_is_read_where_it_is(material, tmp_path):
    _, made = material
    again = Material.unpacked(made.packed(with_original=True), tmp_path)
    assert again.model.read_bytes() == made.model.read_bytes()
    assert again.model.parent == tmp_path
    assert Path(again.search).parent == tmp_path
    assert (again.metric, again.n, again.seed) == (made.metric, made.n, made.seed)


def test_a_trial_makes_the_file_that_quantize_makes_of_what_the_user_gave(material, tmp_path):
    _, made = material
    found = try_out(made, Configuration("static_wi8_ai8"), tmp_path / "trial.tflite")
    direct = edgekit.quantize(
        _DIGITS / "model.tflite",
        tmp_path / "direct.tflite",
        recipe="int8",
        calibration=_DIGITS / "calibration.npz",
    )
    assert found.document["status"] == "done"
    assert found.document["sha256"] == direct.artifact.sha256
    assert found.document["snr_db"] == pytest.approx(direct.read_back.snr_db)
    test = open_dataset(_DIGITS / "test.npz").subset(range(0, 600, 3))
    drop = edgekit.before_and_after(_DIGITS / "model.tflite", direct.artifact, test).drop
    assert (found.document["broken"], found.document["fixed"]) == (drop.broken, drop.fixed)
    assert found.document["drop"] == drop.drop


def test_a_configuration_that_cannot_be_done_is_a_result(material, tmp_path):
    _, made = material
    found = try_out(made, Configuration("static_wi8_ai8", "onnxruntime"), tmp_path / "trial.tflite")
    assert found.document["status"] == "failed"
    assert found.document["error"]["code"] == "EK905"
    assert list(tmp_path.iterdir()) == []


class _Here:
    """Trials in this process; ``begun`` says which were tried."""

    def __init__(self, material):
        self.material, self.begun = material, []

    def run(self, jobs, _until):
        for number, (configuration, output) in enumerate(jobs):
            self.begun.append(configuration)
            yield number, try_out(self.material, configuration, output).document


def evaluator(material, folder, seen=None):
    asked, made = material
    store = Store(folder, ".tflite")
    store.prepare()
    return Evaluator(_Here(made), store, asked.identity, math.inf, (seen if seen is not None else []).append)


def test_equal_configurations_are_tried_once_and_kept(material, tmp_path):
    seen = []
    first = evaluator(material, tmp_path, seen)
    asked = [Configuration("float16"), Configuration("dynamic_wi8_afp32"), Configuration("float16")]
    answered = first.run(asked)
    assert first.runner.begun == asked[:2]
    assert [one.was_kept for one in answered] == [False, False, True]
    assert [one.number for one in answered] == [1, 2, 3]
    assert answered[0].document == answered[2].document
    assert [one.configuration.name for one in seen] == ["float16", "dynamic_wi8_afp32"]
    second = evaluator(material, tmp_path)
    again = second.run(asked[:2])
    assert second.runner.begun == []
    assert [one.document for one in again] == [one.document for one in answered[:2]]
    assert all(one.was_kept for one in again)


def test_a_kept_trial_whose_file_was_changed_is_done_again(material, tmp_path):
    one = evaluator(material, tmp_path).run([Configuration("float16")])[0]
    one.model.write_bytes(b"something else")
    second = evaluator(material, tmp_path)
    again = second.run([Configuration("float16")])[0]
    assert second.runner.begun == [Configuration("float16")]
    assert again.document["sha256"] == one.document["sha256"] == edgekit.open_artifact(again.model).sha256


def test_a_trial_of_other_data_is_another_trial(material, tmp_path):
    asked, made = material
    other = Asked(asked.source, asked.output_format, asked.calibration, asked.search.subset(range(50)), None)
    keys = {
        Evaluator(_Here(made), Store(tmp_path, ".tflite"), one.identity, math.inf, print).key(
            Configuration("float16")
        )
        for one in (asked, other)
    }
    assert len(keys) == 2


def test_a_worker_that_died_is_tried_again_and_named(material, tmp_path):
    first = evaluator(material, tmp_path)
    key = first.key(Configuration("float16"))
    error = {"code": "EK574", "message": "The worker died.", "hint": "Fewer."}
    first.store.save(key, {"status": "failed", "error": error})
    kept = first.run([Configuration("float16")], again=False)[0]
    assert not kept.is_done
    assert [finding.code for finding in deaths([kept])] == ["EK574", "EK575"]
    second = evaluator(material, tmp_path)
    assert second.run([Configuration("float16")])[0].is_done


def test_no_trial_begins_when_the_time_is_over(material, tmp_path):
    from edgekit.workflows.searching.local_runner import LocalRunner

    asked, made = material
    with LocalRunner(made.folder, 2) as runner:
        late = Evaluator(runner, Store(tmp_path, ".tflite"), asked.identity, 0.0, print)
        assert late.is_over
        assert late.run([Configuration("float16")]) == [None]
    assert late.tried == []


def tried(number, size, drop, snr=30.0, status="done"):
    document = {"status": status, "size_bytes": size, "drop": drop, "snr_db": snr, "sha256": str(number)}
    return Tried(number, Configuration("float16"), document, None, str(number), latency_ms=None)


def test_the_front_is_what_nobody_beats():
    all_tried = [
        tried(1, 80, 0.0),
        tried(2, 20, 0.02),
        tried(3, 30, 0.02),
        tried(4, 20, 0.02),
        tried(5, 10, 0.5),
    ]
    assert fronts(all_tried, ("size", "drop")) == [True, True, False, False, True]
    assert fronts(all_tried, ("size",)) == [False, False, False, False, True]
    by_snr = [tried(1, 80, 0.0, 60.0), tried(2, 20, 0.0, 20.0), tried(3, 90, 0.0, 50.0)]
    assert fronts(by_snr, ("size", "snr")) == [True, True, False]


def test_what_failed_or_was_not_measured_is_not_ahead():
    error = {"code": "EK310", "message": "No.", "hint": ""}
    failed = Tried(1, Configuration("float16"), {"status": "failed", "error": error}, None, "1")
    assert fronts([failed, tried(2, 20, 0.1)], ("size", "drop")) == [False, True]
    assert tried(3, 1, 0.0).cost("latency") is None


def test_a_damaged_document_is_no_trial(tmp_path):
    store = Store(tmp_path, ".tflite")
    store.save("k", {"status": "failed", "error": {"code": "EK310"}})
    assert store.read("k")["status"] == "failed"
    (file,) = tmp_path.glob("*.json")
    for content in ("", "[]", json.dumps({"schema_version": 99, "trial": {"status": "failed"}})):
        file.write_text(content)
        assert store.read("k") is None


def test_two_searches_do_not_write_to_one_folder(material, tmp_path):
    asked, _ = material
    setting = Setting(tmp_path)
    with (
        files.locked_folder(tmp_path),
        pytest.raises(OutputError, match="Another search"),
        setting.evaluator(asked, measures_latency=False, uses_tensorflow=False),
    ):
        pass


def test_samples_that_calibrate_and_judge_are_noticed(material):
    asked, _ = material
    assert [found.code for found in overlaps(asked.search, asked.search)] == ["EK580"]
    assert overlaps(asked.calibration, asked.search) == overlaps(None, asked.search) == []


@pytest.mark.slow
def test_a_worker_that_is_killed_is_a_failed_trial_and_replaced(material, tmp_path):
    import os
    import signal
    import threading
    import time

    from edgekit.workflows.searching.local_runner import LocalRunner

    _, made = material
    job = (Configuration("static_wi8_ai8"), tmp_path / "out.tflite")
    with LocalRunner(made.folder, 1) as runner:

        def kill():
            while not runner._all:
                time.sleep(0.01)
            os.kill(runner._all[0]._process.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        ((_, died),) = list(runner.run([job], math.inf))
        killer.join()
        assert died["error"]["code"] == "EK574"
        assert "SIGKILL" in died["error"]["message"]
        ((_, done),) = list(runner.run([job], math.inf))
        assert done["status"] == "done"
    shutil.rmtree(tmp_path)
