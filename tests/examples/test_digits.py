import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

FOLDER = Path(__file__).parents[2] / "examples" / "digits"


def arrays(name):
    with np.load(FOLDER / name, allow_pickle=False) as archive:
        return archive["x"], archive["y"]


def answers(x):
    interpreter = Interpreter(model_path=str(FOLDER / "model.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    found = []
    for sample in x:
        interpreter.set_tensor(source, sample[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(result)[0])
    return np.array(found)


def test_the_shipped_files_are_small():
    shipped = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in shipped) < 260_000


def test_calibration_and_test_samples_share_no_image():
    (calibration, calibration_labels), (test, labels) = arrays("calibration.npz"), arrays("test.npz")
    assert calibration.shape == (200, 8, 8, 1)
    assert test.shape == (600, 8, 8, 1)
    assert calibration.dtype == test.dtype == np.float32
    images = [image.tobytes() for image in (*calibration, *test)]
    assert len(set(images)) == 800
    assert set(calibration_labels) == set(labels) == set(range(10))
    assert (test.min(), test.max()) == (0, 1)


def test_the_three_parts_are_all_of_scikit_learns_digits():
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn")
    everything = {(image / 16).astype(np.float32).tobytes() for image in datasets.load_digits().images}
    for name in ("calibration.npz", "test.npz"):
        assert {image.tobytes() for image in arrays(name)[0]} <= everything


def test_the_float_model_is_right_on_98_percent():
    x, y = arrays("test.npz")
    assert np.mean(answers(x).argmax(axis=1) == y) > 0.98


def test_the_keras_file_holds_no_optimizer():
    with zipfile.ZipFile(FOLDER / "model.keras") as archive:
        assert archive.getinfo("model.weights.h5").file_size < 130_000


@pytest.mark.slow
def test_training_again_gives_the_same_model(tmp_path):
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    shutil.copy(FOLDER / "train.py", tmp_path)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(tmp_path / "train.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"([\d.]+)% of 600 test samples are right", done.stdout)
    for name in ("calibration.npz", "test.npz"):
        with np.load(tmp_path / name) as fresh, np.load(FOLDER / name) as shipped:
            assert all(np.array_equal(fresh[key], shipped[key]) for key in shipped.files)
    # Other processors add in another order, so a few samples near a boundary may fall to the other side.
    assert float(accuracy[1]) > 97.5
