"""Exported programs as Core ML packages, by the real coremltools beside the PyTorch of edgekit's environment."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit
from edgekit.errors import ModelError, TargetError

pytestmark = [
    pytest.mark.pytorch,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the torch extra"),
]

_BUILD = Path(__file__).with_name("build_programs.py")
_TARGET = "ios-coreml"


@pytest.fixture(scope="module")
def programs(build_once):
    """The folder with the programs of ``build_programs.py``."""
    return build_once(
        "programs", lambda folder: subprocess.run([sys.executable, str(_BUILD), str(folder)], check=True)
    )


@pytest.fixture(scope="module")
def installed(build_once):
    """coremltools, installed once for all processes in a cache of the tests' own."""

    def install(folder):
        patch.setenv("XDG_CACHE_HOME", str(folder))
        edgekit.toolchain_install("coremltools")

    with pytest.MonkeyPatch.context() as patch:
        folder = build_once("coremltools", install)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["cnn", "cnn_free_batch", "batch_2", "two_inputs"])
def test_a_program_becomes_a_package(programs, tmp_path, name):
    """What is in the package is held against the program's inputs and outputs by the verb itself."""
    output = tmp_path / "model.mlpackage"
    compiled = edgekit.compile(programs / f"{name}.pt2", output, target=_TARGET)
    assert (output / "Manifest.json").is_file()
    kinds = {one.kind for one in compiled.compilation.operators}
    assert "linear" in kinds
    assert ("conv" in kinds) == (name != "two_inputs")
    assert [finding.code for finding in compiled.findings] == ["EK388"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("eigenvalues", "EK391", "linalg_eigvalsh"),
        ("training", "EK137", "exported as it trains"),
        ("same_twice", "EK391", "other outputs than"),
        ("counter", "EK391", "State model"),
        ("free_height", "EK390", "Sizes of the inputs"),
    ],
)
def test_what_cannot_be_converted_is_one_sentence(programs, tmp_path, name, code, says):
    with pytest.raises((ModelError, TargetError), match=says) as caught:
        edgekit.compile(programs / f"{name}.pt2", tmp_path / "model.mlpackage", target=_TARGET)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("installed")
def test_types_that_core_ml_lacks_are_told(programs, tmp_path):
    output = tmp_path / "model.mlpackage"
    compiled = edgekit.compile(programs / "whole_numbers.pt2", output, target=_TARGET)
    assert [finding.code for finding in compiled.findings] == ["EK389", "EK388"]
    told = compiled.findings[0].message
    assert (
        told == "In the package ids is int32, not int64, log.x is called log_x, large is float32, not bool."
    )
