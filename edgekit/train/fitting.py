"""The training loop: epochs by Keras, each reported and kept, with NaN and ctrl-C in mind."""

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from edgekit.errors import ModelError
from edgekit.findings import Finding, Level
from edgekit.train import not_finite
from edgekit.train.checkpoint import Checkpoint
from edgekit.train.feeding import Feed
from edgekit.train.job import Epoch, Job
from edgekit.train.layer_rates import with_layer_rates
from edgekit.train.logs import EpochLogs
from edgekit.train.methods import Prepared
from edgekit.train.objective import Objective
from edgekit.train.rate_decay import CosineRate
from edgekit.train.workers import Workers

if TYPE_CHECKING:
    from edgekit.tensor import Array

Report = Callable[[Mapping[str, Any]], None]


def fit(
    prepared: Prepared,
    objective: Objective,
    job: Job,
    feeds: tuple[Feed, Feed | None],
    *,
    checkpoint: Checkpoint,
    workers: Workers,
    report: Report,
) -> tuple[list[Epoch], list[Finding]]:
    """Train, from the last saved epoch on.

    Args:
        prepared: The model to fit, with callbacks of its method.
        objective: What to minimise, and which number tells the best epoch.
        job: Epochs, batch size, seed, early stopping.
        feeds: Training samples, and validation samples or None.
        checkpoint: Where the last epoch is kept.
        workers: Who trains together; the chief alone keeps and reports epochs.
        report: Called with ``{"event": "epoch", ...}`` after each epoch and ``{"event": "step", ...}`` in between.

    Returns:
        All epochs, those of an interrupted run before included, and what the user should know.

    Raises:
        ModelError: The loss became NaN in the first epoch.
    """
    model = prepared.model
    optimizer = objective.optimizer
    if job.scale_learning_rate:
        optimizer = with_layer_rates(optimizer, model)
    optimizer = workers.optimizer(optimizer)
    arguments = {"optimizer": optimizer, "loss": objective.loss, "metrics": objective.metrics}
    model.compile(**{**arguments, **prepared.compile_with})
    model.optimizer.build(model.trainable_variables)
    rate = float(np.asarray(model.optimizer.learning_rate))
    loop = _Loop(prepared, objective, job, checkpoint, workers=workers, report=report)
    started = loop.resume()
    loop.feeds = feeds
    train, validation = feeds
    logs = [EpochLogs(job)] if job.csv or job.tensorboard else []
    callbacks = [*workers.callbacks(train.count, job.batch_size), *prepared.callbacks, *logs, loop]
    if job.learning_rate_decay == "cosine":
        callbacks.append(CosineRate(rate, job.epochs))
    for epoch in range(started, job.epochs):
        model.fit(
            workers.part(train.epoch(job.batch_size, job.seed + epoch)),
            validation_data=validation.in_order(max(256, job.batch_size)) if validation else None,
            initial_epoch=epoch,
            epochs=epoch + 1,
            callbacks=callbacks,
            verbose=0,
        )
        if loop.stopped:
            break
    if job.learning_rate_decay == "cosine":
        model.optimizer.learning_rate = rate  # the next training starts from there
    return loop.finish()


class _Loop(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Keeps the books between the epochs: what was reached, what is the best, and whether to go on."""

    def __init__(
        self,
        prepared: Prepared,
        objective: Objective,
        job: Job,
        checkpoint: Checkpoint,
        *,
        workers: Workers,
        report: Report,
    ) -> None:
        super().__init__()
        self._fitted, self._judged_from = prepared.model, prepared.judged_from
        self._objective, self._job = objective, job
        self._checkpoint, self._workers, self._report = checkpoint, workers, report
        self._epochs: list[Epoch] = []
        self._good: list[Array] | None = None
        self._best: tuple[float, int, list[Array]] | None = None
        self._findings: list[Finding] = []
        self._began = self._said = time.monotonic()
        self.stopped = False
        self.feeds: tuple[Feed, Feed | None]

    def resume(self) -> int:
        """Take up the checkpoint; gives the epoch to start with."""
        restored = self._workers.restore(self._checkpoint, self._fitted)
        if restored is None:
            return 0
        state, best = restored
        self._epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self._good = self._fitted.get_weights()
        self._best = (*state["best"], best) if state["best"] else None
        self._findings.append(
            Finding("EK729", f"Training went on after epoch {len(self._epochs)}.", level=Level.NOTE)
        )
        return len(self._epochs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Start the clock."""
        self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Say how far the epoch is, twice a second."""
        now = time.monotonic()
        if now - self._said < 0.5 or not self._workers.is_chief:
            return
        self._said = now
        steps, loss = self.params.get("steps"), float((logs or {}).get("loss", math.nan))
        self._report(
            {"event": "step", "epoch": len(self._epochs), "step": batch + 1, "steps": steps, "loss": loss}
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Book the epoch, save it, and decide whether another one follows."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        if not all(map(math.isfinite, numbers.values())) or not self._finite():
            self._stop_at_nan(epoch)
            return
        done = Epoch(epoch + 1, numbers, time.monotonic() - self._began)
        self._epochs.append(done)
        self._good = self._fitted.get_weights()
        self._remember_best()
        if not self._workers.is_chief:
            return
        state = {
            "epochs": [asdict(epoch) for epoch in self._epochs],
            "best": self._best[:2] if self._best else None,
        }
        self._checkpoint.save(self._fitted, state, self._best[2] if self._best else ())
        self._report({"event": "epoch", "epoch": done.epoch, "numbers": numbers, "seconds": done.seconds})

    def finish(self) -> tuple[list[Epoch], list[Finding]]:
        """The books, after the weights to keep were put back."""
        if self._job.early_stopping and self._best:
            self._fitted.set_weights(self._best[2])
        return self._epochs, self._findings

    def _remember_best(self) -> None:
        if not self._job.early_stopping or len(self._epochs) < self._judged_from:
            return
        value = self._epochs[-1].numbers[self._objective.watched]
        value = value if self._objective.mode == "max" else -value
        if self._best is None or value > self._best[0]:
            self._best = (value, len(self._epochs), self._fitted.get_weights())
        elif len(self._epochs) - self._best[1] >= self._job.early_stopping:
            self.stopped = True
            best, last = self._best[1], len(self._epochs)
            message = f"Training stopped after epoch {last}: epoch {best} was the best, and is kept."
            self._findings.append(Finding("EK730", message, level=Level.NOTE))

    def _finite(self) -> bool:
        return all(np.isfinite(value).all() for value in self._fitted.get_weights())

    def _stop_at_nan(self, epoch: int) -> None:
        """Go back to the last good epoch; say where the first value that is no number was found."""
        where = self._where(epoch)
        message = f"The loss is no number any more in epoch {epoch + 1}{where}"
        hint = "Train with a smaller --learning-rate, and look for NaN in the data."
        if self._good is None:
            raise ModelError("EK731", f"{message}; no epoch was good.", hint)
        self._fitted.set_weights(self._good)
        self.stopped = True
        self._findings.append(Finding("EK731", f"{message}; epoch {len(self._epochs)} is kept.", hint=hint))

    def _where(self, epoch: int) -> str:
        train, validation = self.feeds
        batches = [train.epoch(self._job.batch_size, self._job.seed + epoch)]
        if validation:
            batches.append(validation.in_order(self._job.batch_size))
        return not_finite.where(self._fitted, itertools.chain(*batches))
