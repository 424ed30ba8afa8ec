"""A public model for every target: quantized, looked at and compiled, or the reason why not; nothing is silent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance

_COMMAND = Path(__file__).parents[1] / "benchmarks" / "every_target.py"
# The toolchain, the driver or Google's compiler is not there, or a GPU: nothing else may stand in the way.
_MISSING = {"EK397", "EK399", "EK536", "EK630"}


@pytest.fixture(scope="module")
def cells(assets, tmp_path_factory):
    """What the command of the whole table gives for a Keras model and for an ONNX model."""
    folder = tmp_path_factory.mktemp("targets")
    words = [sys.executable, str(_COMMAND), "--case", "ic", "mnist-8", "--json", str(folder / "cells.json")]
    environment = {**os.environ, "EDGEKIT_ASSETS": str(assets), "XDG_CACHE_HOME": str(folder / "cache")}
    environment.pop("VK_ICD_FILENAMES", None)
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "42 cells" in done.stdout
    assert "0 silent" in done.stdout
    return json.loads((folder / "cells.json").read_text())


def test_every_cell_has_a_file_or_a_reason(cells):
    for cell in cells:
        assert cell["recipe"] or cell["problem"], cell
        if cell["problem"]:
            assert cell["problem"].split()[0] in _MISSING, cell


def test_what_was_made_is_near_the_float_model(cells):
    made = [cell for cell in cells if cell["recipe"]]
    assert {cell["case"] for cell in made} == {"ic", "mnist-8"}
    assert len([cell for cell in made if cell["case"] == "ic"]) == 21
    assert min(cell["snr_db"] for cell in made) > 18
    assert not any(cell["unsupported"] for cell in made)
