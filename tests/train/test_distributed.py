"""Two devices that share each batch train as one does."""

import json
import subprocess
import sys

import pytest

# The devices of a process are fixed when TensorFlow starts, so this is one of its own.
_SCRIPT = """
import json, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from edgekit.errors import UsageError
from edgekit.train.job import Job
from edgekit.train.run import run
model, data, output = sys.argv[1:]
options = dict(weight_bits=8, activation_bits=8, exclude=[], freeze_epochs=1)
common = dict(batch_size=32, optimizer="sgd", learning_rate=0.01, options=options)
found = []
for strategy in (None, "mirrored"):
    # An epoch of the first is no beginning of the second.
    job = Job("qat", model, f"{output}.{strategy}.keras", data, 2, strategy=strategy, **common)
    found.append([epoch["numbers"]["loss"] for epoch in run(job, lambda event: None)["epochs"]])
try:
    run(Job("qat", model, output, data, 1, strategy="mirrored", **{**common, "batch_size": 59}), print)
except UsageError as error:
    found.append(error.code)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_two_devices_train_as_one_does(models, tmp_path):
    import numpy as np

    with np.load(models.train_data) as arrays:
        np.savez(tmp_path / "train.npz", x=arrays["x"][:119], y=arrays["y"][:119])
    given = [str(models.keras_cnn), str(tmp_path / "train.npz"), str(tmp_path / "out.keras")]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    one, two, refused = json.loads(done.stdout.splitlines()[-1])
    assert two == pytest.approx(one, rel=0.1)
    assert two != one
    assert refused == "EK781"
