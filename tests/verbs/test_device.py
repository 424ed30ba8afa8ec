"""``edgekit device add``, ``list``, ``probe`` and ``remove``, as users meet them."""

import json
import os
import platform
import tomllib
from pathlib import Path

import jsonschema
import pytest

from edgekit.cli._group import run
from edgekit.verbs.schema import schema

# What adb 34 prints, with a server that had to be started first.
_ADB = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
echo '* daemon not running; starting now at tcp:5037'
echo '* daemon started successfully'
echo 'List of devices attached'
printf 'R58M123ABC             device usb:1-4 product:a51nsxx model:SM_A515F device:a51 transport_id:1\\n'
printf '127.0.0.1:5611         offline transport_id:3\\n'
printf 'HT7A1               no permissions (missing udev rules? user is in the plugdev group); see [http://x]\\n\\n'
"""


@pytest.fixture(autouse=True)
def inventory_file(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "config" / "edgekit" / "devices.toml"


@pytest.fixture(autouse=True)
def without_adb(tmp_path, monkeypatch):
    """A PATH without adb, whose server would outlive the test."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for folder in map(Path, os.environ["PATH"].split(":")):
        for program in folder.iterdir() if folder.is_dir() else ():
            if program.name != "adb" and not (programs / program.name).exists():
                (programs / program.name).symlink_to(program)
    monkeypatch.setenv("PATH", str(programs))
    return programs


@pytest.fixture
def document(capsys):
    """Run a command line, and check its document before handing it over."""

    def ask(*arguments: str, exit_code: int = 0) -> dict:
        assert run([*arguments, "--json"]) == exit_code
        answer = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator(schema("device")).validate(answer)
        return answer

    return ask


def test_a_device_from_its_first_probe_to_its_removal(document, inventory_file, tmp_path):
    added = document("device", "add", "here", "local", "--folder", str(tmp_path / "kept"))
    assert added["result"]["added"]["url"] == "local"
    probed = document("device", "probe", "here")["result"]
    assert probed["device"] == added["result"]["added"]
    assert probed["facts"]["machine"] == platform.machine()
    assert probed["facts"]["disk"]["path"] == str(tmp_path)
    assert [runtime["name"] for runtime in probed["runtimes"]] == [
        "litert",
        "onnxruntime",
        "tflite_runtime",
        "native",
    ]
    listed = document("device", "list")["result"]
    assert listed == {
        "inventory": str(inventory_file),
        "devices": [added["result"]["added"]],
        "attached": [],
    }
    assert document("device", "remove", "here")["result"]["removed"]["name"] == "here"
    assert document("device", "list")["result"]["devices"] == []
    assert not (tmp_path / "kept").exists()


def test_a_device_that_cannot_be_reached_is_added_only_where_nobody_asks(document, inventory_file):
    nobody = ("device", "add", "pi4", "ssh://pi@127.0.0.1:1")
    error = document(*nobody, exit_code=5)["error"]
    assert error["code"] == "EK800"
    assert error["hint"]
    assert not inventory_file.exists()
    assert document(*nobody, "--no-probe")["result"]["probe"] is None
    assert tomllib.loads(inventory_file.read_text())["devices"] == {"pi4": {"url": "ssh://pi@127.0.0.1:1"}}


def test_a_name_that_is_taken_is_refused_before_anything_is_asked(document, inventory_file):
    document("device", "add", "pi4", "ssh://one", "--no-probe")
    before = inventory_file.read_bytes()
    # The second would take a while to be found unreachable.
    error = document("device", "add", "pi4", "ssh://pi@127.0.0.1:1", exit_code=2)["error"]
    assert error["code"] == "EK829"
    assert inventory_file.read_bytes() == before
    document("device", "add", "pi4", "ssh://two", "--no-probe", "--overwrite")
    assert document("device", "list")["result"]["devices"][0]["url"] == "ssh://two"


