"""What is logged of each epoch, also where some are trained twice."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from edgekit.train import not_finite
from edgekit.train.job import Job
from edgekit.train.logs import EpochLogs


def _logs(tmp_path, **fields):
    names = {"csv": str(tmp_path / "log.csv"), "tensorboard": str(tmp_path / "board")}
    return EpochLogs(Job("qat", "m.keras", "o.keras", "d.npz", 3, **names, **fields))


def _lines(tmp_path):
    return (tmp_path / "log.csv").read_text().splitlines()


def test_an_epoch_that_is_trained_again_has_one_line(tmp_path):
    first = _logs(tmp_path)
    for epoch in range(3):
        first.on_epoch_end(epoch, {"loss": 1 / (epoch + 1), "val_loss": 0.5})
    again = _logs(tmp_path)
    again.on_epoch_end(2, {"loss": 0.25, "val_loss": 0.125})
    again.on_epoch_end(3, {"loss": float("nan"), "val_loss": 0.1})
    assert _lines(tmp_path) == ["epoch,loss,val_loss", "1,1.0,0.5", "2,0.5,0.5", "3,0.25,0.125"]
    _logs(tmp_path, epochs_before=2).on_epoch_end(0, {"loss": 4.0})
    assert _lines(tmp_path) == ["epoch,loss,val_loss", "1,1.0,0.5", "2,0.5,0.5", "3,4.0,"]
    _logs(tmp_path).on_epoch_end(0, {"loss": 8.0})
    assert _lines(tmp_path) == ["epoch,loss", "1,8.0"]


def test_tensorboard_finds_the_points_of_each_epoch(tmp_path):
    logs = _logs(tmp_path)
    logs.on_epoch_end(0, {"loss": 0.5, "val_accuracy": 0.25})
    logs.on_epoch_end(1, {"loss": 0.25, "val_accuracy": 0.75})
    found = [
        (path.parent.name, value.tag, event.step, float(tf.make_ndarray(value.tensor)))
        for path in sorted((tmp_path / "board").rglob("*tfevents*"))
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]
    assert found == [
        ("train", "epoch_loss", 1, 0.5),
        ("train", "epoch_loss", 2, 0.25),
        ("validation", "epoch_accuracy", 1, 0.25),
        ("validation", "epoch_accuracy", 2, 0.75),
    ]


def _grows():
    x = keras.Input((2,))
    inner = keras.layers.Dense(3, kernel_initializer="ones", name="inner")(x)
    return keras.Model(
        x, keras.layers.Dense(1, name="last")(keras.layers.Activation("exponential", name="grows")(inner))
    )


@pytest.mark.parametrize(
    ("x", "y", "weight", "words"),
    [
        (1.0, np.nan, 1.0, "there are such labels"),
        (1000.0, 1.0, 1.0, "the first layer that gives such values is grows"),
        (1.0, 1.0, np.nan, "the first layer with such weights is last"),
        (1.0, 1.0, 1.0, "the loss of them is none"),
    ],
)
def test_it_is_said_where_the_first_value_that_is_no_number_comes_from(x, y, weight, words):
    model = _grows()
    kernel = model.get_layer("last").kernel
    kernel.assign(np.full(kernel.shape, weight))
    batch = tf.constant([[x, x]]), tf.constant([y])
    assert words in not_finite.where(model, [batch])
