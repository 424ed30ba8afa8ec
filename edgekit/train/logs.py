"""The logs of a training that its user asked for: a line of CSV for each epoch, and TensorBoard's files."""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from edgekit import files
from edgekit.train.job import Job

_MOST_BYTES = 64 << 20
# tf.summary.scalar would need the package tensorboard, which only its readers need.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
)


class EpochLogs(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Writes both as each epoch ends, before it is kept: one that is trained again after a crash replaces its line.

    Epochs are counted from 1, and those of earlier steps of the same pruning, ``job.epochs_before``, before them.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._writers: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log an epoch whose numbers are numbers."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        if not all(map(math.isfinite, numbers.values())):
            return
        number = self._job.epochs_before + epoch + 1
        if self._job.csv:
            _add_line(Path(self._job.csv), number, numbers)
        if self._job.tensorboard:
            self._add_points(Path(self._job.tensorboard), number, numbers)

    def _add_points(self, folder: Path, epoch: int, numbers: Mapping[str, float]) -> None:
        """A point for each number, named and placed as Keras's own callback does."""
        for name, value in numbers.items():
            kind = "validation" if name.startswith("val_") else "train"
            if kind not in self._writers:
                self._writers[kind] = tf.summary.create_file_writer(str(folder / kind))
            with self._writers[kind].as_default():
                tf.summary.write(f"epoch_{name.removeprefix('val_')}", value, step=epoch, metadata=_SCALAR)
            self._writers[kind].flush()


def _add_line(path: Path, epoch: int, numbers: Mapping[str, float]) -> None:
    """Write the file anew: the lines of earlier epochs, then this one."""
    kept: list[dict[str, Any]] = []
    if epoch > 1 and path.is_file():
        rows = csv.DictReader(io.StringIO(files.read_bytes(path, most_bytes=_MOST_BYTES).decode()))
        kept = [row for row in rows if str(row.get("epoch")).isdecimal() and int(row["epoch"]) < epoch]
    kept.append({"epoch": epoch, **numbers})
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys(name for row in kept for name in row)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(kept)
    files.write_bytes(path, text.getvalue().encode())
