"""The program of examples/on_device, run on releases that were deployed to this machine."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from edgekit.device import Device
from edgekit.verbs.deploy import deploy
from edgekit.verbs.rollback import rollback

_EXAMPLES = Path(__file__).parents[2] / "examples"


def _classified(folder: Path, samples: Path) -> tuple[list[str], str]:
    done = subprocess.run(
        [sys.executable, _EXAMPLES / "on_device" / "classify.py", folder, samples],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split(), next(line for line in done.stderr.splitlines() if "release" in line).split()[
        1
    ]


def test_it_uses_what_is_in_service(tmp_path):
    device = Device("box", "local", folder=str(tmp_path / "device"))
    test = np.load(_EXAMPLES / "digits" / "test.npz")
    samples, labels = tmp_path / "samples.npy", test["y"][:100]
    # Raw samples are twice what the model takes, and the contract says so.
    np.save(samples, 2.0 * test["x"][:100])
    model = tmp_path / "model.tflite"
    shutil.copyfile(_EXAMPLES / "digits" / "model.tflite", model)
    plain = deploy(model, device, health_check=False)
    names = [f"digit{number}" for number in range(10)]
    contract = {"name": "twice", "scale": 0.5, "labels": names}
    Path(f"{model}.json").write_text(json.dumps({"preprocessing": contract}), encoding="utf-8")
    named = deploy(model, device, health_check=False)
    found, release = _classified(tmp_path / "device", samples)
    assert release == named.release[:12]
    assert np.mean([name == f"digit{label}" for name, label in zip(found, labels, strict=True)]) > 0.95
    rollback(device, health_check=False)
    found, release = _classified(tmp_path / "device", samples)
    assert release == plain.release[:12]
    assert found[0].isdigit()
