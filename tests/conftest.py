"""What all tests share: small models built once per session, and the public models of EDGEKIT_ASSETS."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_TESTS = Path(__file__).parent

# As many processes as cores test at once, and more. BLAS's threads would wait for each other, and burn time while they
# do; how long an example takes says what else the machine does.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Devices to test with, for every folder of tests.
pytest_plugins = ["devicelab.fixtures"]


@dataclass(frozen=True)
class Models:
    """The small models of ``build_models.py``; the CNN takes (n, 8, 8, 1) in 0..1 and gives 10 classes."""

    folder: Path

    @property
    def keras_cnn(self) -> Path:
        """With batch normalization and a depthwise layer, trained to about 95%."""
        return self.folder / "cnn.keras"

    @property
    def h5_cnn(self) -> Path:
        return self.folder / "cnn.h5"

    @property
    def h5_weights(self) -> Path:
        """Weights alone, which is no model."""
        return self.folder / "cnn.weights.h5"

    @property
    def saved_model_cnn(self) -> Path:
        return self.folder / "cnn_saved_model"

    @property
    def tflite_cnn(self) -> Path:
        """Float, batch 1, with a signature."""
        return self.folder / "cnn.tflite"

    @property
    def tflite_cnn_no_signature(self) -> Path:
        return self.folder / "cnn_no_signature.tflite"

    @property
    def tflite_cnn_dynamic_batch(self) -> Path:
        return self.folder / "cnn_dynamic_batch.tflite"

    @property
    def tflite_cnn_int8(self) -> Path:
        """Quantized, with int8 input and output."""
        return self.folder / "cnn_int8.tflite"

    @property
    def onnx_cnn(self) -> Path:
        """Opset 13, dynamic batch, the same weights."""
        return self.folder / "cnn.onnx"

    @property
    def keras_two_inputs(self) -> Path:
        """Inputs ``first``, ``second`` (n, 4); outputs ``total`` = 2 first + second, ``wide`` (n, 3)."""
        return self.folder / "two_inputs.keras"

    @property
    def keras_recurrent(self) -> Path:
        """An LSTM: (n, 5, 3) to (n, 2)."""
        return self.folder / "recurrent.keras"

    @property
    def odd(self) -> Path:
        """A folder of models that are refused, or that have gone wrong in some library."""
        return self.folder / "odd"

    @property
    def train_data(self) -> Path:
        """1,200 handwritten digits: ``x`` (n, 8, 8, 1) in 0..1 and ``y``."""
        return self.folder / "digits_train.npz"

    @property
    def test_data(self) -> Path:
        """597 more digits, which no model was trained on."""
        return self.folder / "digits_test.npz"


@pytest.fixture(scope="session")
def build_once(tmp_path_factory):
    """Build a folder once for all processes of the run: the others wait for it, and must not change it."""

    def build_once(name: str, build: Callable[[Path], None]) -> Path:
        base = tmp_path_factory.getbasetemp()
        # With pytest-xdist, each process has a folder of its own below the run's.
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"once-{name}"
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            built = folder.with_name(f"{folder.name}.built")
            if not built.exists():
                folder.mkdir(exist_ok=True)
                build(folder)
                built.touch()
        return folder

    return build_once


@pytest.fixture(scope="session")
def models(build_once) -> Models:
    """Every small model; building them takes about 20 seconds once per run."""
    pytest.importorskip("h5py", reason="needs the tensorflow extra")

    def build(folder: Path) -> None:
        done = subprocess.run(
            [sys.executable, str(_TESTS / "build_models.py"), str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return Models(build_once("models", build))


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    """A process less for each evaluation: tests/answering shows that their number changes no result."""
    monkeypatch.setattr("edgekit.answering.pool._affordable_workers", lambda _job: 1)


@pytest.fixture(scope="session")
def keras_cnn(models) -> Path:
    return models.keras_cnn


@pytest.fixture(scope="session")
def tflite_cnn(models) -> Path:
    return models.tflite_cnn


@pytest.fixture(scope="session")
def onnx_cnn(models) -> Path:
    return models.onnx_cnn


@pytest.fixture(scope="session")
def dense_onnx(tmp_path_factory) -> Path:
    """One matrix product (n, 4) to (n, 3): made in a moment, without TensorFlow."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
    )
    path = tmp_path_factory.mktemp("dense") / "dense.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of public models and data; tests that need it are marked ``acceptance``."""
    folder = Path(os.environ.get("EDGEKIT_ASSETS", _TESTS.parent.parent / "shared" / "assets"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: set EDGEKIT_ASSETS to the public models")
    return folder
