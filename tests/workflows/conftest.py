"""A pair of models whose answers are set by the data: the first three columns are the scores of both."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgekit import answering
from edgekit.answering import pool
from edgekit.runtimes import open_session

CLASSES = 3


def write_linear(path, weights):
    """An .onnx model ``y = x @ weights``."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rows, columns = weights.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", columns])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, path)
    return path


def write_data(path, n, *, broken=0, fixed=0, of_class=None, right=0.9):
    """Samples of which ``broken`` lose their right answer in the candidate, and ``fixed`` gain it.

    The baseline is right on the share ``right``. The fourth column pushes the candidate's scores of the next class up.
    """
    labels = np.arange(n) % CLASSES
    rng = np.random.default_rng(7)
    x = rng.normal(0, 0.1, (n, CLASSES + 1)).astype(np.float32)
    x[:, CLASSES] = 0
    correct = np.arange(n) < right * n
    answered = np.where(correct, labels, (labels + 2) % CLASSES)
    x[np.arange(n), answered] += 5
    fit = correct if of_class is None else correct & (labels == of_class)
    x[np.flatnonzero(fit & (labels != 0))[:broken], CLASSES] = 20  # the candidate says class 0
    x[np.flatnonzero(~correct & (labels == 0))[:fixed], CLASSES] = 20
    order = rng.permutation(n)
    np.savez(path, x=x[order], y=labels[order])
    return path


@dataclass(frozen=True)
class Pair:
    """The baseline's model, and a candidate that differs where the data say so."""

    baseline: Path
    candidate: Path
    data = staticmethod(write_data)
    linear = staticmethod(write_linear)


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch):
    """Models run in this process, which costs a third: tests/answering shows that workers answer the same."""

    def answers(job, data, *, session=None, workers=None, **options):
        return pool.answers(job, data, session=session or open_session(job.model, job.runtime), **options)

    monkeypatch.setattr(answering, "answers", answers)


@pytest.fixture(scope="session")
def pair(tmp_path_factory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    weights = np.vstack([np.eye(CLASSES), np.zeros(CLASSES)])
    pushed = weights.copy()
    pushed[CLASSES, 0] = 1
    return Pair(
        write_linear(folder / "baseline.onnx", weights), write_linear(folder / "candidate.onnx", pushed)
    )
