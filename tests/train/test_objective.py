"""Optimizer and losses of a training: those of the file, with what the user changes."""

import keras
import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.train.job import Job
from edgekit.train.objective import check_labels, choose, total_loss

_CLASSES = np.arange(6)


def _model():
    x = keras.Input((4,))
    kind = keras.layers.Dense(6, "softmax", name="kind")(x)
    return keras.Model(x, [kind, keras.layers.Dense(2, name="size")(x)])


def _job(**fields):
    return Job("qat", "m.keras", "o.keras", "d.npz", 1, **fields)


def _of_the_file(optimizer=None, loss=None):
    return {"optimizer": keras.saving.serialize_keras_object(optimizer) if optimizer else None, "loss": loss}


def _scheduled():
    return _of_the_file(keras.optimizers.RMSprop(keras.optimizers.schedules.CosineDecay(0.5, 10), rho=0.7))


def _chosen(job, compiled):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6)])
    return choose(model, compiled, job, _CLASSES).optimizer


def test_a_learning_rate_takes_the_place_of_a_schedule():
    optimizer = _chosen(_job(learning_rate=0.25), _scheduled())
    assert (type(optimizer).__name__, optimizer.rho, float(optimizer.learning_rate)) == ("RMSprop", 0.7, 0.25)
    optimizer.learning_rate = 0.125  # what a decay does in each epoch


def test_without_one_the_schedule_stays_and_a_decay_begins_where_it_does():
    assert float(_chosen(_job(), _scheduled()).learning_rate) == 0.5
    optimizer = _chosen(_job(learning_rate_decay="cosine"), _scheduled())
    optimizer.learning_rate = float(optimizer.learning_rate) / 2
    assert float(optimizer.learning_rate) == 0.25


@pytest.mark.parametrize(
    "loss",
    [
        None,
        ["sparse_categorical_crossentropy", "mse"],
        {"size": "mse", "kind": "sparse_categorical_crossentropy"},
    ],
)
def test_each_output_has_its_loss_and_they_are_added(loss):
    labels = (_CLASSES, np.ones((6, 2), np.float32))
    goal = choose(_model(), _of_the_file(loss=loss), _job(validation="v.npz"), labels)
    assert (goal.watched, goal.mode, goal.metrics) == ("val_loss", "min", [["accuracy"], []])
    given = np.full((6, 6), 1 / 6, np.float32), np.zeros((6, 2), np.float32)
    assert float(total_loss(goal.loss, labels, given)) == pytest.approx(np.log(6) + 1)


@pytest.mark.parametrize(
    ("loss", "labels", "words"),
    [
        ("mse", _CLASSES, "takes labels like the outputs"),
        ("categorical_crossentropy", _CLASSES, "takes labels like the outputs"),
        ("sparse_categorical_crossentropy", np.ones((6, 6), np.float32), "takes class numbers"),
        ("sparse_categorical_crossentropy", _CLASSES + 1, "A label is 6"),
        ("sparse_categorical_crossentropy", _CLASSES - 1, "A label is -1"),
        (None, np.ones((6, 5), np.float32), "do not fit outputs of shape"),
    ],
)
def test_labels_that_a_loss_cannot_take_are_refused(loss, labels, words):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6)])
    with pytest.raises(DataError, match=words):
        choose(model, None, _job(loss=loss), labels)


def test_labels_of_the_validation_are_looked_at_too():
    goal = choose(_model(), None, _job(), (_CLASSES, np.ones((6, 2), np.float32)))
    with pytest.raises(DataError, match="A label is 8"):
        check_labels(_model(), goal.loss, (_CLASSES + 3, np.ones((6, 2), np.float32)))
