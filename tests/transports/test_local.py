"""This machine as a device."""

import os
from pathlib import Path

import pytest

from edgekit.devices.device import Device
from edgekit.devices.shell import Shell


@pytest.fixture
def shell():
    with Shell(Device("here", "local")) as shell:
        yield shell


def test_its_folder_is_in_the_home_of_the_user(shell, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "a home"))
    assert shell.folder == f"{tmp_path}/a home/.local/share/edgekit/device"
    assert not Path(shell.folder).exists()


def test_commands_are_out_of_reach_of_the_terminals_ctrl_c(shell):
    running = shell.start(["sleep", "100"])
    assert os.getpgid(running.pid) != os.getpgid(0)
    assert os.getsid(running.pid) != os.getsid(0)
    running.close()