@pytest.mark.parametrize(
    ("url", "code"),
    [("pi@host", "EK810"), ("ssh://pi:secret@host", "EK810"), ("sssh://host", "EK901")],
)
def test_a_wrong_url_is_refused_also_without_asking(document, inventory_file, url, code):
    assert document("device", "add", "pi", url, "--no-probe", exit_code=2)["error"]["code"] == code
    assert not inventory_file.exists()


def test_a_device_behind_ssh(document, sshd, inventory_file, tmp_path, monkeypatch):
    monkeypatch.chdir(sshd.access.config.parent)
    added = document("device", "add", "lab", sshd.access.url, "--ssh-config", "config")["result"]
    assert added["added"]["ssh_config"] == str(sshd.access.config), "it works from every folder"
    monkeypatch.chdir(tmp_path)
    probed = document("device", "probe", "lab")["result"]
    assert probed["facts"]["disk"]["path"] == str(sshd.home)
    assert probed["facts"]["clock_skew_s"] == 0.0


def test_an_unknown_host_key_is_refused_and_nothing_written(document, sshd, inventory_file):
    sshd.access.trust_host("nothing")
    error = document(
        "device", "add", "lab", sshd.access.url, "--ssh-config", str(sshd.access.config), exit_code=5
    )["error"]
    assert error["code"] == "EK801"
    assert not inventory_file.exists()


def test_attached_devices_are_listed_beside_those_of_the_inventory(document, without_adb):
    (without_adb / "adb").write_text(_ADB)
    (without_adb / "adb").chmod(0o755)
    document("device", "add", "phone", "adb://R58M123ABC", "--no-probe")
    listed = document("device", "list")["result"]
    assert [device["url"] for device in listed["devices"]] == ["adb://R58M123ABC"]
    assert listed["attached"] == [
        {"url": "adb://127.0.0.1:5611", "state": "offline", "model": None},
        {"url": "adb://HT7A1", "state": "no permissions", "model": None},
    ]
    assert (without_adb / "calls").read_text() == "devices -l\n"
    document("device", "remove", "phone")
    assert document("device", "list")["result"]["attached"][0] == {
        "url": "adb://R58M123ABC",
        "state": "device",
        "model": "SM A515F",
    }


def test_an_adb_that_fails_is_a_note(document, without_adb):
    (without_adb / "adb").write_text("#!/bin/sh\necho 'cannot bind listener' >&2\nexit 1\n")
    (without_adb / "adb").chmod(0o755)
    (finding,) = document("device", "list")["findings"]
    assert (finding["code"], finding["level"]) == ("EK800", "note")
    assert "cannot bind listener" in finding["message"]


def test_people_read_tables(capsys):
    assert run(["device", "add", "here", "local"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("added here: local\n")
    assert f"{platform.system()} {platform.release()} {platform.machine()}" in shown.out
    assert "runs there" in shown.out
    assert run(["device", "list"]) == 0
    assert "here  local" in capsys.readouterr().out
    assert run(["device", "remove", "here"]) == 0
    assert capsys.readouterr().out == "removed here: local\n"


def test_the_next_step_is_a_runtime_that_can_run(capsys):
    assert run(["device", "probe", "local"]) == 0
    assert "next: edgekit device setup local --runtime litert" in capsys.readouterr().err


def test_a_throttled_device_is_a_finding(capsys, tmp_path, without_adb):
    """The machine that runs the tests gets a program that answers as a Raspberry Pi's does."""
    (without_adb / "vcgencmd").unlink(missing_ok=True)
    (without_adb / "vcgencmd").write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50005\n')
    (without_adb / "vcgencmd").chmod(0o755)
    assert run(["device", "probe", "local"]) == 0
    shown = capsys.readouterr()
    assert "now: under voltage, throttled; since start: under voltage, throttled" in shown.out
    assert "EK820" in shown.err
    assert "EK821" in shown.err
