"""A run on public data: ResNet8 from its Keras 2 file through QAT to a verdict, in one call."""

import numpy as np
import pytest

import edgekit

pytestmark = pytest.mark.acceptance

_RECIPE = """
[recipe]
schema = 1
name = "ResNet8 in int8"
model = "{assets}/mlperf-tiny-ic/pretrainedResnet.h5"

[data]
train = "train.npz"
validation = "validation.npz"
calibration = "validation.npz"
test = "test.npz"

[[step]]
do = "quantize"
id = "int8"

[[step]]
do = "qat"
input = "source"
epochs = 1

[[step]]
do = "evaluate"
input = ["source", "int8", "qat"]

[[step]]
do = "benchmark"
input = ["int8", "qat"]
max_seconds = 1

[check]
input = "qat"
max_drop = 0.06
size_bytes = 100000
"""


def test_resnet8_is_trained_measured_and_checked(assets, tmp_path):
    data = assets / "data"
    with np.load(data / "cifar10_train20k.npz") as arrays:
        order = np.random.default_rng(0).permutation(len(arrays["y"]))
        for name, part in {"train": order[:2000], "validation": order[2000:2300]}.items():
            np.savez(tmp_path / f"{name}.npz", x=arrays["x"][part], y=arrays["y"][part])
    with np.load(data / "cifar10_test5k.npz") as arrays:
        np.savez(tmp_path / "test.npz", x=arrays["x"][::2], y=arrays["y"][::2])
    path = tmp_path / "resnet8.toml"
    path.write_text(_RECIPE.format(assets=assets))
    found = edgekit.run(path)
    source, int8, qat = found.steps[2].result.measured
    assert source["value"] == pytest.approx(0.8728, abs=0.02)
    assert source["n"] == 2500
    for entry in (int8, qat):
        assert entry["drop"] == pytest.approx(source["value"] - entry["value"])
        assert entry["drop_ci95"][0] < entry["drop"] < entry["drop_ci95"][1] < 0.06
    assert found.model.stat().st_size < 100_000
    assert found.exit_code in {
        0,
        6,
    }  # by how the accuracy of a short training turned out, but never a failure
    assert {step.status for step in edgekit.run(path).steps} == {"cached"}
