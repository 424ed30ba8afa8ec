"""What does edgekit add to the time of the quantizers underneath?

    python benchmarks/quantize_time.py [--pairs 5]

Whole processes, in turn: ``edgekit quantize`` against a script that a user would write with the library alone
(benchmarks/bare/), both with 256 calibration samples. Wanted: a ratio of at most 1.15 with ``--effort none``, where
edgekit adds no more than reading its file back and comparing it, and of at most 3 with the default effort, which
balances channels, chooses ranges and corrects biases.
"""

import argparse
import itertools
import os
import sys
import tempfile
from pathlib import Path

import _commands

from edgekit.passes.add_signature import add_signature

LIMITS = {"none": 1.15, "low": 3.0}
_COUNT = "256"
_BARE = Path(__file__).parent / "bare"


def main() -> int:
    """Run all comparisons; exit 1 where one is above its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    assets = Path(os.environ.get("EDGEKIT_ASSETS", Path(__file__).parents[2] / "shared" / "assets"))
    data = assets / "data" / "cifar10_train20k.npz"
    digits = Path(__file__).parents[1] / "examples" / "digits"
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "ours.tflite")
        # The bare engine refuses files without a signature, such as this one: it gets a copy that has one.
        resnet = Path(folder) / "resnet.tflite"
        resnet.write_bytes(add_signature((assets / "mlperf-tiny-ic/pretrainedResnet.tflite").read_bytes()))
        keras, small = digits / "model.keras", digits / "calibration.npz"
        cases = [
            (".tflite, ai-edge-quantizer", resnet, data, "aeq_static.py"),
            ("Keras, TFLiteConverter", keras, small, "tflite_converter.py"),
        ]
        for effort, (title, model, samples, script) in itertools.product(LIMITS, cases):
            engine = "tensorflow" if model.suffix == ".keras" else "ai-edge-quantizer"
            ours = ["edgekit", "quantize", str(model), "-o", output, "--overwrite", "-r", "int8"]
            ours += ["--calibration", str(samples), "--calibration-samples", _COUNT, "--engine", engine]
            ours += ["--effort", effort]
            bare = [
                sys.executable,
                str(_BARE / script),
                str(model),
                str(samples),
                _COUNT,
                f"{folder}/bare.tflite",
            ]
            result = _commands.paired(ours, bare, pairs=pairs)
            failed |= result.ratio > LIMITS[effort]
            print(f"{title}, --effort {effort}: {result.sentence(LIMITS[effort])}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
