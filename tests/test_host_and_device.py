"""Where a device answers differently, and what is kept of a run that breaks off."""

import os
from pathlib import Path

import numpy as np
import pytest

from edgekit.artifact import Artifact, Format, TensorSpec
from edgekit.host_and_device import PairedSession, RememberingSession
from edgekit.tensor import Quantization


class Fixed:
    """A session that answers what it is told to, batch after batch."""

    def __init__(self, *answers):
        self.answers = [np.asarray(answer, np.float32) for answer in answers]
        self.asked = 0

    def run(self, _inputs):
        self.asked += 1
        return {"y": self.answers.pop(0)}

    def close(self):
        pass


def artifact(shape, quantization=None):
    output = TensorSpec("y", shape, "int8" if quantization else "float32", quantization)
    return Artifact(
        Path("m.tflite"), Format.TFLITE, (TensorSpec("x", (None, 2), "float32"),), (output,), "0" * 64, 1
    )


INPUTS = {"x": np.zeros((3, 2), np.float32)}


def test_classes_that_differ_are_listed_by_sample():
    host = Fixed([[1, 0], [1, 0], [0, 1]], [[1, 0]])
    device = Fixed([[1, 0], [0, 1], [0, 1]], [[0.5, 0.75]])
    session = PairedSession(device, host, artifact((None, 2)))
    session.run(INPUTS)
    session.run({"x": INPUTS["x"][:1]})
    found = session.agreement
    assert (found.n, found.identical, found.value, found.max_abs) == (4, 2, 0.5, 1.0)
    assert [(item.sample, item.host, item.device, item.max_abs) for item in found.differing] == [
        (1, 0, 1, 1.0),
        (3, 0, 1, 0.75),
    ]
    # Wilson's interval of 2 of 4, worked by hand.
    assert found.ci95 == pytest.approx((0.1500, 0.8500), abs=1e-4)


def test_the_same_class_agrees_however_far_the_scores_are():
    session = PairedSession(Fixed([[0.9, 0.1]]), Fixed([[0.6, 0.4]]), artifact((None, 2)))
    session.run({"x": INPUTS["x"][:1]})
    assert session.agreement.value == 1.0
    assert session.agreement.identical == 0


@pytest.mark.parametrize(("units", "differs"), [(0, False), (2, False), (3, True)])
def test_without_classes_two_units_are_rounding(units, differs):
    one = artifact((None, 1), Quantization((0.25,), (0,)))
    session = PairedSession(Fixed([[1 + 0.25 * units]]), Fixed([[1.0]]), one)
    session.run({"x": INPUTS["x"][:1]})
    assert bool(session.agreement.differing) is differs
    assert session.agreement.max_units == units
    assert all((item.host, item.device) == (None, None) for item in session.agreement.differing)


def test_a_nan_on_one_side_differs():
    session = PairedSession(Fixed([[np.nan]]), Fixed([[1.0]]), artifact((None, 1)))
    session.run({"x": INPUTS["x"][:1]})
    assert [item.sample for item in session.agreement.differing] == [0]
    assert session.agreement.max_abs == np.inf


def test_answers_outlive_the_run_that_broke_off(tmp_path):
    first = RememberingSession(Fixed([[1.0], [2.0], [3.0]]), tmp_path / "answers")
    answered = first.run(INPUTS)
    again = RememberingSession(Fixed([[9.0]]), tmp_path / "answers")
    np.testing.assert_array_equal(again.run(INPUTS)["y"], answered["y"])
    assert again.remembered == 3
    other = {"x": np.ones((1, 2), np.float32)}
    assert again.run(other)["y"].tolist() == [[9.0]]
    assert again.remembered == 3
    again.forget()
    assert not (tmp_path / "answers").exists()


def test_equal_samples_of_one_run_are_not_of_an_earlier_one(tmp_path):
    session = RememberingSession(Fixed([[1.0], [2.0], [3.0]]), tmp_path)
    np.testing.assert_array_equal(session.run(INPUTS)["y"], session.run(INPUTS)["y"])
    assert session.remembered == 0


def test_two_runs_of_the_same_do_not_take_each_others_answers_away(tmp_path):
    folder = tmp_path / "answers"
    one, two = RememberingSession(Fixed([[1.0]] * 3), folder), RememberingSession(Fixed([[2.0]]), folder)
    one.run(INPUTS)
    two.run({"x": np.ones((1, 2), np.float32)})
    one.forget()
    assert len(list(folder.iterdir())) == 1
    two.forget()
    assert not folder.exists()
    late = RememberingSession(Fixed([[3.0]] * 3), folder)
    assert late.run(INPUTS)["y"].tolist() == [[3.0]] * 3


def test_answers_that_nobody_came_back_for_are_removed(tmp_path):
    RememberingSession(Fixed([[1.0]] * 3), tmp_path).run(INPUTS)
    (kept,) = tmp_path.iterdir()
    os.utime(kept, (0, 0))
    RememberingSession(Fixed(), tmp_path)
    assert not kept.exists()


def test_a_damaged_answer_is_asked_for_again(tmp_path):
    RememberingSession(Fixed([[1.0], [2.0], [3.0]]), tmp_path).run(INPUTS)
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:40])
    session = RememberingSession(Fixed([[4.0], [5.0], [6.0]]), tmp_path)
    assert session.run(INPUTS)["y"].tolist() == [[4.0], [5.0], [6.0]]
    assert session.remembered == 0
