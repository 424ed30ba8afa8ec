"""The recipes of examples/compress: the first is run as its README says, the others on small data."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.run_recipe import RunRecipe
from edgekit.tflite_kernels import sparsity, stored_kernels
from edgekit.workflows.steps import check_options

_EXAMPLES = Path(__file__).parents[2] / "examples"
_RECIPES = sorted((_EXAMPLES / "compress").glob("*.toml"))


@pytest.fixture
def folder(tmp_path):
    for name in ("compress", "digits"):
        shutil.copytree(_EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("*.run"))
    return tmp_path / "compress"


def needs(path):
    missing = {step.do for step in RunRecipe.load(path).steps} - set(edgekit.__all__)
    if missing:
        pytest.skip(f"there is no {', '.join(sorted(missing))} yet")


@pytest.mark.parametrize("path", _RECIPES, ids=lambda path: path.stem)
def test_the_options_are_those_of_the_verbs(path):
    needs(path)
    check_options(RunRecipe.load(path))


def test_every_recipe_stands_in_the_readme():
    text = (_EXAMPLES / "compress" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in _RECIPES if f"`{path.name}`" not in text] == []


def test_the_commands_of_the_readme_run(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    assert len(lines) == 3
    shown = []
    for line in lines:
        command = [sys.executable, "-m", *shlex.split(line)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        shown.append(done.stderr)
    assert "step 1 of 3: quantize (cached)" in shown[2]
    assert "step 3 of 3: check (options: size_bytes changed)" in shown[2]


@pytest.mark.slow
def test_the_zeros_of_pruning_are_in_the_final_file(folder):
    needs(folder / "prune_qat.toml")
    digits = folder.parent / "digits"
    with np.load(digits / "test.npz") as arrays:
        np.savez(folder / "train.npz", x=arrays["x"][:400], y=arrays["y"][:400])
        np.savez(folder / "test.npz", x=arrays["x"][400:], y=arrays["y"][400:])
    for name in ("calibration", "validation"):
        shutil.copy(digits / "calibration.npz", folder / f"{name}.npz")
    shutil.copy(digits / "model.keras", folder)
    # So few steps cost much accuracy, which is not the point here.
    changes = {
        "benchmark.max_seconds": 0.3,
        "check.max_drop": 0.9,
        "prune.batch_size": 16,
        "qat.batch_size": 16,
    }
    found = edgekit.run(folder / "prune_qat.toml", changes=changes)
    assert found.exit_code == 0
    assert sparsity(stored_kernels(found.model)) >= 0.45


@pytest.mark.slow
def test_a_student_of_half_the_width_gets_4_bits_and_is_judged(folder, models):
    needs(folder / "distill_qat4.toml")
    for name, path, first, last in (
        ("train", models.train_data, 0, 500),
        ("validation", models.train_data, 500, 600),
        ("test", models.test_data, 0, 200),
    ):
        with np.load(path) as arrays:
            np.savez(folder / f"{name}.npz", x=arrays["x"][first:last], y=arrays["y"][first:last])
    shutil.copy(models.keras_cnn, folder / "model.keras")
    shutil.copy(models.tflite_cnn, folder / "teacher.tflite")
    changes = {"distill.epochs": 8, "distill.batch_size": 16, "distill.learning_rate": 0.01}
    changes |= {"qat.epochs": 1, "check.max_drop": 0.9}
    found = edgekit.run(folder / "distill_qat4.toml", changes=changes)
    assert found.exit_code == 0
    assert found.model.stat().st_size < 0.5 * models.tflite_cnn.stat().st_size
    # Guessing would be right on a tenth.
    assert edgekit.evaluate(found.model, folder / "test.npz", workers=1).value > 0.4
