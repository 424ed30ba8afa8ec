"""Training on several devices of one machine through tf.distribute: each takes its part of every batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from edgekit.errors import UsageError
from edgekit.findings import Finding, Level


@contextmanager
def devices_of(strategy: str | None) -> Iterator[list[Finding]]:
    """Everything that is made inside belongs to the devices of a strategy.

    Args:
        strategy: ``"mirrored"`` for all GPUs of the machine, or all logical CPUs where there is none; any other for
            the one device that TensorFlow takes by itself.

    Yields:
        What the user should know.
    """
    if strategy != "mirrored":
        yield []
        return
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    findings = []
    if len(devices) == 1:
        message = f"There is one device, {devices[0].name}: --strategy mirrored makes no difference."
        findings.append(Finding("EK780", message, level=Level.NOTE))
    with tf.distribute.MirroredStrategy([device.name for device in devices]).scope():
        yield findings


def check_batches(count: int, batch_size: int, workers: int = 1) -> None:
    """Refuse a last batch that leaves a device without a sample: it would normalize nothing, which gives NaN.

    Raises:
        UsageError: The last batch has fewer samples than there are devices, or workers.
    """
    replicas = max(workers, tf.distribute.get_strategy().num_replicas_in_sync)
    last = count % batch_size or min(count, batch_size)
    if last < replicas:
        who = "workers" if workers > 1 else "devices"
        raise UsageError(
            "EK781",
            f"The last batch of {count:,} samples has {last}, and {replicas} {who} share it.",
            "Give another --batch-size.",
        )
