"""What the training commands have in common: their options, their progress, and the table of epochs."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._output import Outcome, command_line, progress, say
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.artifact import Artifact
    from edgekit.teacher_pass import Teacher
    from edgekit.training import Trained

_OPTIONS = [
    click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The .keras file to write."),
    click.option("--train", "train_data", metavar="DATA", required=True, help="Labelled samples to train on."),
    click.option("--validation", metavar="DATA", help="Labelled samples that judge each epoch."),
    click.option("--preprocess", metavar="SPEC", help="Preprocessing contract of the samples."),
    click.option("--epochs", type=click.IntRange(min=1), default=3, show_default=True, help="Passes over the samples."),
    click.option("--batch-size", type=click.IntRange(min=1), default=128, show_default=True, help="Samples per step."),
    click.option("--optimizer", metavar="NAME", help="Keras's name.  [default: the model's own, else adam]"),
    click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), metavar="RATE",
                 help="Of the optimizer.  [default: the model's own, else 0.0001]"),
    click.option("--loss", metavar="NAME", help="Keras's name.  [default: the model's own, else by the labels]"),
    click.option("--early-stopping", type=click.IntRange(min=1), metavar="EPOCHS",
                 help="Stop after so many epochs without improvement, and keep the best."),
    click.option("--scale-learning-rate", is_flag=True,
                 help="Smaller steps for layers with small weights, as one that takes pixels in 0 to 255 has."),
    click.option("--learning-rate-decay", type=click.Choice(["none", "cosine"]), default="none", show_default=True,
                 help="How the rate falls over all epochs."),
    click.option("--augment", metavar="CHANGES", help="Change images at random: flip, shift:4, or flip,shift:4."),
    click.option("--strategy", type=click.Choice(["mirrored", "multiworker"]),
                 help="Share each batch between all GPUs, or between the workers of TF_CONFIG.  [default: one device]"),
    click.option("--seed", default=0, show_default=True, help="Order of the samples, and all else that is random."),
    click.option("--tflite", type=click.Path(path_type=Path), metavar="FILE", help="Export to this .tflite file too."),
    click.option("--keep-names", is_flag=True, help="Keep the names of inner tensors in --tflite."),
    click.option("--tensorboard", type=click.Path(path_type=Path), metavar="DIR", help="Write TensorBoard's logs."),
    click.option("--csv", type=click.Path(path_type=Path), metavar="FILE", help="Write a line per epoch."),
    click.option("--resume", is_flag=True, help="Go on after the last epoch of an interrupted run."),
    click.option("--overwrite", is_flag=True, help="Replace outputs that exist."),
]  # fmt: skip


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every training command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def teacher_options(*, required: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of every training that may have a teacher."""
    options = [
        click.option("--teacher", metavar="MODEL", required=required, type=click.Path(path_type=Path),
                     help="Learn from this model's answers too; any format."),
        click.option("--temperature", type=click.FloatRange(min=0, min_open=True), default=4.0, show_default=True,
                     help="Softens the teacher's probabilities."),
        click.option("--alpha", type=click.FloatRange(0, 1), default=0.9, show_default=True,
                     help="The teacher's part of the loss; the rest is the labels'."),
        click.option("--standardize", is_flag=True,
                     help="Compare logits whatever their scale, where the teacher is much larger."),
        click.option("--feature", "features", multiple=True, metavar="TEACHER=STUDENT",
                     help="A pair of layers to bring together; the teacher must be Keras. May be repeated."),
        click.option("--feature-loss", type=click.Choice(["hint", "attention", "relation"]), default="hint",
                     show_default=True, help="The layers' values, their attention maps, or samples' relations."),
        click.option("--feature-weight", type=click.FloatRange(min=0), default=1.0, show_default=True,
                     help="Weight of each pair of layers in the loss."),
        click.option("--teacher-preprocess", metavar="SPEC",
                     help="The teacher's preprocessing contract.  [default: that of --preprocess]"),
        click.option("--views", type=click.IntRange(1, 64), default=8, show_default=True,
                     help="With --augment: ways in which each sample is shown to teacher and student."),
        click.option("--no-cache", is_flag=True, help="Do not keep the teacher's answers for the next training."),
    ]  # fmt: skip

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def chosen_teacher(options: dict[str, Any]) -> "Teacher | None":
    """The teacher that the options describe, taken out of them; None where none is named.

    Raises:
        UsageError: A pair of layers is no pair, or layers are named without a teacher.
    """
    from edgekit.teacher_pass import Teacher

    model, features, no_cache = options.pop("teacher"), options.pop("features"), options.pop("no_cache")
    names = ("temperature", "alpha", "standardize", "views", "feature_loss", "feature_weight")
    chosen = {name: options.pop(name) for name in names}
    preprocess = options.pop("teacher_preprocess")
    if model is None:
        if features:
            raise UsageError(
                "EK768", "--feature pairs layers with those of a teacher.", "Add --teacher MODEL."
            )
        return None
    pairs = [tuple(feature.split("=")) for feature in features]
    for feature, pair in zip(features, pairs, strict=True):
        if len(pair) != 2 or not all(pair):
            hint = "Write --feature TEACHER_LAYER=STUDENT_LAYER."
            raise UsageError("EK768", f"{feature!r} is no pair of layers.", hint)
    return Teacher(model, features=pairs, preprocess=preprocess, cache=not no_cache, **chosen)


