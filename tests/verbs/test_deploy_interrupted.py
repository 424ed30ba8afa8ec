"""Deployments that end at every point where they can: what is in service is the old or the new release, whole.

Two ways to die: edgekit itself is killed before each of its commands, and the device stops before each program
that a script of edgekit starts there, as with a power cut.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest
from served_release import digest_served, make_model, residue

from edgekit.devices import shell
from edgekit.devices.device import Device
from edgekit.errors import DeviceError
from edgekit.transports import Limits, local
from edgekit.verbs.deploy import deploy
from edgekit.verbs.rollback import rollback
from edgekit.verbs.status import status

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


class _Case:
    """A device with two releases, and something to do to it that may be cut off."""

    def __init__(self, tmp_path: Path, action: str) -> None:
        self.folder = tmp_path / "device"
        self.device = Device("box", "local", folder=str(self.folder))
        self._action, self._prepared = action, tmp_path / "prepared"
        if action != "first":
            for padding in (1, 2):
                deploy(make_model(tmp_path / "models", padding), self.device, health_check=False)
        self.folder.mkdir(exist_ok=True)
        self.folder.rename(self._prepared)
        self.model = make_model(tmp_path / "new", 3)
        self.old: str | None = None

    def reset(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._prepared, self.folder, symlinks=True)
        self.old = digest_served(self.folder)

    def act(self) -> str:
        """The release that is in service at the end."""
        if self._action == "rollback":
            return rollback(self.device, health_check=False).release
        return deploy(self.model, self.device, health_check=False, keep=2).release

    def check(self, new: str) -> None:
        """The device serves one of the two; the next deployment is as if nothing had happened."""
        assert digest_served(self.folder) in {self.old, new}
        found = status(self.device)
        assert found.ok
        assert found.deploying is None
        again = deploy(self.model, self.device, health_check=False, keep=2)
        assert digest_served(self.folder) == again.release
        assert residue(self.folder) == []
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
    assert digest_served(case.folder) == new
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


def test_what_was_written_is_synced_before_the_link_changes(tmp_path, monkeypatch):
    """What a power cut does to data that were never synced cannot be seen here, but the order can."""
    shims, log = tmp_path / "shims", tmp_path / "log"
    shims.mkdir()
    for name in ("mv", "sync"):
        shim = shims / name
        shim.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {log}\nexec {shutil.which(name)} "$@"\n', encoding="utf-8"
        )
        shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(shims), prepend=":")
    folder = tmp_path / "device"
    digest = deploy(
        make_model(tmp_path / "models"), Device("box", "local", folder=str(folder)), health_check=False
    ).release
    lines = log.read_text(encoding="utf-8").splitlines()
    staging = f"{folder}/releases/.{digest}.new"
    switch = next(i for i, line in enumerate(lines) if line.startswith("mv") and line.endswith("/current ."))
    for name in ("model.tflite", "manifest.json"):
        move = next(i for i, line in enumerate(lines) if line.endswith(f".part {staging}/{name}"))
        part = lines[move].split()[-2]
        assert f"sync {part}" in lines[:move]
        assert lines[move + 1] == f"sync {staging}"
        assert move < switch
    rename = lines.index(f"mv releases/.{digest}.new releases/{digest}")
    assert lines[rename + 1] == "sync releases"
    record = next(i for i, line in enumerate(lines) if line.endswith("/switch.json ."))
    assert any(line.startswith("sync .switch.") for line in lines[:record])
    assert rename < record < switch
    assert lines[record + 1] == "sync ."
    assert lines[switch + 1] == "sync ."
