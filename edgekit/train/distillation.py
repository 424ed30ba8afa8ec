"""Distillation: a student that learns from the labels and from what its teacher says of the same samples.

``keras.distillation`` is not used: the default loss of its ``LogitsDistillation`` takes raw logits for
probabilities, and its teacher runs in every step, where rows from disk do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from edgekit.errors import ModelError, UsageError
from edgekit.train.distillation_losses import Ends, FeatureLoss, feature_loss, logits, output_loss
from edgekit.train.graph import Graph
from edgekit.train.qat import activation_name


@dataclass(frozen=True)
class DistillationOptions:
    """How much a student listens to its teacher.

    The loss is ``alpha`` of the teacher's and ``1 - alpha`` of the labels', and ``feature_weight`` times that of
    each pair in ``features``: ``(("teacher_layer", "student_layer"),)``. ``temperature`` softens the teacher's
    probabilities. ``standardize`` compares logits whatever their scale, as a teacher much larger
    than its student needs. ``feature_loss`` is ``"hint"``, ``"attention"`` or ``"relation"``.
    """

    temperature: float = 4.0
    alpha: float = 0.9
    features: tuple[tuple[str, str], ...] = ()
    feature_loss: FeatureLoss = "hint"
    feature_weight: float = 1.0
    standardize: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1 or not self.temperature > 0 or not self.feature_weight >= 0:
            raise UsageError(
                "EK768",
                f"alpha {self.alpha:g}, temperature {self.temperature:g} and feature weight "
                f"{self.feature_weight:g} do not make a loss.",
                "alpha lies in 0 to 1, the temperature above 0, and the weight is not negative.",
            )


@dataclass(frozen=True)
class TeacherOutput:
    """One output of the teacher: the name of its rows, its size, and how they become logits.

    ``ends`` is ``"softmax"``, ``"sigmoid"``, ``"logits"``, ``"decisions"`` or ``"values"``; ``floor`` is the
    smallest probability that the rows can tell from 0.
    """

    rows: str
    ends: Ends
    floor: float = 1e-30


def apply_distillation(
    student: Any,
    outputs: Sequence[TeacherOutput],
    options: DistillationOptions | None = None,
    *,
    ends: Sequence[Ends] | None = None,
    widths: Mapping[str, int] | None = None,
) -> Any:
    """A model that shares the student's layers and is fitted to ``(x, {"label": y, "teacher": rows})``.

    Args:
        student: A Functional or Sequential Keras 3 model; it is what is saved afterwards.
        outputs: One for each output of the student, in their order.
        options: Weights, temperature, pairs of layers. The rows of pair i are named ``feature_i``.
        ends: How the student's outputs end; read from its last layers where None.
        widths: Channels of the teacher's layers by the names of their rows, for ``feature_loss="hint"``.

    Raises:
        ModelError: The teacher has another number of outputs, or a layer is not there.
        UsageError: The options do not fit each other.
    """
    options = options or DistillationOptions()
    ends = tuple(ends or output_ends(student))
    if len(ends) != len(outputs):
        raise ModelError(
            "EK760",
            f"The teacher has {len(outputs)} outputs, the student {len(ends)}.",
            "Give a teacher that was made for the same task.",
        )
    features = [
        _projected(layer_output(student, pair[1], "student"), (widths or {}).get(f"feature_{index}"), index)
        for index, pair in enumerate(options.features)
    ]
    inputs = student.inputs[0] if len(student.inputs) == 1 else student.inputs
    model = Distilling(inputs, [*student.outputs, *features], name=f"{student.name}_distilling")
    model.prepare(tuple(outputs), ends, options)
    return model


class Distilling(keras.Model):  # type: ignore[misc] # Keras has no types
    """A student while it learns: its outputs, then its features; labels alone judge it in validation."""

    def prepare(
        self, outputs: tuple[TeacherOutput, ...], ends: tuple[Ends, ...], options: DistillationOptions
    ) -> None:
        """Say what the teacher's rows are."""
        self._teacher_outputs, self._ends, self._distillation = outputs, ends, options

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The weighted sum; with labels alone, as in validation, their loss."""
        taught = isinstance(y, dict)
        own, features = self._parted(y_pred)
        label = y["label"] if taught else y
        options = self._distillation
        if not taught:
            return super().compute_loss(x, label, self._plain(own), sample_weight, training)
        # Keras divides its own losses like this, because gradients of all devices are added.
        share = 1 / tf.distribute.get_strategy().num_replicas_in_sync
        loss = penalties = share * tf.add_n(self.losses) if self.losses else 0.0
        if options.alpha < 1:
            by_labels = super().compute_loss(x, label, self._plain(own), sample_weight, training)
            loss += (1 - options.alpha) * (by_labels - penalties)
        if options.alpha:
            loss += share * options.alpha * tf.add_n(self._output_losses(y, own))
        for index, feature in enumerate(features):
            wanted = y[f"feature_{index}"]
            loss += share * options.feature_weight * feature_loss(wanted, feature, options.feature_loss)
        return loss

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Metrics see labels and the student's own outputs."""
        own, _features = self._parted(y_pred)
        return super().compute_metrics(
            x, y["label"] if isinstance(y, dict) else y, self._plain(own), sample_weight
        )

    def _output_losses(self, y: Mapping[str, Any], own: Sequence[Any]) -> list[Any]:
        return [
            output_loss(
                logits(y[teacher.rows], teacher.ends, teacher.floor),
                output,
                ends,
                self._distillation.temperature,
                standardize=self._distillation.standardize,
            )
            for teacher, output, ends in zip(self._teacher_outputs, own, self._ends, strict=True)
        ]

    def _parted(self, y_pred: Any) -> tuple[list[Any], list[Any]]:
        flat = list(keras.tree.flatten(y_pred))
        count = len(self._ends)
        return flat[:count], flat[count:]

    @staticmethod
    def _plain(own: list[Any]) -> Any:
        return own[0] if len(own) == 1 else own


