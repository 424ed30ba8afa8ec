"""Does ``edgekit evaluate`` use all cores? Wanted: 0.9 x cores x the rate of a bare loop on one thread.

    python benchmarks/evaluate_throughput.py MODEL.tflite DATA.npz [--pairs 7]

The bare loop quantizes all samples beforehand, in one process with one thread, and then does nothing but
``set_tensor``, ``invoke`` and ``get_tensor``. It runs before and after each evaluation, so that both meet
the same machine; the verdict is on the median ratio of the pairs. ``all cores`` runs that loop in one
process per core at once, which is what the machine can do at most: cores share caches and clock rates.
"""

import argparse
import os
import statistics
import subprocess
import sys

from edgekit import evaluate

_WANTED = 0.9
_BARE = """
import sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1], num_threads=1)
given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
samples = np.load(sys.argv[2])["x"]
interpreter.resize_tensor_input(given["index"], (1, *samples.shape[1:]))
interpreter.allocate_tensors()
scale, zero_point = given["quantization"]
if scale:
    limits = np.iinfo(given["dtype"])
    samples = np.clip(np.rint(samples / np.float32(scale)) + zero_point, limits.min, limits.max)
samples = samples.astype(given["dtype"])
print("ready", flush=True)
sys.stdin.readline()
for turn in range(2):
    started = time.perf_counter()
    for row in range(len(samples)):
        interpreter.set_tensor(given["index"], samples[row : row + 1])
        interpreter.invoke()
        interpreter.get_tensor(made["index"])
    rate = len(samples) / (time.perf_counter() - started)
print(rate)
"""


def bare_rates(model: str, data: str, *, processes: int) -> list[float]:
    """Samples per second of bare loops that run at the same time, the second turn of two."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _BARE, model, data],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(processes)
    ]
    for process in started:
        process.stdout.readline()
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [float(process.communicate()[0]) for process in started]


def main() -> None:
    """Measure the pairs and print the verdict; exits with 1 where it is too slow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    ratios, ceilings = [], []
    for _ in range(options.pairs):
        before = bare_rates(options.model, options.data, processes=1)[0]
        ours = evaluate(options.model, options.data).samples_per_second
        after = bare_rates(options.model, options.data, processes=1)[0]
        together = sum(bare_rates(options.model, options.data, processes=cores))
        bare = (before + after) / 2
        ratios.append(ours / (cores * bare))
        ceilings.append(together / (cores * bare))
        print(
            f"edgekit {ours:,.0f}/s, bare {bare:,.0f}/s on one of {cores} cores: {ratios[-1]:.3f}; "
            f"bare on all cores {ceilings[-1]:.3f}"
        )
    ratio = statistics.median(ratios)
    verdict = "at least" if ratio >= _WANTED else "BELOW"
    print(
        f"median ratio {ratio:.3f}, {verdict} {_WANTED}; "
        f"of what the machine can do at most ({statistics.median(ceilings):.3f}): "
        f"{ratio / statistics.median(ceilings):.3f}"
    )
    sys.exit(ratio < _WANTED)


if __name__ == "__main__":
    main()
