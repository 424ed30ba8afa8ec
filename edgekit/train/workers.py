"""Workers on several machines: each trains on its part of every batch, and all take the same steps.

Keras's ``fit`` fails within the scope of ``tf.distribute.MultiWorkerMirroredStrategy``, so every worker fits a plain
model of its own, and the strategy only adds up over all workers:

1. gradients, each weighted by the worker's part of the batch, before the optimizer sees them;
2. what layers keep of the samples beside their weights (moving averages, ranges), as a mean after every step;
3. the numbers of an epoch, each weighted by the samples that the worker saw.

What the chief has is given to the others in the same way, for the others add zeros.
"""

import faulthandler
import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgekit.errors import ModelError, UsageError
from edgekit.train.checkpoint import Checkpoint
from edgekit.train.tf_config import Cluster, deadline_s

Report = Callable[[Mapping[str, Any]], None]
# What operations that workers do together say when one of them is gone.
_LOST = (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError)


class Workers:
    """The one worker of a training in one process; ``Together`` are several.

    ``count`` is how many there are, ``index`` which one this is. Worker 0, the chief, writes what is kept.
    """

    count, index = 1, 0

    @property
    def is_chief(self) -> bool:
        """Whether this one writes what is kept."""
        return self.index == 0

    def optimizer(self, optimizer: Any) -> Any:
        """The optimizer that sees the gradients of whole batches."""
        return optimizer

    def part(self, batches: Any) -> Any:
        """This worker's samples of each batch."""
        return batches

    def callbacks(self, samples: int, batch_size: int) -> list[Any]:  # noqa: ARG002 - those of several workers
        """What comes before all other callbacks; ``samples`` are those of an epoch."""
        return [keras.callbacks.TerminateOnNaN()]

    def restore(self, checkpoint: Checkpoint, model: Any) -> tuple[dict[str, Any], list[Any]] | None:
        """What the chief's checkpoint holds, in the model of every worker; see ``Checkpoint.restore``."""
        return checkpoint.restore(model)


class Together(Workers):
    """Several workers, of which this process is one.

    Args:
        cluster: All of them.
        strategy: The strategy that connects them.
    """

    def __init__(self, cluster: Cluster, strategy: Any) -> None:
        self.count, self.index = len(cluster.addresses), cluster.index
        self._name = cluster.name.capitalize()
        self._strategy = strategy
        self.weight = tf.Variable(1 / self.count, trainable=False)
        self._sum = tf.function(self._summed, autograph=False)

    def total(self, values: Sequence[Any]) -> list[Any]:
        """The sums of tensors of one type over all workers, who all have to ask for them in the same order."""
        return list(self._sum(list(values)))

    def _summed(self, values: list[Any]) -> list[Any]:
        def add(*given: Any) -> Any:
            # Tensors get a device here, without which they cannot be sent.
            own = [tf.identity(value) for value in given]
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, own)

        return list(self._strategy.run(add, args=tuple(values)))

    def optimizer(self, optimizer: Any) -> Any:
        """The same optimizer, given the weighted sum of all workers' gradients."""
        step = optimizer.apply

        def apply(grads: Sequence[Any], trainable_variables: Any = None) -> None:
            # A layer that took no part in the loss has no gradient.
            own = [self.weight * tf.convert_to_tensor(gradient) for gradient in grads if gradient is not None]
            summed = iter(self.total(own))
            step([None if gradient is None else next(summed) for gradient in grads], trainable_variables)

        # In place of its method: the file names the class, which everybody can read then.
        optimizer.apply = apply
        return optimizer

    def part(self, batches: Any) -> Any:
        """Every ``count``-th sample of each batch, from ``index`` on."""

        def own(*batch: Any) -> Any:
            return tf.nest.map_structure(lambda rows: rows[self.index :: self.count], batch)

        return batches.map(own)

    def samples_of(self, batch_size: int) -> int:
        """How many samples of a batch are this worker's."""
        return len(range(self.index, batch_size, self.count))

    def callbacks(self, samples: int, batch_size: int) -> list[Any]:
        """The callback that keeps all workers the same.

        A worker that stopped at its first NaN would leave the others waiting: all of them find it in the numbers of
        the epoch.
        """
        return [_InStep(self, samples, batch_size)]

    def restore(self, checkpoint: Checkpoint, model: Any) -> tuple[dict[str, Any], list[Any]] | None:
        """The chief's checkpoint, or the weights that the chief begins with, sent to every worker.

        Raises:
            UsageError: This worker was asked for another training than the chief.
        """
        found = checkpoint.restore(model) if self.is_chief else None
        training, state = self._told([checkpoint.training, found[0] if found else None])
        if training != checkpoint.training:
            message = f"{self._name} has another model, other data or other options than the chief."
            raise UsageError("EK788", message, "Run the same command with the same files on every worker.")
        best = found[1] if found else []
        if state and state["best"]:
            best = self._of_chief(best or model.get_weights())
        self.align(model)
        return (state, best) if state else None

    def align(self, model: Any) -> None:
        """Give every worker what the chief's model and its optimizer hold."""
        variables = [*model.variables, *model.optimizer.variables]
        for variable, value in zip(variables, self._of_chief(variables), strict=True):
            # The seed and the count of a dropout: each worker drops other units.
            own = np.array([self.index, 0], np.uint32) if variable.dtype == "uint32" else 0
            variable.assign(value + own)

    def _told(self, document: Any) -> Any:
        """A JSON document of the chief, for every worker."""
        text = np.frombuffer(json.dumps(document).encode(), np.uint8)
        (size,) = self._of_chief([np.array([text.size])])
        (sent,) = self._of_chief([np.resize(text, int(size[0]))])
        return json.loads(sent.astype(np.uint8).tobytes())

    def _of_chief(self, arrays: Sequence[Any]) -> list[Any]:
        """What the chief has in place of these arrays, which have the same shapes there."""
        given = [np.asarray(array) for array in arrays]
        # float64 holds every number of the types that models have.
        flat = np.concatenate([array.ravel().astype(np.float64) for array in given])
        (sent,) = self.total([tf.constant(flat if self.is_chief else np.zeros_like(flat))])
        parts = np.split(np.asarray(sent), np.cumsum([array.size for array in given])[:-1])
        return [
            part.reshape(array.shape).astype(array.dtype) for part, array in zip(parts, given, strict=True)
        ]


