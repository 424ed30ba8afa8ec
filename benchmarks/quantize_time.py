"""What does edgekit add to the time of the quantizers underneath?

    python benchmarks/quantize_time.py [--pairs 5]

Whole processes, in turn: ``edgekit quantize`` against a script that a user would write with the library alone
(benchmarks/bare/), both with 256 calibration samples or all there are. Wanted: a ratio of at most 1.15, or half a
second more, with ``--effort none``, where edgekit adds no more than reading its file back and comparing it; and of at
most 3 with the default effort, which balances channels, chooses ranges and corrects biases.
"""

import argparse
import itertools
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import _commands
from _cases import ASSETS, CASES, UNLABELLED

import edgekit
from edgekit.passes.add_signature import add_signature

# A ratio, and so many seconds more that count as nothing.
LIMITS = {"none": (1.15, 0.5), "low": (3.0, 0.0)}
_COUNT = "256"
_IMAGES = "data/cifar10_train20k.npz"
_BARE = Path(__file__).parent / "bare"


@dataclass(frozen=True)
class Pair:
    """A model with data, and the script that quantizes it with the library alone."""

    title: str
    engine: str
    model: Path
    data: Path
    script: str
    more: tuple[str, ...] = ()

    def commands(self, effort: str, folder: Path) -> tuple[list[str], list[str]]:
        """Ours and the bare one."""
        suffix = ".onnx" if self.engine == "onnxruntime" else ".tflite"
        ours, bare = (str(folder / f"{name}{suffix}") for name in ("ours", "bare"))
        data = ["--calibration", str(self.data), "--calibration-samples", _COUNT]
        options = ["-r", "int8", "--engine", self.engine, "--effort", effort, "--overwrite"]
        script = [sys.executable, str(_BARE / self.script)]
        return (
            ["edgekit", "quantize", str(self.model), "-o", ours, *data, *options],
            [*script, str(self.model), str(self.data), _COUNT, bare, *self.more],
        )


def pairs_of(folder: Path) -> list[Pair]:
    """The models, prepared in a folder."""
    # The bare engine refuses files without a signature, such as this one: it gets a copy that has one.
    resnet = folder / "resnet.tflite"
    resnet.write_bytes(add_signature((ASSETS / "mlperf-tiny-ic/pretrainedResnet.tflite").read_bytes()))
    digits = Path(__file__).parents[1] / "examples" / "digits"
    converter = (digits / "model.keras", digits / "calibration.npz", "tflite_converter.py")
    found = [
        Pair(".tflite, ai-edge-quantizer", "ai-edge-quantizer", resnet, ASSETS / _IMAGES, "aeq_static.py"),
        Pair("Keras, TFLiteConverter", "tensorflow", *converter),
    ]
    resnet_onnx = folder / "resnet.onnx"
    edgekit.convert(ASSETS / "mlperf-tiny-ic/pretrainedResnet.h5", resnet_onnx)
    onnx = {"ResNet8": (resnet_onnx, ASSETS / _IMAGES)}
    for case in (*CASES, *UNLABELLED):
        if case.name in {"vww-onnx", "fastestdet"}:
            onnx[case.name] = (case.path, case.data(folder)[0])
    for name, (model, data) in onnx.items():
        title = f"{name}, ONNX Runtime"
        found.append(Pair(title, "onnxruntime", model, data, "ort_static.py", ("per-channel",)))
    return found


def main() -> int:
    """Run all comparisons; exit 1 where one is above its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for effort, pair in itertools.product(LIMITS, pairs_of(folder)):
            result = _commands.paired(*pair.commands(effort, folder), pairs=pairs)
            failed |= not result.is_within(*LIMITS[effort])
            print(f"{pair.title}, --effort {effort}: {result.sentence(*LIMITS[effort])}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
