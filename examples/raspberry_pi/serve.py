"""A program on the Pi: reads digits from standard input, one of 64 counts a line, and says what they are.

It runs whatever `edgekit deploy` has put into service, with the preprocessing contract of that release, and goes
over to the next release as soon as that is in service.
"""

import json
import sys
from pathlib import Path

EDGEKIT = Path.home() / ".edgekit"
CURRENT = EDGEKIT / "current"

# The runtime that `edgekit device setup` brought here; programs of one's own may use it too.
runtime = json.loads((EDGEKIT / "runtimes/litert.json").read_text())
sys.path.insert(0, runtime["environment"]["PYTHONPATH"])

import numpy as np  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402


class Release:
    """The release in service: its model, opened, and its contract."""

    def __init__(self) -> None:
        # Resolved once: all files are of one release, also if another goes into service meanwhile.
        self.folder = CURRENT.resolve()
        manifest = json.loads((self.folder / "manifest.json").read_text())
        self.contract = json.loads((self.folder / "preprocessing.json").read_text())
        if self.contract["resize"] or self.contract["layout"] != "keep" or self.contract["color"] != "keep":
            sys.exit("This program scales numbers; the contract of this release is for pictures.")
        self.interpreter = Interpreter(model_path=str(self.folder / manifest["model"]))
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]
        self.output = self.interpreter.get_output_details()[0]

    def classify(self, counts: list[int]) -> tuple[int, float]:
        """The digit, and the network's probability of it."""
        values = np.array(counts, np.float32).reshape(self.input["shape"]) * self.contract["scale"]
        values = (values - (self.contract["mean"] or 0)) / (self.contract["std"] or 1)
        self.interpreter.set_tensor(self.input["index"], quantized(values, self.input))
        self.interpreter.invoke()
        scores = dequantized(self.interpreter.get_tensor(self.output["index"])[0], self.output)
        return int(scores.argmax()), float(scores.max())


def quantized(values: np.ndarray, tensor: dict) -> np.ndarray:
    """Real numbers in the units of a model's input."""
    scale, zero_point = tensor["quantization"]
    if not scale:
        return values.astype(tensor["dtype"])
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(tensor["dtype"])


def dequantized(units: np.ndarray, tensor: dict) -> np.ndarray:
    """A model's output in real numbers."""
    scale, zero_point = tensor["quantization"]
    return (units.astype(np.float32) - zero_point) * scale if scale else units


release = Release()
for line in sys.stdin:
    if CURRENT.resolve() != release.folder:
        release = Release()
    digit, probability = release.classify([int(word) for word in line.split()])
    print(f"{digit} ({probability:.1%}) by release {release.folder.name[:12]}", flush=True)
