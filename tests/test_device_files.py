"""Uploads to this machine as a device."""

import time
from pathlib import Path

import pytest

from edgekit import device_files
from edgekit.device import Device
from edgekit.errors import DeviceError
from edgekit.shell import Shell
from edgekit.transports import Limits


def _device(folder: Path) -> Device:
    return Device("box", "local", folder=str(folder))


def _fake_cat(monkeypatch, folder: Path, does: str) -> None:
    cat = folder / "programs" / "cat"
    cat.parent.mkdir()
    cat.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    cat.chmod(0o755)
    monkeypatch.setenv("PATH", str(cat.parent), prepend=":")


def test_an_upload_of_which_nothing_arrives_is_given_up(tmp_path, monkeypatch):
    # Whatever was handed over is lost with the shell that should have written it, each time anew.
    _fake_cat(monkeypatch, tmp_path, "read -r _ _ _ above _ < /proc/$PPID/stat; kill -9 $above $PPID")
    source = tmp_path / "model"
    source.write_bytes(bytes(10_000))
    began = time.monotonic()
    with Shell(_device(tmp_path), Limits(patience_s=1)) as shell, pytest.raises(DeviceError) as caught:
        device_files.upload(shell, source, str(tmp_path / "sent"))
    assert caught.value.code == "EK804"
    assert time.monotonic() - began < 10


def test_a_disk_that_fills_up_while_data_arrive(tmp_path, monkeypatch):
    _fake_cat(monkeypatch, tmp_path, "echo 'cat: write error: No space left on device' >&2; exit 1")
    source = tmp_path / "model"
    source.write_bytes(bytes(100_000))
    with Shell(_device(tmp_path)) as shell, pytest.raises(DeviceError) as caught:
        device_files.upload(shell, source, str(tmp_path / "sent" / "model"))
    assert caught.value.code == "EK807"
    assert list((tmp_path / "sent").iterdir()) == []