class _InStep(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Keeps what is no gradient the same on all workers."""

    def __init__(self, workers: Together, samples: int, batch_size: int) -> None:
        super().__init__()
        self._workers, self._samples, self._batch_size = workers, samples, batch_size
        self._average = tf.function(self._mean_states, autograph=False)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Know this worker's part of the batch; the last of an epoch may be small."""
        size = min(self._batch_size, self._samples - batch * self._batch_size)
        self._workers.weight.assign(self._workers.samples_of(size) / size)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Take the mean of what layers keep of the samples."""
        if self._states():
            self._average()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Agree on the numbers, and take the chief's weights: machines of other kinds round in other ways."""
        whole, rest = divmod(self._samples, self._batch_size)
        seen = whole * self._workers.samples_of(self._batch_size) + self._workers.samples_of(rest)
        names = sorted(logs)
        own = np.array([logs[name] for name in names], np.float64) * seen / self._samples
        (agreed,) = self._workers.total([tf.constant(own)])
        logs.update(zip(names, np.asarray(agreed).tolist(), strict=True))
        self._workers.align(self.model)

    def _states(self) -> list[Any]:
        return [variable for variable in self.model.non_trainable_variables if variable.dtype == "float32"]

    def _mean_states(self) -> None:
        states = self._states()
        for state, summed in zip(states, self._workers.total([state.value for state in states]), strict=True):
            state.assign(summed / self._workers.count)


@contextmanager
def joined(cluster: Cluster | None, report: Report) -> Iterator[Workers]:
    """The workers of a training, once all of them are there.

    Args:
        cluster: All of them; None for a training in one process.
        report: Told that this one waits, because nobody else can end the process if nobody comes.

    Raises:
        UsageError: This worker cannot be reached at its address.
        ModelError: A worker was lost.
    """
    if cluster is None:
        yield Workers()
        return
    together = Together(cluster, _connected(cluster, report))
    try:
        yield together
    except _LOST as error:
        raise ModelError(
            "EK788",
            f"{cluster.name.capitalize()} lost another worker, or waited for it for {deadline_s():.0f} seconds.",
            "Run the same command on every worker with --resume, to go on after the last epoch that the chief kept.",
            detail=str(error),
        ) from error


def _connected(cluster: Cluster, report: Report) -> Any:
    """The strategy, when all workers have connected to the chief."""
    seconds = deadline_s()
    report({"event": "waiting", "worker": cluster.name, "deadline_s": seconds})
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=seconds)
    ended = signal.getsignal(signal.SIGTERM)
    # TensorFlow waits without letting any other Python code run, and for an hour.
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except (tf.errors.OpError, RuntimeError) as error:
        raise UsageError(
            "EK787",
            f"{cluster.name.capitalize()} cannot take part at {cluster.addresses[cluster.index]}.",
            "Look that the address is this machine's and that nothing else listens there.",
            detail=str(error),
        ) from error
    finally:
        faulthandler.cancel_dump_traceback_later()
        # TensorFlow has put its own in place.
        signal.signal(signal.SIGTERM, ended)
    report({"event": "joined"})
    return strategy