@contextmanager
def epoch_progress(label: str, epochs: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A bar over all steps, and a line for each epoch with its numbers and the time left."""
    with progress(label) as advance:
        yield _Teller(epochs, advance)


class _Teller:
    """Turns the events of a training into a bar and lines."""

    def __init__(self, epochs: int, advance: Callable[[int, int], None]) -> None:
        self._epochs, self._advance = epochs, advance
        self._steps = 0
        self._began = time.monotonic()

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "say":
            say(event["text"])
        elif event["event"] == "waiting":
            say(f"{event['worker']} waits for the others, {duration(event['deadline_s'])} at most")
        elif event["event"] == "teacher":
            self._advance(event["done"], event["total"])
        elif event["event"] == "step" and event.get("steps"):
            self._advance(event["epoch"] * event["steps"] + event["step"], self._epochs * event["steps"])
        elif event["event"] == "epoch":
            left_s = event["seconds"] * (self._epochs - event["epoch"])
            left = f", {duration(left_s)} left" if left_s else ""
            took = f"{duration(event['seconds'])}{left}"
            say(f"epoch {event['epoch']} of {self._epochs}: {numbers(event['numbers'])} ({took})")


def duration(seconds: float) -> str:
    """``"45 s"``, ``"12 min"``, ``"3.5 h"``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def numbers(found: Mapping[str, float]) -> str:
    """``"loss 0.512, accuracy 0.871"``."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in found.items())


def outcome(trained: "Trained", lines: "list[str]") -> Outcome:
    """A training as a command shows it; ``lines`` are what its method has to say."""
    if trained.artifact is None:  # the chief shows what was reached
        return Outcome(trained.describe(), lines, trained.findings)
    runnable = trained.tflite.path if trained.tflite else trained.artifact.path
    steps = [command_line("evaluate", runnable, "--data", "DATA")]
    table = _table(trained, trained.artifact)
    return Outcome(trained.describe(), [table, *lines], trained.findings, next_steps=steps)


def _table(trained: "Trained", artifact: "Artifact") -> "Table":
    from rich.table import Table

    names = list(dict.fromkeys(name for epoch in trained.epochs for name in epoch.numbers))
    title = f"{artifact.path}: {artifact.size_bytes:,} B"
    if trained.tflite:
        title += f"; {trained.tflite.path}: {trained.tflite.size_bytes:,} B"
    table = Table(title=title, title_justify="left")
    for heading in ("epoch", *(name.replace("_", " ") for name in names), "seconds"):
        table.add_column(heading, justify="right")
    for epoch in trained.epochs:
        cells = (f"{epoch.numbers[name]:.4f}" if name in epoch.numbers else "" for name in names)
        table.add_row(str(epoch.epoch), *cells, f"{epoch.seconds:.1f}")
    return table
