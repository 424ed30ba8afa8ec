"""Runs a model in TensorFlow Lite Micro, by the Python of its toolchain: ``MODEL ARENA_BYTES OUTPUTS SAMPLES``.

SAMPLES is an .npz file with ``input_0``, ``input_1``, ... in the order of the file, one row for each run. So many
outputs are written beside it, as ``outputs.npz``. What the interpreter allocates it says itself, on standard error.
"""

import sys
from pathlib import Path

import numpy as np
from tflite_micro import runtime


def main() -> None:
    """Run every sample from a fresh state."""
    model, arena_bytes, outputs, samples = sys.argv[1:]
    with np.load(samples, allow_pickle=False) as stored:
        inputs = [stored[f"input_{number}"] for number in range(len(stored.files))]
    interpreter = runtime.Interpreter.from_file(model, arena_size=int(arena_bytes))
    rows = []
    for row in zip(*inputs, strict=True):
        interpreter.reset()
        for number, values in enumerate(row):
            interpreter.set_input(values, number)
        interpreter.invoke()
        rows.append([np.array(interpreter.get_output(number)) for number in range(int(outputs))])
    columns = {f"output_{number}": np.stack(column) for number, column in enumerate(zip(*rows, strict=True))}
    np.savez(Path(samples).with_name("outputs.npz"), **columns)  # type: ignore[arg-type]
    interpreter.print_allocations()


if __name__ == "__main__":
    main()
