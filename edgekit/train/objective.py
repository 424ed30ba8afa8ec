"""Optimizer, loss and metric of a training: the job's, else those that the model was compiled with, else the usual."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from edgekit.errors import DataError, UsageError
from edgekit.tensor import Array
from edgekit.train.job import Job

# One array, or one for each output.
Labels = Array | tuple[Array, ...]

_LEARNING_RATE = 1e-4
# Losses of values and of probabilities, one label for each number of the output.
_LIKE_OUTPUTS = (
    "mean_squared_error",
    "mean_absolute_error",
    "categorical_crossentropy",
    "binary_crossentropy",
    "huber",
    "log_cosh",
)


@dataclass(frozen=True)
class Objective:
    """The arguments of ``model.compile``; the number ``watched`` tells the best epoch, ``mode`` is its direction.

    Of a model with several outputs ``loss`` and ``metrics`` are lists with one entry for each.
    """

    optimizer: Any
    loss: Any
    metrics: list[Any]
    watched: str
    mode: str


def choose(model: Any, compiled: Mapping[str, Any] | None, job: Job, labels: Labels) -> Objective:
    """The objective of a job.

    Args:
        model: The model as loaded.
        compiled: Its compile configuration, None where the file has none.
        job: What the user asked for.
        labels: Some of the labels: ``(64,)`` of classes, or ``(64, 10)`` like the outputs; a tuple of such arrays
            for a model with several outputs.

    Raises:
        UsageError: Keras knows no such optimizer or loss.
        DataError: The labels do not fit the outputs.
    """
    given = labels if isinstance(labels, tuple) else (labels,)
    wanted = [job.loss] * len(given) if job.loss else _compiled_losses(model, compiled)
    if not job.loss:
        wanted = [_for_class_numbers(name, array) for name, array in zip(wanted, given, strict=True)]
    losses = [_loss(model, wanted[index], array, index) for index, array in enumerate(given)]
    metrics = [["accuracy"] if _tells_classes(loss) else [] for loss in losses]
    side = "val_" if job.validation else ""
    optimizer = _optimizer(compiled, job)
    if len(given) > 1:
        return Objective(optimizer, losses, metrics, f"{side}loss", "min")
    watched, mode = (f"{side}accuracy", "max") if metrics[0] else (f"{side}loss", "min")
    return Objective(optimizer, losses[0], metrics[0], watched, mode)


def total_loss(loss: Any, labels: Any, outputs: Sequence[Any]) -> Any:
    """The loss of a batch: that of the only output, or the sum over all.

    Args:
        loss: As in ``Objective``.
        labels: An array, or a tuple of them.
        outputs: What the model gives, one tensor for each output.
    """
    losses = loss if isinstance(loss, list) else [loss]
    given = labels if isinstance(labels, tuple) else (labels,)
    return sum(
        keras.ops.mean(one(wanted, output))
        for one, wanted, output in zip(losses, given, outputs, strict=True)
    )


def _optimizer(compiled: Mapping[str, Any] | None, job: Job) -> Any:
    wanted = job.optimizer or ((compiled or {}).get("optimizer") if compiled else None) or "adam"
    try:
        optimizer = keras.optimizers.get(wanted)
    except ValueError as error:
        raise UsageError(
            "EK721", f"Keras has no optimizer {wanted!r}.", "adam, adamw, sgd and rmsprop are usual."
        ) from error
    rate = job.learning_rate
    if rate is None and (job.optimizer or not (compiled or {}).get("optimizer")):
        rate = _LEARNING_RATE
    if rate is None and job.learning_rate_decay != "none":
        rate = float(np.asarray(optimizer.learning_rate))
    if rate is None:
        return optimizer
    # One that was made with a schedule of rates takes no other rate any more.
    return type(optimizer).from_config({**optimizer.get_config(), "learning_rate": rate})


def _compiled_losses(model: Any, compiled: Mapping[str, Any] | None) -> list[Any]:
    """The loss of each output as the file has it, None where it has none."""
    found, count = (compiled or {}).get("loss"), len(model.outputs)
    if isinstance(found, Mapping) and "class_name" not in found:
        found = [found.get(name) for name in getattr(model, "output_names", ())]
    if not isinstance(found, list):
        found = [found] * count
    return found if len(found) == count else [None] * count


def _for_class_numbers(loss: Any, labels: Array) -> Any:
    """The same loss for labels that are class numbers, where the model was compiled for rows of zeros and a one."""
    name = loss if isinstance(loss, str) else loss.get("class_name") if isinstance(loss, Mapping) else None
    numbers = labels.dtype.kind in "iub" and labels.shape[1:] in ((), (1,))
    if numbers and name in ("categorical_crossentropy", "CategoricalCrossentropy"):
        return "sparse_categorical_crossentropy"
    return loss


def _loss(model: Any, wanted: Any, labels: Array, index: int) -> Any:
    if not wanted:
        return _usual_loss(model, labels, index)
    try:
        loss = _with_logits(keras.losses.get(wanted), model, index)
    except ValueError as error:
        raise UsageError(
            "EK722", f"Keras has no loss {wanted!r}.", "sparse_categorical_crossentropy and mse are usual."
        ) from error
    _check_loss(loss, model.outputs[index], labels)
    return loss


def check_labels(model: Any, loss: Any, labels: Labels) -> None:
    """Refuse labels, those of the validation too, that a loss cannot take.

    Raises:
        DataError: They are of another kind or shape, or beyond the model's classes.
    """
    losses = loss if isinstance(loss, list) else [loss]
    given = labels if isinstance(labels, tuple) else (labels,)
    for one, output, array in zip(losses, model.outputs, given, strict=True):
        _check_loss(one, output, array)


def _check_loss(loss: Any, output: Any, labels: Array) -> None:
    """Refuse a loss for class numbers where labels are none, and one for values where they are class numbers.

    Raises:
        DataError: The labels do not fit the loss.
    """
    name, shape = loss_name(loss), tuple(output.shape[1:])
    whole = labels.dtype.kind in "iub" and labels.shape[1:] in (shape[:-1], (*shape[:-1], 1))
    if name == "sparse_categorical_crossentropy":
        if not whole:
            seen = f"the labels are {labels.dtype} of shape {labels.shape[1:]}"
            message = f"The loss {name} takes class numbers, and {seen}."
            raise DataError("EK725", message, "Give class numbers, or another --loss.")
        check_classes(labels, int(shape[-1]))
    elif name in _LIKE_OUTPUTS and labels.shape[1:] != shape and (labels.ndim > 1 or shape not in ((), (1,))):
        message = f"The loss {name} takes labels like the outputs, {shape}, and theirs is {labels.shape[1:]}."
        raise DataError("EK725", message, "Give labels in the shape of the outputs, or another --loss.")


def loss_name(loss: Any) -> str:
    """``"mean_squared_error"`` of a loss's class, instance or function."""
    name = getattr(loss, "__name__", "") or type(loss).__name__
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _usual_loss(model: Any, labels: Array, index: int) -> Any:
    shape = tuple(model.outputs[index].shape[1:])
    whole = labels.dtype.kind in "iub" and labels.shape[1:] in ((), (1,))
    if whole and shape[-1:] not in ((), (1,)):
        check_classes(labels, int(shape[-1]))
        return keras.losses.SparseCategoricalCrossentropy(from_logits=not ends_in_softmax(model, index))
    if labels.shape[1:] == shape or (labels.ndim == 1 and shape == (1,)):
        binary = shape in ((), (1,)) and whole
        if binary:
            return keras.losses.BinaryCrossentropy(from_logits=last_function(model, index) != "sigmoid")
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


def _with_logits(loss: Any, model: Any, index: int) -> Any:
    """A loss given by name as the class whose ``from_logits`` fits the model's end."""
    name = getattr(loss, "__name__", "")
    if name == "sparse_categorical_crossentropy":
        return keras.losses.SparseCategoricalCrossentropy(from_logits=not ends_in_softmax(model, index))
    if name == "categorical_crossentropy":
        return keras.losses.CategoricalCrossentropy(from_logits=not ends_in_softmax(model, index))
    return loss


def _tells_classes(loss: Any) -> bool:
    return isinstance(loss, keras.losses.SparseCategoricalCrossentropy | keras.losses.CategoricalCrossentropy)


def ends_in_softmax(model: Any, index: int = 0) -> bool:
    """Whether an output of the model is probabilities."""
    return last_function(model, index) == "softmax"


def last_function(model: Any, index: int = 0) -> str:
    """The name of the activation that makes an output of the model."""
    from edgekit.train.graph import Graph
    from edgekit.train.qat import activation_name

    graph = Graph(model)
    return activation_name(graph.producer[graph.outputs[index]].operation)
