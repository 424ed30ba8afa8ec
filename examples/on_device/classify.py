"""Classify samples with the release in service.

Start it on the device with: python classify.py FOLDER SAMPLES.npy

FOLDER is edgekit's on the device, such as ~/.edgekit. This program needs numpy and one TFLite runtime, not edgekit.
"""

import json
import sys
from pathlib import Path

import numpy as np


class Release:
    """The release in service at this moment: model and contract are from the same one, whatever happens to the link."""

    def __init__(self, folder: Path) -> None:
        # Resolved once: `current` may lead elsewhere a moment later, and the old release stays on the disk.
        self.folder = (folder / "current").resolve(strict=True)
        manifest = json.loads((self.folder / "manifest.json").read_text())
        self.digest = manifest["release"]
        self._interpreter = _interpreter(self.folder / manifest["model"])
        self._interpreter.allocate_tensors()
        contract = self.folder / "preprocessing.json"
        self._contract = json.loads(contract.read_text()) if contract.exists() else {}
        if self._contract.get("resize") or self._contract.get("color", "keep") != "keep":
            sys.exit("This example scales samples; the contract asks for more.")

    def classify(self, raw: np.ndarray) -> str:
        """The class of one raw sample, (8, 8, 1), by its name where the contract has names."""
        contract = self._contract
        values = raw.astype(np.float32) * contract.get("scale", 1.0)
        values = (values - (contract.get("mean") or [0])) / (contract.get("std") or [1])
        taken, given = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        if taken["dtype"] != np.float32:
            scale, zero_point = taken["quantization"]
            limits = np.iinfo(taken["dtype"])
            values = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max)
        self._interpreter.set_tensor(taken["index"], values[None].astype(taken["dtype"]))
        self._interpreter.invoke()
        best = int(np.argmax(self._interpreter.get_tensor(given["index"])))
        labels = contract.get("labels")
        return labels[best] if labels else str(best)


def _interpreter(model: Path):  # noqa: ANN202 - either package has the class
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
    return Interpreter(model_path=str(model))


def main() -> None:
    """Classify every sample; a program that runs for long makes a new Release when the link leads elsewhere."""
    folder, samples = Path(sys.argv[1]).expanduser(), np.load(sys.argv[2])
    release = Release(folder)
    print(f"release {release.digest[:12]}", file=sys.stderr)
    for sample in samples:
        if (folder / "current").resolve() != release.folder:
            release = Release(folder)
        print(release.classify(sample))


if __name__ == "__main__":
    main()