def output_ends(model: Any) -> tuple[Ends, ...]:
    """How each output of a model ends; several units without a softmax are taken for logits of classes."""
    graph = Graph(model)
    found: list[Ends] = []
    for number in graph.outputs:
        name = activation_name(graph.producer[number].operation)
        one = graph.spec(number).shape[-1] == 1
        found.append("softmax" if name == "softmax" else "sigmoid" if name == "sigmoid" else "logits")
        if found[-1] == "logits" and one:
            found[-1] = "values"
    return tuple(found)


def layer_output(model: Any, name: str, whose: str) -> Any:
    """The tensor that a layer of a flat model makes.

    Raises:
        ModelError: There is no such layer, it is used several times, or it gives several tensors.
    """
    # A layer's own `output` may belong to another graph: a Sequential model builds more than one.
    graph = Graph(model)
    made = [call.outputs for call in graph.calls if call.name == name]
    if not made:
        import difflib

        known = [call.name for call in graph.layers()]
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"Did you mean {', '.join(near)}?" if near else f"Its layers are {', '.join(known)}."
        raise ModelError("EK762", f"The {whose} has no layer {name!r}.", hint)
    if len(made) > 1 or len(made[0]) > 1:
        raise ModelError(
            "EK762",
            f"The {whose}'s layer {name!r} is used several times, or gives several tensors.",
            "Name a layer that is used once.",
        )
    return graph.spec(made[0][0])


def _projected(features: Any, width: int | None, index: int) -> Any:
    """The student's features in the teacher's width: by a learned map of channels, where the widths differ."""
    if width is None or features.shape[-1] == width:
        return features
    # A Dense layer works on the last axis of any tensor: on maps it is a convolution of size 1.
    return keras.layers.Dense(width, name=f"projection_{index}")(features)
