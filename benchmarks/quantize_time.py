"""Does edgekit add to the time of the quantizers underneath? Wanted: a ratio of at most 1.15.

    python benchmarks/quantize_time.py [--pairs 5]

Whole processes, in turn: ``edgekit quantize`` against a script that a user would write with the library alone
(benchmarks/bare/), both with 256 calibration samples. edgekit also reads its file back and compares it.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import _commands

from edgekit.passes.add_signature import add_signature

LIMIT = 1.15
_COUNT = "256"
_BARE = Path(__file__).parent / "bare"


def main() -> int:
    """Run both comparisons; exit 1 where one is above the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    assets = Path(os.environ.get("EDGEKIT_ASSETS", Path(__file__).parents[2] / "shared" / "assets"))
    data = assets / "data" / "cifar10_train20k.npz"
    digits = Path(__file__).parents[1] / "examples" / "digits"
    worst = 0.0
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
        for title, model, samples, script in cases:
            engine = "tensorflow" if model.suffix == ".keras" else "ai-edge-quantizer"
            ours = ["edgekit", "quantize", str(model), "-o", output, "--overwrite", "-r", "int8"]
            ours += ["--calibration", str(samples), "--calibration-samples", _COUNT, "--engine", engine]
            bare = [
                sys.executable,
                str(_BARE / script),
                str(model),
                str(samples),
                _COUNT,
                f"{folder}/bare.tflite",
            ]
            result = _commands.paired(ours, bare, pairs=pairs)
            worst = max(worst, result.ratio)
            print(f"{title}: {result.sentence(LIMIT)}", flush=True)
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
