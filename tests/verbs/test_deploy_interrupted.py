"""Deployments that end at every point where they can: what is in service is the old or the new release, whole.

Two ways to die: edgekit itself is killed before each of its commands, and the device stops before each program
that a script of edgekit starts there, as with a power cut.
"""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from edgekit import shell
from edgekit.device import Device
from edgekit.errors import DeviceError
from edgekit.transports import Limits, local
from edgekit.verbs.deploy import deploy
from edgekit.verbs.rollback import rollback
from edgekit.verbs.status import status

_DIGITS = Path(__file__).parents[2] / "examples" / "digits"
_PROGRAMS = (
    "mkdir", "rm", "rmdir", "mv", "ln", "cat", "sync", "sha256sum", "wc", "head", "tail", "df", "readlink", "tr",
    "grep", "dirname", "sleep", "awk",
)  # fmt: skip
# Counts the programs, and from the chosen one on ends whatever shell would start any: nothing runs without power.
_SHIM = """#!/bin/sh
printf x >> "$EDGEKIT_TEST_COUNT"
if [ -n "$EDGEKIT_TEST_DIE" ] && [ "$({wc} -c < "$EDGEKIT_TEST_COUNT")" -ge "$EDGEKIT_TEST_DIE" ]; then
  kill -9 $PPID; exit 137
fi
exec {program} "$@"
"""


def _model(folder: Path, padding: int) -> Path:
    """Bytes after the end, which no runtime reads, make another model of one."""
    folder.mkdir(exist_ok=True)
    path = folder / "model.tflite"
    path.write_bytes((_DIGITS / "model.tflite").read_bytes() + bytes(padding))
    return path


def _served(folder: Path) -> str | None:
    """The digest of the release in service, checked file by file; None where nothing is."""
    if not os.path.lexists(folder / "current"):
        return None
    release = (folder / "current").resolve(strict=True)
    manifest = json.loads((release / "manifest.json").read_text(encoding="utf-8"))
    for file in manifest["files"]:
        assert hashlib.sha256((release / file["name"]).read_bytes()).hexdigest() == file["sha256"]
    assert manifest["release"] == release.name
    return release.name


def _residue(folder: Path) -> list[str]:
    """What no release consists of, besides the record and the last lock."""
    kept = {"current", "releases", "switch.json"}
    found = [path.name for path in folder.iterdir() if path.name not in kept and path.name[:5] != "lock."]
    return found + [path.name for path in (folder / "releases").iterdir() if path.name.startswith(".")]


class _Case:
    """A device with two releases, and something to do to it that may be cut off."""

    def __init__(self, tmp_path: Path, action: str) -> None:
        self.folder = tmp_path / "device"
        self.device = Device("box", "local", folder=str(self.folder))
        self._action, self._prepared = action, tmp_path / "prepared"
        if action != "first":
            for padding in (1, 2):
                deploy(_model(tmp_path / "models", padding), self.device, health_check=False)
        self.folder.mkdir(exist_ok=True)
        self.folder.rename(self._prepared)
        self.model = _model(tmp_path / "new", 3)
        self.old: str | None = None

    def reset(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._prepared, self.folder, symlinks=True)
        self.old = _served(self.folder)

    def act(self) -> str:
        """The release that is in service at the end."""
        if self._action == "rollback":
            return rollback(self.device, health_check=False).release
        return deploy(self.model, self.device, health_check=False, keep=2).release

    def check(self, new: str) -> None:
        """The device serves one of the two; the next deployment is as if nothing had happened."""
        assert _served(self.folder) in {self.old, new}
        found = status(self.device)
        assert found.ok
        assert found.deploying is None
        again = deploy(self.model, self.device, health_check=False, keep=2)
        assert _served(self.folder) == again.release
        assert _residue(self.folder) == []
        assert len(list((self.folder / "releases").iterdir())) == (1 if self.old is None else 2)
        assert all(not release.damage for release in status(self.device).releases)


@pytest.fixture
def make_case(tmp_path):
    return lambda action: _Case(tmp_path, action)


def _killed_before(case: _Case, number: int) -> bool:
    """Whether edgekit, in a process of its own, was killed before its command of that number."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) < 0
    try:
        started, start = 0, local.LocalTransport.start

        def counted(transport, words):
            nonlocal started
            started += 1
            if started == number:
                os.kill(os.getpid(), 9)
            return start(transport, words)

        local.LocalTransport.start = counted
        case.act()
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - the child must end here
        print(repr(error), file=sys.stderr)
        os._exit(1)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["first", "deploy", "rollback"])
def test_edgekit_is_killed_before_each_of_its_commands(make_case, action):
    case = make_case(action)
    case.reset()
    new = case.act()
    number = 1
    while True:
        case.reset()
        if not _killed_before(case, number):
            break
        case.check(new)
        number += 1
    assert _served(case.folder) == new
    assert number > 5


@pytest.fixture
def power(tmp_path, monkeypatch):
    """The device's power: ``power.fails_before(n)``, ``power.is_back()``, which says how many programs ran."""
    shims, count = tmp_path / "shims", tmp_path / "count"
    shims.mkdir()
    for name in _PROGRAMS:
        shim = shims / name
        shim.write_text(_SHIM.format(program=shutil.which(name), wc=shutil.which("wc")), encoding="utf-8")
        shim.chmod(0o755)

    class _Power:
        def fails_before(self, number: int | None) -> None:
            count.write_bytes(b"")
            # Half a minute is for links that come back; this power does not while edgekit waits for it.
            monkeypatch.setattr(shell, "Limits", lambda: Limits(patience_s=0.1))
            monkeypatch.setenv("PATH", f"{shims}:{os.environ['PATH']}")
            monkeypatch.setenv("EDGEKIT_TEST_COUNT", str(count))
            monkeypatch.setenv("EDGEKIT_TEST_DIE", str(number or ""))

        def is_back(self) -> int:
            monkeypatch.undo()
            return count.stat().st_size

    return _Power()


@pytest.mark.slow
@pytest.mark.parametrize("action", ["first", "deploy", "rollback"])
def test_the_device_stops_before_each_program(make_case, power, action):
    case = make_case(action)
    case.reset()
    power.fails_before(None)
    new = case.act()
    programs = power.is_back()
    assert programs > 20
    for number in range(1, programs + 1):
        case.reset()
        power.fails_before(number)
        try:
            case.act()
        except DeviceError:
            pass
        else:
            # The rest is the lock's own beat, which ends by itself.
            assert number > programs - 5
        power.is_back()
        case.check(new)
