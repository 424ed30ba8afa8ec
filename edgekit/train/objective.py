"""Optimizer, loss and metric of a training: the job's, else those that the model was compiled with, else the usual."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from edgekit.errors import DataError, UsageError
from edgekit.tensor import Array
from edgekit.train.job import Job

_LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Objective:
    """The arguments of ``model.compile``; the number ``watched`` tells the best epoch, ``mode`` is its direction."""

    optimizer: Any
    loss: Any
    metrics: list[Any]
    watched: str
    mode: str


def choose(model: Any, compiled: Mapping[str, Any] | None, job: Job, labels: Array) -> Objective:
    """The objective of a job.

    Args:
        model: The model as loaded.
        compiled: Its compile configuration, None where the file has none.
        job: What the user asked for.
        labels: Some of the labels: ``(64,)`` of classes, or ``(64, 10)`` like the outputs.

    Raises:
        UsageError: Keras knows no such optimizer or loss.
        DataError: The labels do not fit the outputs.
    """
    loss = _loss(model, compiled, job, labels)
    classes = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    metrics = ["accuracy"] if classes or _is_one_hot(loss) else []
    side = "val_" if job.validation else ""
    watched, mode = (f"{side}accuracy", "max") if metrics else (f"{side}loss", "min")
    return Objective(_optimizer(compiled, job), loss, metrics, watched, mode)


def _optimizer(compiled: Mapping[str, Any] | None, job: Job) -> Any:
    wanted = job.optimizer or ((compiled or {}).get("optimizer") if compiled else None) or "adam"
    try:
        optimizer = keras.optimizers.get(wanted)
    except ValueError as error:
        raise UsageError(
            "EK721", f"Keras has no optimizer {wanted!r}.", "adam, adamw, sgd and rmsprop are usual."
        ) from error
    if job.learning_rate is not None:
        optimizer.learning_rate = job.learning_rate
    elif job.optimizer or not compiled:
        optimizer.learning_rate = _LEARNING_RATE
    return optimizer


def _loss(model: Any, compiled: Mapping[str, Any] | None, job: Job, labels: Array) -> Any:
    wanted = job.loss or (compiled or {}).get("loss")
    if wanted:
        try:
            return _with_logits(keras.losses.get(wanted), model)
        except ValueError as error:
            raise UsageError(
                "EK722",
                f"Keras has no loss {wanted!r}.",
                "sparse_categorical_crossentropy and mse are usual.",
            ) from error
    return _usual_loss(model, labels)


def _usual_loss(model: Any, labels: Array) -> Any:
    shape = tuple(model.outputs[0].shape[1:])
    whole = labels.dtype.kind in "iub" and labels.shape[1:] in ((), (1,))
    if whole and shape[-1:] not in ((), (1,)):
        check_classes(labels, int(shape[-1]))
        return keras.losses.SparseCategoricalCrossentropy(from_logits=not ends_in_softmax(model))
    if labels.shape[1:] == shape or (labels.ndim == 1 and shape == (1,)):
        binary = shape in ((), (1,)) and whole
        if binary:
            return keras.losses.BinaryCrossentropy(from_logits=last_function(model) != "sigmoid")
        return keras.losses.MeanSquaredError()
    raise DataError(
        "EK725",
        f"Labels of shape {labels.shape[1:]} do not fit outputs of shape {shape}.",
        "Give class numbers, or labels in the shape of the outputs.",
    )


def check_classes(labels: Array, classes: int) -> None:
    """Refuse labels beyond the model's classes.

    Raises:
        DataError: One of them is negative or too large.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            "EK726",
            f"A label is {low if low < 0 else high}, but the model has {classes} outputs: 0 to {classes - 1}.",
            "Count the classes from 0, and give the data that this model was made for.",
        )


def _with_logits(loss: Any, model: Any) -> Any:
    """A loss given by name as the class whose ``from_logits`` fits the model's end."""
    name = getattr(loss, "__name__", "")
    if name == "sparse_categorical_crossentropy":
        return keras.losses.SparseCategoricalCrossentropy(from_logits=not ends_in_softmax(model))
    if name == "categorical_crossentropy":
        return keras.losses.CategoricalCrossentropy(from_logits=not ends_in_softmax(model))
    return loss


def _is_one_hot(loss: Any) -> bool:
    return isinstance(loss, keras.losses.CategoricalCrossentropy)


def ends_in_softmax(model: Any) -> bool:
    """Whether the model gives probabilities."""
    return last_function(model) == "softmax"


def last_function(model: Any) -> str:
    """The name of the activation that makes the model's first output."""
    from edgekit.train.graph import Graph
    from edgekit.train.qat import activation_name

    graph = Graph(model)
    return activation_name(graph.producer[graph.outputs[0]].operation)
