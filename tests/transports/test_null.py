"""The device that is not there: whoever takes silence for success fails on it."""

import pytest
from faulty_links import failing

from edgekit.devices import remote_files
from edgekit.devices.device import Device
from edgekit.devices.installed_runtimes import installed
from edgekit.devices.shell import Shell
from edgekit.transports import Limits


@pytest.fixture
def shell():
    with Shell(Device("nothing", "null"), Limits(patience_s=0.3)) as shell:
        yield shell


@pytest.mark.parametrize(
    "act",
    [
        lambda shell: shell.run("true"),
        lambda shell: shell.run("true", check=False),
        lambda shell: shell.script("true"),
        lambda shell: shell.start(["true"]),
        lambda shell: remote_files.write(shell, b"x", f"{shell.folder}/x"),
        lambda shell: remote_files.read(shell, f"{shell.folder}/x"),
        lambda shell: remote_files.sha256(shell, f"{shell.folder}/x"),
        installed,
    ],
)
def test_nothing_is_believed_to_be_done(shell, act):
    with failing("EK804", within_s=5):
        act(shell)
