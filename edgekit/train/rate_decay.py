"""A learning rate that falls while a model is trained."""

import math
from typing import Any

import keras


class CosineRate(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Lowers the rate along half a cosine, from the optimizer's own to nothing (arXiv:1608.03983, section 3).

    Args:
        base: The rate of the first step.
        epochs: All epochs of the training, those before an interruption included.
    """

    def __init__(self, base: float, epochs: int) -> None:
        super().__init__()
        self._base, self._epochs = base, epochs
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Know where in the training the steps are."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Set the rate of this step."""
        share = (self._epoch + batch / self.params["steps"]) / self._epochs
        self.model.optimizer.learning_rate = cosine_rate(self._base, share)


def cosine_rate(base: float, share: float) -> float:
    """The rate when a share in 0..1 of the training is done: ``base`` at 0, half of it at 0.5, 0 at 1."""
    return base * 0.5 * (1 + math.cos(math.pi * share))
