"""How much longer a training step takes with quantization-aware training and with pruning than plain ``model.fit``.

    python benchmarks/training_overhead.py [--batch 32] [--steps 20] [--rounds 7] [--model MODEL.keras]

Variants take turns, so that the machine's mood meets them all; the figure is the median of the ratios within a round.
Each variant is a function from a fresh model to the model that is fitted and its callbacks: add one for another
method. The exit status is 1 where a ratio is above what it may be.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def residual_network() -> Any:
    """A residual network of the size of MLPerf Tiny's for CIFAR-10, with weights at random."""
    import keras
    from keras import layers

    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(inputs)))
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        y = layers.Conv2D(filters, 3, stride, padding="same")(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
        short = x if stride == 1 else layers.Conv2D(filters, 1, stride, padding="same")(x)
        x = layers.ReLU()(layers.Add()([short, y]))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


def _plain(model: Any) -> tuple[Any, list[Any]]:
    return model, []


def _qat(weight_bits: int) -> "Variant":
    def make(model: Any) -> tuple[Any, list[Any]]:
        from edgekit.train import QATOptions, apply_qat

        return apply_qat(model, QATOptions(weight_bits=weight_bits)), []

    return make


def _prune(model: Any) -> tuple[Any, list[Any]]:
    from edgekit.train import PruningSchedule, prune_magnitude

    schedule = PruningSchedule.polynomial(0.8, end_step=100_000, frequency=10)
    return model, [prune_magnitude(model, schedule)]


Variant = Callable[[Any], tuple[Any, list[Any]]]
VARIANTS: dict[str, Variant] = {"plain": _plain, "qat": _qat(8), "qat, 4 bits": _qat(4), "prune": _prune}
# The most that a step may take, in plain steps.
MOST = {"qat": 1.6, "qat, 4 bits": 1.6, "prune": 1.1}


def measure(model: Path | None, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    """Step times in ms of each variant, and their ratios to plain."""
    import keras
    import numpy as np
    import tensorflow as tf

    def fresh() -> Any:
        return keras.saving.load_model(model, compile=False) if model else residual_network()

    fitted = {name: make(fresh()) for name, make in VARIANTS.items()}
    plain = fitted["plain"][0]
    shape, classes = plain.inputs[0].shape[1:], plain.outputs[0].shape[-1]
    generator = np.random.default_rng(0)
    x = generator.random((batch * steps, *shape), np.float32)
    y = generator.integers(0, classes, batch * steps)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch).prefetch(2)
    for each, callbacks in fitted.values():
        each.compile("adam", "sparse_categorical_crossentropy")
        each.fit(data, callbacks=callbacks, verbose=0)  # compiles
    times: dict[str, list[float]] = {name: [] for name in fitted}
    for _round in range(rounds):
        for name, (each, callbacks) in fitted.items():
            began = time.perf_counter()
            each.fit(data, callbacks=callbacks, verbose=0)
            times[name].append(1000 * (time.perf_counter() - began) / steps)
    return {
        name: {
            "step_ms": statistics.median(found),
            "ratio": statistics.median(one / base for one, base in zip(found, times["plain"], strict=True)),
        }
        for name, found in times.items()
    }


def main() -> None:
    """Print a line per variant, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    for option, default in (("--batch", 32), ("--steps", 20), ("--rounds", 7)):
        parser.add_argument(option, type=int, default=default)
    arguments = parser.parse_args()
    result = measure(arguments.model, arguments.batch, arguments.steps, arguments.rounds)
    for name, found in result.items():
        most = f", at most {MOST[name]}" if name in MOST else ""
        print(f"{name:12} {found['step_ms']:8.1f} ms per step, {found['ratio']:.2f} x plain{most}")
    print(json.dumps(result))
    sys.exit(any(result[name]["ratio"] > most for name, most in MOST.items()))


if __name__ == "__main__":
    main()
