"""The hard case of benchmarks/hard_case.py, small and untrained: bad scales break plain int8, and edgekit mends it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.tensor import difference

_BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

_MAKE = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
folder = Path(sys.argv[2])
import keras
import numpy as np
from _hard_model import network, unbalance
from edgekit import tensorflow_process

keras.utils.set_random_seed(0)
model = network(((8, 1), (12, 2), (12, 1)), shape=(12, 12, 3), classes=4)
x = np.random.default_rng(0).uniform(0, 255, (160, 12, 12, 3)).astype(np.float32).cumsum(1) / 12
for layer in model.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.momentum = 0.0
model(x, training=True)
np.savez(folder / "x.npz", x=x, trained=model.predict(x, verbose=0))
unbalance(model, largest=1000, seed=1)
np.savez(folder / "y.npz", unbalanced=model.predict(x, verbose=0))
model.save(folder / "hard.keras")
tensorflow_process.export_tflite(folder / "hard.keras", folder / "hard.tflite", tensorflow_process.TFLiteExport())
"""


@pytest.mark.slow
def test_a_small_hard_case_comes_back(tmp_path):
    subprocess.run(
        [sys.executable, "-c", _MAKE, str(_BENCHMARKS), str(tmp_path)], check=True, capture_output=True
    )
    with np.load(tmp_path / "x.npz") as one, np.load(tmp_path / "y.npz") as other:
        assert difference(one["trained"], other["unbalanced"]).snr_db > 100
    found = {
        equalize: edgekit.quantize(
            tmp_path / "hard.tflite",
            tmp_path / f"{equalize}.tflite",
            recipe="int8",
            calibration=tmp_path / "x.npz",
            equalize=equalize,
        )
        for equalize in ("never", "auto")
    }
    assert found["never"].read_back.snr_db < 10
    assert found["auto"].read_back.snr_db > 25
    assert "EK326" in {finding.code for finding in found["auto"].findings}
