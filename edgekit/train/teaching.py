"""A method together with a teacher: any model that is trained here can learn from another one while it is."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgekit.artifact import TensorSpec
from edgekit.data import open_dataset
from edgekit.errors import DataError, ModelError
from edgekit.findings import Finding, Level
from edgekit.tensor import Array
from edgekit.train import teacher_cache
from edgekit.train.augmentation import Augmentation
from edgekit.train.distillation import (
    DistillationOptions,
    TeacherOutput,
    apply_distillation,
    layer_output,
    output_ends,
)
from edgekit.train.distillation_losses import Ends, FeatureLoss, teacher_view
from edgekit.train.graph import Graph, copying
from edgekit.train.loading import load_trainable
from edgekit.train.methods import Context, Prepared
from edgekit.train.objective import loss_name

_BATCH = 256
_SOME = 2048
_SUSPICIOUS = 0.5


def with_teacher(prepared: Prepared, plain: Any, loss: Any, context: Context) -> Prepared:
    """What a method prepared, learning from the job's teacher too; as it is where the job has none.

    Args:
        prepared: Its model is the student.
        plain: The model before the method changed it, whose last layers tell classes from values.
        loss: The loss of the labels.
        context: The job and its data.

    Raises:
        ModelError: The teacher has other outputs, or lacks a layer.
        DataError: The data are not those that the teacher saw.
    """
    teacher = context.job.teacher
    if teacher is None:
        return prepared
    if context.train.digest() != teacher["samples"]:
        raise DataError(
            "EK765",
            f"{context.job.train} gave other samples to the teacher than to the student.",
            "Samples must be the same each time: take chance out of the function, or seed it.",
        )
    options = DistillationOptions(
        temperature=teacher["temperature"],
        alpha=teacher["alpha"],
        features=tuple((one, other) for one, other in teacher["features"]),
        feature_loss=teacher["feature_loss"],
        feature_weight=teacher["feature_weight"],
        standardize=teacher["standardize"],
    )
    arrays, *views = (teacher_cache.read(Path(rows), context.train.count) for rows in teacher["rows"])
    ends = _ends(plain, loss)
    outputs, findings = _outputs(plain, arrays, ends, teacher)
    right = _right(context, arrays[outputs[0].rows], outputs[0])
    if right is not None and right < _SUSPICIOUS:
        hint = "Look at the order of its classes, and at --teacher-preprocess."
        message = f"The teacher is right on {right:.0%} of the training samples only."
        findings.append(Finding("EK769", message, hint))
    student = prepared.model
    if options.features:
        student = _flat(student)
        for number, said in enumerate((arrays, *views)):
            said.update(_features(options, context, number).arrays)
    widths = {name: array.shape[-1] for name, array in arrays.items() if options.feature_loss == "hint"}
    model = apply_distillation(student, outputs, options, ends=ends, widths=widths)
    return replace(
        prepared,
        model=model,
        targets={**prepared.targets, **arrays},
        views=views,
        finish=lambda fitted: _student(fitted, prepared.finish(student)),
        report=lambda made: {**prepared.report(made), "teacher": {**_told(teacher), "accuracy": right}},
        findings=[*prepared.findings, *findings],
    )


def _right(context: Context, rows: Array, output: TeacherOutput) -> float | None:
    """How often the teacher's first choice is the label, in 0..1; None where labels are no class numbers."""
    if output.ends not in ("softmax", "logits") or rows.ndim != 2:
        return None
    batches = context.train.spread(min(_SOME, context.train.count)).batches(_BATCH)
    labels = np.concatenate([np.asarray(batch.labels) for batch in batches])
    if labels.size != len(labels) or labels.dtype.kind not in "iu":
        return None
    chosen = [index * len(rows) // len(labels) for index in range(len(labels))]
    return float(np.mean(rows[chosen].argmax(1) == labels.ravel()))


def _told(teacher: Mapping[str, Any]) -> dict[str, Any]:
    """The teacher as it stands in the JSON document."""
    names = (
        "model",
        "sha256",
        "temperature",
        "alpha",
        "standardize",
        "features",
        "feature_loss",
        "feature_weight",
    )
    return {name: teacher[name] for name in names} | {"views": len(teacher["rows"])}


def _student(fitted: Any, student: Any) -> Any:
    """The student alone, compiled like the model that was fitted, so that the next training finds its loss."""
    kind = type(fitted.optimizer)
    kind = kind.__mro__[1] if kind.__module__ == "edgekit.train.layer_rates" else kind
    student.compile(kind.from_config(fitted.optimizer.get_config()), fitted.loss)
    return student


def _ends(model: Any, loss: Any) -> tuple[Ends, ...]:
    """How the outputs end; linear ones are classes where the loss says so."""
    found: list[Ends] = []
    losses = loss if isinstance(loss, list) else [loss]
    for one, end in zip(losses, output_ends(model), strict=True):
        name = loss_name(one)
        classes: Ends = "logits" if "crossentropy" in name else "values"
        if "binary" in name:
            # Yes or no with logits: a sigmoid is part of the loss.
            found.append("sigmoid" if end == "sigmoid" else "decisions")
        else:
            found.append(classes if end == "logits" else end)
    return tuple(found)


def _outputs(
    student: Any, arrays: Mapping[str, Array], ends: tuple[Ends, ...], teacher: Mapping[str, Any]
) -> tuple[list[TeacherOutput], list[Finding]]:
    """The teacher's outputs in the order of the student's."""
    found: list[TeacherOutput] = []
    findings: list[Finding] = []
    for tensor, end, (name, unit) in zip(student.outputs, ends, teacher["outputs"], strict=True):
        rows = arrays[name]
        if rows.shape[1:] != tuple(tensor.shape[1:]):
            raise other_outputs(tuple(tensor.shape[1:]), rows.shape[1:])
        kind = _kind(rows[:_SOME], end)
        found.append(TeacherOutput(name, kind, unit / 4 if unit else 1e-30))
        zeros = float(np.mean(rows[:_SOME] == 0)) if unit and kind in ("softmax", "sigmoid") else 0.0
        if zeros:
            findings.append(
                Finding(
                    "EK767",
                    f"{zeros:.0%} of the probabilities of the quantized teacher are 0; they count as {unit / 4:.2g}.",
                    "The float teacher says more about the classes that it does not choose.",
                    Level.NOTE,
                )
            )
    return found, findings


def other_outputs(student: tuple[Any, ...], teacher: tuple[Any, ...]) -> ModelError:
    """The teacher and the student answer different questions."""
    return ModelError(
        "EK760",
        f"The teacher gives {list(teacher)} for a sample, the student {list(student)}.",
        "Give a teacher of the same classes in the same order.",
    )


def _kind(rows: Array, end: Ends) -> Ends:
    """What the teacher's rows are, seen from what the student gives."""
    if end == "values":
        return "values"
    inside = bool(rows.min() >= 0 and rows.max() <= 1)
    if end in ("sigmoid", "decisions"):
        return "sigmoid" if inside else "logits"
    # Rounded probabilities do not quite add up to one.
    return "softmax" if inside and abs(float(rows.sum(axis=-1).mean()) - 1) < 0.05 else "logits"


def _flat(model: Any) -> Any:
    """The model without models inside of it, whose layers can be named."""
    if not any(isinstance(layer, keras.Model) for layer in model.layers):
        return model
    graph = Graph(model)
    return graph.build(copying(graph))


def _features(options: DistillationOptions, context: Context, view: int) -> teacher_cache.TeacherRows:
    """What the layers of the teacher give for a view of each sample, from disk where they were computed before."""
    teacher = context.job.teacher or {}
    place = Path(teacher["rows"][view])
    names = [one for one, _other in options.features]
    key = teacher_cache.key(outputs=place.name, layers=names, kind=options.feature_loss)

    def compute() -> Iterator[Mapping[str, Array]]:
        context.say("The layers of the teacher are computed.")
        model = _flat(load_trainable(Path(teacher["model"])).model)
        tensors = [layer_output(model, name, "teacher") for name in names]
        inner = keras.Model(model.inputs, tensors)
        return _run(inner, options.feature_loss, context, view)

    return teacher_cache.rows(place.with_name(key), context.train.count, compute)


def _run(model: Any, kind: FeatureLoss, context: Context, view: int) -> Iterator[Mapping[str, Array]]:
    job = context.job
    specs = tuple(
        TensorSpec(tensor.name, tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype))
        for tensor in model.inputs
    )
    contract = (job.teacher or {})["preprocess"] or job.preprocess
    dataset = open_dataset(job.train, preprocess=contract).bind(specs)
    augmentation = Augmentation.parse(job.augment) if job.augment else Augmentation()
    changes = augmentation.view(view, dataset.count)
    for batch in dataset.batches(_BATCH):
        inputs = changes.of(slice(batch.first, batch.first + batch.count)).applied(batch.inputs)
        given = [inputs[spec.name] for spec in specs]
        made = keras.tree.flatten(model(given[0] if len(given) == 1 else given, training=False))
        yield {f"feature_{i}": np.asarray(teacher_view(tensor, kind)) for i, tensor in enumerate(made)}
