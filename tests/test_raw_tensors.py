"""Real numbers to a worker's bytes and back, for quantized, batched and several inputs."""

import numpy as np
import pytest

from edgekit.artifact import Artifact, Format, TensorSpec
from edgekit.formats import open_artifact
from edgekit.raw_tensors import RawTensors
from edgekit.tensor import Quantization


def artifact(tmp_path, inputs, outputs):
    return Artifact(tmp_path / "m.onnx", Format.ONNX, inputs, outputs, "0" * 64, 1)


def test_bytes_are_input_by_input_in_the_models_dtype(tmp_path):
    inputs = (
        TensorSpec("a", (None, 2), "int8", Quantization((0.5,), (3,))),
        TensorSpec("b", (None, 1), "float32"),
    )
    raw = RawTensors(artifact(tmp_path, inputs, (TensorSpec("y", (None, 1), "float32"),)))
    sets = raw.sets({"a": np.array([[-1.0, 0.26], [1e9, -1e9]]), "b": np.array([[1.0], [2.0]])})
    assert (sets.count, sets.shapes) == (2, ((1, 2), (1, 1)))
    assert sets.content[:4] == np.array([1, 4, 127, -128], np.int8).tobytes()
    assert sets.content[4:] == np.array([1.0, 2.0], np.float32).tobytes()


def test_a_batch_is_filled_and_what_filled_it_is_cut_off(tmp_path):
    inputs = (TensorSpec("x", (2, 1), "float32"),)
    raw = RawTensors(
        artifact(tmp_path, inputs, (TensorSpec("y", (2, 1), "uint8", Quantization((0.5,), (1,))),))
    )
    sets = raw.sets({"x": np.array([[1.0], [2.0], [3.0]])})
    assert np.frombuffer(sets.content, np.float32).tolist() == [1, 2, 3, 3]
    content = np.array([[[3], [5]], [[7], [9]]], np.uint8).tobytes()
    found = raw.outputs([{"shape": [2, 1], "dtype": "uint8"}], content, sets=2, samples=3)
    assert found["y"].tolist() == [[1.0], [2.0], [3.0]]


@pytest.mark.parametrize(
    ("described", "size"),
    [
        ([], 4),
        ([{"shape": [1, 1], "dtype": "float32"}], 8),
        ([{"shape": [1, 1], "dtype": "float32"}], 3),
        ([{"shape": [1, 1], "dtype": "object"}], 8),
    ],
)
def test_bytes_that_are_not_the_models_outputs_are_refused(tmp_path, described, size):
    raw = RawTensors(
        artifact(tmp_path, (TensorSpec("x", (None, 1), "float32"),), (TensorSpec("y", (None, 1), "float32"),))
    )
    with pytest.raises(ValueError, match=r"."):
        raw.outputs(described, bytes(size), sets=1, samples=1)


def test_order_is_the_files(models):
    # The signature lists inputs by name; a worker knows their places in the file.
    found = open_artifact(models.tflite_cnn_int8)
    assert RawTensors(found).sets({found.inputs[0].name: np.zeros((1, 8, 8, 1))}).shapes == ((1, 8, 8, 1),)
