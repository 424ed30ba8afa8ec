"""Toolchains: made whole or not at all, from nothing but what their hashes name."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import tomli_w
from wheel_files import write_wheel

import edgekit
from edgekit import toolchain
from edgekit.cli._group import run
from edgekit.errors import DependencyError, UsageError
from edgekit.toolchain import Toolchain

_SCRIPTS = """
import pathlib, sys
def main():
    print("greeter 1.0")
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def known(tmp_path, monkeypatch, cache):
    """Makes a toolchain known whose only package is a wheel in a folder; gives pip's options for it."""
    folder = tmp_path / "known"
    folder.mkdir()
    monkeypatch.setattr(toolchain, "_FOLDER", folder)

    def make(*, expects="greeter 1.0", digest=None):
        files = {
            "greeter.py": _SCRIPTS,
            "greeter-1.0.dist-info/entry_points.txt": "[console_scripts]\ngreet = greeter:main\n",
        }
        wheel = write_wheel(tmp_path / "wheels", "greeter-1.0-py3-none-any.whl", files)
        digest = digest or hashlib.sha256(wheel.read_bytes()).hexdigest()
        (folder / "greeter.txt").write_text(f"greeter==1.0 --hash=sha256:{digest}\n")
        facts = {
            "schema": 1,
            "description": "Says its name.",
            "package": "greeter",
            "version": "1.0",
            "programs": ["greet"],
            "health": ["greet"],
            "expects": expects,
            "needs_mb": 1,
        }
        (folder / "greeter.toml").write_text(tomli_w.dumps(facts))
        return ["--no-index", f"--find-links={wheel.parent}"]

    return make


def test_every_toolchain_is_pinned_with_hashes_and_names_no_address():
    for name in toolchain.names():
        found = Toolchain.load(name)
        assert found.description.endswith(".")
        assert found.health[0] in found.programs
        text = found.requirements.read_text()
        assert "://" not in text
        pinned = [line for line in text.splitlines() if "==" in line]
        assert pinned
        assert f"{found.package}=={found.version}" in text
        assert text.count("--hash=sha256:") >= len(pinned)
        document = tomllib.loads(found.requirements.with_suffix(".toml").read_text())
        assert document["schema"] == 1


def test_an_unknown_one_is_refused_with_the_nearest():
    with pytest.raises(UsageError) as caught:
        edgekit.toolchain_install("vella")
    assert "Did you mean vela?" in caught.value.hint


def test_nothing_is_installed_without_being_asked_for(cache):
    vela = Toolchain.load("vela")
    assert not vela.is_installed
    with pytest.raises(DependencyError, match="vela is not installed") as caught:
        vela.run(["vela", "--version"], timeout_s=10)
    assert caught.value.code == "EK630"
    assert "edgekit toolchain install vela" in caught.value.hint
    assert not edgekit.toolchain_remove("vela")
    assert edgekit.toolchain_doctor() == ((), ())
    assert not cache.exists()


@pytest.mark.slow
def test_one_is_installed_used_tried_and_removed(known, capsys):
    options = known()
    words = [word for option in options for word in ("--pip-option", option)]
    assert run(["toolchain", "install", "greeter", *words]) == 0
    greeter = Toolchain.load("greeter")
    assert greeter.is_installed
    assert greeter.run(["greet"], timeout_s=60).stdout == "greeter 1.0\n"
    assert run(["toolchain", "doctor"]) == 0
    assert "greeter 1.0: works" in capsys.readouterr().out
    # Again: nothing is done, which is why no wheel is looked for.
    started = time.monotonic()
    edgekit.toolchain_install("greeter", pip_options=["--no-index"])
    assert time.monotonic() - started < 1

    (greeter.folder / "bin" / "greet").unlink()
    assert run(["toolchain", "doctor", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["findings"][0]["code"] == "EK632"
    assert run(["toolchain", "remove", "greeter"]) == 0
    assert not greeter.folder.exists()


@pytest.mark.slow
def test_another_file_than_the_pinned_one_is_refused(known):
    options = known(digest="0" * 64)
    with pytest.raises(DependencyError, match=r"greeter 1\.0 cannot be installed") as caught:
        edgekit.toolchain_install("greeter", pip_options=options)
    assert caught.value.code == "EK631"
    assert not Toolchain.load("greeter").folder.exists()


@pytest.mark.slow
def test_one_that_does_not_answer_as_it_should_is_not_kept(known):
    options = known(expects="greeter 2.0")
    with pytest.raises(DependencyError, match=r"does not answer with greeter 2\.0") as caught:
        edgekit.toolchain_install("greeter", pip_options=options)
    assert caught.value.code == "EK632"
    assert not Toolchain.load("greeter").folder.exists()


@pytest.mark.slow
def test_ctrl_c_leaves_no_half_environment(cache):
    command = [sys.executable, "-m", "edgekit", "toolchain", "install", "vela", "--pip-option", "--no-index"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    folder = Toolchain.load("vela").folder
    deadline = time.monotonic() + 60
    while not (folder / "bin").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not Path(folder).exists()
