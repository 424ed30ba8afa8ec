"""Uploads to this machine as a device."""

import time

import pytest

from edgekit import device_files
from edgekit.device import Device
from edgekit.errors import DeviceError
from edgekit.shell import Shell
from edgekit.transports import Limits


def test_an_upload_of_which_nothing_arrives_is_given_up(tmp_path, monkeypatch):
    # Whatever was handed over is lost with the shell that should have written it, each time anew.
    cat = tmp_path / "programs" / "cat"
    cat.parent.mkdir()
    cat.write_text("#!/bin/sh\nkill -9 $PPID\n", encoding="utf-8")
    cat.chmod(0o755)
    monkeypatch.setenv("PATH", str(cat.parent), prepend=":")
    source = tmp_path / "model"
    source.write_bytes(bytes(100_000))
    began = time.monotonic()
    with Shell(Device("box", "local", folder=str(tmp_path)), Limits(patience_s=1)) as shell:
        with pytest.raises(DeviceError) as caught:
            device_files.upload(shell, source, str(tmp_path / "sent"))
    assert caught.value.code == "EK804"
    assert time.monotonic() - began < 10
