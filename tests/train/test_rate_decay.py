"""The learning rate over a training."""

import keras
import numpy as np
import pytest

from edgekit.train.rate_decay import CosineRate, cosine_rate


def test_the_rate_falls_from_its_base_over_half_of_it_to_nothing():
    assert cosine_rate(0.2, 0) == pytest.approx(0.2)
    assert cosine_rate(0.2, 0.5) == pytest.approx(0.1)
    assert cosine_rate(0.2, 1) == pytest.approx(0, abs=1e-12)


def test_an_interrupted_training_goes_on_with_the_rate_where_it_was():
    class Rates(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def on_train_batch_end(self, _batch, logs=None):  # noqa: ARG002 - Keras's signature
            self.seen.append(float(self.model.optimizer.learning_rate))

    x, y = np.ones((32, 2), np.float32), np.zeros((32, 1), np.float32)

    def rates(starts):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.5), "mse")
        seen = Rates()
        for start, end in starts:
            model.fit(
                x,
                y,
                batch_size=8,
                initial_epoch=start,
                epochs=end,
                callbacks=[CosineRate(0.5, 4), seen],
                verbose=0,
            )
        return seen.seen

    whole, parts = rates([(0, 4)]), rates([(0, 1), (1, 4)])
    assert whole == pytest.approx(parts)
    assert whole == pytest.approx([cosine_rate(0.5, step / 16) for step in range(16)], rel=1e-6)
