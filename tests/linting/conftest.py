"""Small models made in a moment, and the digits with their calibration data."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit

DIGITS = Path(edgekit.__file__).parent.parent / "examples" / "digits"
_SIDE = 12


@pytest.fixture
def digits():
    """The calibration data of examples/digits as arrays: x (200, 8, 8, 1) in 0..1, and y."""
    with np.load(DIGITS / "calibration.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def saved(tmp_path):
    """Save arrays under a name."""

    def save(name: str = "data", **arrays) -> Path:
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays)
        return path

    return save


@pytest.fixture
def model(tmp_path):
    """Write an ONNX model: nodes from "x" to "y", with constants by their names."""

    def write(nodes, shape, result, constants) -> Path:
        graph = helper.make_graph(
            [
                helper.make_node(kind, inputs, outputs, **attributes)
                for kind, inputs, outputs, attributes in nodes
            ],
            "model",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *result])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        )
        path = tmp_path / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
        return path

    return write


@pytest.fixture
def red_or_blue(model):
    """Channels first: which of the first and the last channel is brighter, as two scores."""
    return model(
        [
            ("ReduceMean", ["x"], ["means"], {"axes": [2, 3], "keepdims": 0}),
            ("MatMul", ["means", "w"], ["y"], {}),
        ],
        (3, _SIDE, _SIDE),
        (2,),
        {"w": np.float32([[20, 0], [0, 0], [0, 20]])},
    )


@pytest.fixture
def sunsets():
    """Smooth pictures, channels first, redder at the top: x (n, 3, 12, 12) in 0..1, and y: 0 where red prevails."""

    def make(count: int, seed: int) -> dict:
        generator = np.random.default_rng(seed)
        height, width = np.meshgrid(np.linspace(0, 1, _SIDE), np.linspace(0, 1, _SIDE), indexing="ij")
        tops, tilts = generator.uniform(0.2, 0.6, (2, count, 3, 1, 1))
        x = tops * (1 - height) + tilts * width * height
        x[:, 0] += 0.3 * (1 - height)
        x[:, 2] += generator.uniform(0, 0.35, (count, 1, 1))
        means = x.mean(axis=(2, 3))
        return {"x": np.clip(x, 0, 1).astype(np.float32), "y": (means[:, 2] > means[:, 0]).astype(np.int64)}

    return make
