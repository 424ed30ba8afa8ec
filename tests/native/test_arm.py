"""The runner as devices get it: compiled for arm64, on an emulated Cortex-A72, with LiteRT's own library."""

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgekit.devices import native_library
from native.talk import ask

pytestmark = pytest.mark.slow


def test_predicts_what_the_host_predicts(arm_runner, python_worker, models):
    x = np.load(models.test_data)["x"][:20].astype(np.float32)
    for model, raw in (
        (models.tflite_cnn, x),
        (models.tflite_cnn_int8, np.clip(np.rint(x * 255 - 128), -128, 127).astype(np.int8)),
    ):
        requests = [
            {"verb": "open", "model": str(model), "runtime": "litert", "threads": 1, "xnnpack": True},
            {"verb": "predict", "feeds": len(raw), "shapes": [[1, 8, 8, 1]], "blob": raw.tobytes()},
            {"verb": "conditions", "window_s": 0},
        ]
        ours, theirs = ask(arm_runner, *requests), ask(python_worker, *requests)
        assert ours.status == 0, ours.errors
        assert ours.opened["placement"] == theirs.opened["placement"]
        assert ours.opened["inputs"] == theirs.opened["inputs"]
        assert ours.replies[2]["architecture"] == "aarch64"
        mine, reference = (np.frombuffer(a.replies[1]["blob"], raw.dtype) for a in (ours, theirs))
        if raw.dtype == np.int8:
            assert np.abs(mine.astype(int) - reference.astype(int)).max() <= 1
        else:
            np.testing.assert_allclose(mine, reference, atol=1e-5)


def test_without_xnnpack_and_with_another_batch(arm_runner, models):
    x = np.load(models.test_data)["x"][:4].astype(np.float32)
    answers = ask(
        arm_runner,
        {"verb": "open", "model": str(models.tflite_cnn_dynamic_batch), "xnnpack": False},
        {"verb": "predict", "feeds": 4, "shapes": [[1, 8, 8, 1]], "blob": x.tobytes()},
        {"verb": "predict", "feeds": 1, "shapes": [[4, 8, 8, 1]], "blob": x.tobytes()},
        {"verb": "open", "model": "missing.tflite"},
    )
    assert answers.opened["delegate"] == "none"
    assert answers.opened["placement"]["accelerated_pct"] == 0
    one, four = (np.frombuffer(answers.replies[i]["blob"], np.float32) for i in (1, 2))
    np.testing.assert_allclose(one, four, atol=1e-6)
    assert answers.replies[3]["error"]["kind"] == "model"


def test_a_delegate_takes_its_operators(arm_runner, arm_library, sum_model, tmp_path):
    library = tmp_path / "libtests_delegate.so"
    source = Path(__file__).with_name("delegate.c")
    subprocess.run(["aarch64-linux-gnu-gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    delegate = {"library": str(library), "options": {"mode": "take", "library": str(arm_library)}}
    ones = np.ones(8, np.float32)
    answers = ask(
        arm_runner,
        {"verb": "open", "model": str(sum_model), "delegate": delegate},
        {"verb": "predict", "feeds": 1, "shapes": [[1, 4], [1, 4]], "blob": ones.tobytes()},
    )
    assert answers.opened["delegate"] == "libtests_delegate.so"
    assert answers.opened["placement"]["accelerated_pct"] == 50.0
    np.testing.assert_array_equal(np.frombuffer(answers.replies[1]["blob"], np.float32)[:4], np.full(4, 102))


def test_asks_for_an_old_glibc_alone(arm_runner):
    assert native_library.needed_glibc(Path(arm_runner[-2]).read_bytes()) == (2, 17)


def test_a_deadline_ends_the_process(arm_runner):
    answers = ask(arm_runner, {"verb": "conditions", "window_s": 30, "deadline_s": 0.5}, timeout=25)
    assert answers.status == -signal.SIGALRM
    assert answers.replies == []
