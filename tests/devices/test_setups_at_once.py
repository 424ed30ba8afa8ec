"""Two commands that set up one device at the same time: the second is refused, and the first gets done."""

import os
import signal
from pathlib import Path

import pytest
from devicelab.command_line import CommandLine
from devicelab.processes import wait_until
from wheel_files import bare_python, installed_wheel

pytestmark = pytest.mark.slow


@pytest.fixture
def user(tmp_path, sshd):
    user = CommandLine(tmp_path)
    words = ("--ssh-config", sshd.access.config, "--folder", tmp_path / "there")
    user.run("device", "add", "board", sshd.access.url, *words)
    return user


def holders(folder: Path) -> list[str]:
    """Who has the device's lock for set-ups, as it stands in the links that make it."""
    return [str(link.readlink()) for link in (folder / "setup").glob("lock.*")]


@pytest.fixture
def words(tmp_path) -> tuple:
    """A set-up of LiteRT in a Python that has none."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for package in ("ai-edge-litert", "numpy"):
        installed_wheel(package, wheels)
    options = ("--runtime", "litert", "--wheels", wheels, "--python", bare_python(tmp_path))
    return ("device", "setup", "board", *options)


def test_the_second_set_up_is_refused_and_the_first_gets_done(user, words, tmp_path):
    there = tmp_path / "there"
    first = user.start(*words, "--json")
    try:
        wait_until(lambda: holders(there) or first.poll() is not None, "the lock", timeout_s=60)
        # However fast this machine is: the first one is in the middle of it when the second comes.
        os.killpg(first.pid, signal.SIGSTOP)
        error = user.run(*words, expect=5)["error"]
        assert error["code"] == "EK841"
        assert error["message"].startswith("board is being set up by ")
        assert f"(process {first.pid})" in error["message"]
        assert not (there / "runtimes/litert.json").exists()
        assert user.run("status", "--device", "board")["result"]["deploying"] is None
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert user.document(first, *words)["result"]["installed"]["runtime"]["name"] == "litert"
    again = user.run(*words)["result"]["installed"]
    assert again["bytes_sent"] == 0
    assert len(holders(there)) == 1


def test_a_set_up_that_was_killed_keeps_nobody_away(user, words, tmp_path):
    first = user.start(*words)
    wait_until(lambda: holders(tmp_path / "there") or first.poll() is not None, "the lock", timeout_s=60)
    first.kill()
    first.communicate()
    assert user.run(*words)["result"]["installed"]["runtime"]["name"] == "litert"
