"""Host against device, tensor by tensor: the same kernels give the same, a changed file is found."""

import numpy as np
import pytest

from edgekit.devices.device import Device
from edgekit.errors import DependencyError, DeviceError
from edgekit.workflows.debug_on_device import debug_on_device

HERE = Device("here", "local")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=np.random.default_rng(0).random((4, 8, 8, 1), np.float32))
    return path


def test_the_same_kernels_give_the_same(models, data):
    found = debug_on_device(models.tflite_cnn_int8, None, data, HERE)
    assert found.verdict.value == "identical"
    assert found.runtimes == ("litert", "litert on here")
    assert len(found.tensors) > 5


def test_float_here_and_int8_there(models, data):
    found = debug_on_device(models.tflite_cnn, models.tflite_cnn_int8, data, HERE, samples=2)
    assert found.verdict.value in {"rounding", "degrades"}
    assert found.samples == 2


def test_a_device_that_is_not_there_is_an_error(models, data):
    with pytest.raises((DeviceError, DependencyError)):
        debug_on_device(models.tflite_cnn_int8, None, data, Device("nothing", "null"))
