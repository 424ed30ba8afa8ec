"""What is to be trained, how, and what comes back from each epoch: plain data between edgekit and its child process."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

# So long may the training process take to end in order.
ENDING_S = 10.0


@dataclass(frozen=True)
class Job:
    """One training: everything that decides its result.

    ``method`` is the name of a file in ``train/methods``, ``options`` are that method's own. ``optimizer``,
    ``learning_rate`` and ``loss`` are None where the model's own configuration, or the choice of ``objective.py``,
    is to be taken. ``early_stopping`` is a number of epochs without improvement, after which the best is kept.
    ``scale_learning_rate`` is that of ``layer_rates.py``, ``learning_rate_decay`` that of ``rate_decay.py``,
    ``strategy`` that of ``distributed.py`` or ``workers.py``, ``augment`` that of ``augmentation.py``:
    ``"flip,shift:4"``. ``keep_names`` leaves the names of inner tensors in the ``.tflite``. ``teacher`` is what
    ``edgekit.teacher_pass`` found out. ``epochs_before`` were trained by the steps of a pruning that came before.
    """

    method: str
    model: str
    output: str
    train: str
    epochs: int
    validation: str | None = None
    preprocess: str | None = None
    batch_size: int = 128
    optimizer: str | None = None
    learning_rate: float | None = None
    loss: str | None = None
    early_stopping: int | None = None
    seed: int = 0
    tflite: str | None = None
    tensorboard: str | None = None
    csv: str | None = None
    strategy: str | None = None
    scale_learning_rate: bool = False
    learning_rate_decay: Literal["none", "cosine"] = "none"
    augment: str | None = None
    keep_names: bool = False
    teacher: Mapping[str, Any] | None = None
    epochs_before: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The job as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """The job out of its text."""
        return cls(**json.loads(text))

    @property
    def checkpoints(self) -> Path:
        """The folder beside the output that keeps the last epoch until the job is done."""
        output = Path(self.output)
        return output.with_name(f".{output.name}.training")


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: ``numbers`` by Keras's names, ``{"loss": 0.5, "val_accuracy": 0.87}``."""

    epoch: int
    numbers: Mapping[str, float]
    seconds: float
