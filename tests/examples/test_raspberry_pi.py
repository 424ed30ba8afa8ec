"""The walk-through of examples/raspberry_pi runs as it stands, on an emulated Pi."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from devicelab.debian_root import cache_folder
from devicelab.processes import call

pytestmark = pytest.mark.devicelab

_EXAMPLES = Path(__file__).parents[2] / "examples"


def commands() -> list[str]:
    """The command lines of the README, in order; those for the Pi's owner alone are in blocks of another kind."""
    text = (_EXAMPLES / "raspberry_pi/README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture
def run(make_fake_pi, tmp_path):
    """Run a command line as the reader does, whose ssh configuration knows the Pi as raspberrypi.local."""
    pi = make_fake_pi(alias="raspberrypi.local")
    for name in ("digits", "raspberry_pi"):
        shutil.copytree(_EXAMPLES / name, tmp_path / "examples" / name)
    programs = tmp_path / "programs"
    programs.mkdir()
    config = shlex.quote(str(pi.access.config))
    for name, command in {
        "edgekit": f"{shlex.quote(sys.executable)} -m edgekit",
        "python": shlex.quote(sys.executable),
        # OpenSSH does not look where HOME says.
        "ssh": f"{shutil.which('ssh')} -F {config}",
        "scp": f"{shutil.which('scp')} -F {config}",
    }.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    # Wheels are fetched once for all runs of the lab.
    (cache_folder() / "wheels").mkdir(exist_ok=True)
    (tmp_path / "cache/edgekit").mkdir(parents=True)
    (tmp_path / "cache/edgekit/wheels").symlink_to(cache_folder() / "wheels")
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(pi.access.home),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "COLUMNS": "110",
    }
    folder = tmp_path / "examples/raspberry_pi"

    def run(command: str) -> str:
        return call("bash", "-c", f"{command} 2>&1", cwd=folder, env=environment, timeout_s=300)

    yield run
    pi.close()


def test_every_command_does_what_the_text_says(run):
    outputs: dict[str, list[str]] = {}
    for command in commands():
        said = run(command)
        print(f"$ {command}\n{said}")
        outputs.setdefault(" ".join(command.split()[:2]), []).append(said)

    assert "Raspberry Pi 4 Model B" in outputs["edgekit device"][0]
    assert "litert 2" in outputs["edgekit device"][2]
    with np.load(_EXAMPLES / "digits/test.npz") as archive:
        label = archive["y"][0]
    first, second = outputs["ssh pi@raspberrypi.local"]
    assert first.splitlines()[-1].startswith(f"{label} (")
    assert first.splitlines()[-1] == second.splitlines()[-1]
    # Both models know the contract, and so do their releases.
    assert not [said for texts in outputs.values() for said in texts if "EK409" in said]
    release = re.search(r"as release ([0-9a-f]{12})", outputs["edgekit deploy"][0])[1]
    assert release in second
    assert release not in outputs["edgekit deploy"][1].splitlines()[0]
    assert re.search(rf"{release}\s+current", outputs["edgekit status"][0])
    (evaluated,) = outputs["edgekit evaluate"]
    assert float(re.search(r"litert +([\d.]+)%", evaluated)[1]) >= 99.5
