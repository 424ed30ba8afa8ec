"""One deployment or set-up at a time: a lock on the device that is held by a process there, and ends with it.

The lock is a row of symbolic links ``lock.1``, ``lock.2``, ... whose targets say who made them: making one is
atomic, names and content at once. The highest one holds the lock for as long as the process lives that made it,
known by its id and its nonce. So nothing needs to be broken when a holder dies: the next one makes the next
link. The highest is never removed, otherwise numbers would come again, and two slow holders could both
believe that theirs is the highest.

A script that changes releases may outlive its deployment. It first says so, with a link ``busy.PID``, and then
looks whether its lock is still there; the next deployment takes the lock, and then waits for who is busy. In
that order one of the two sees the other.

Deployments lock edgekit's folder. Set-ups lock ``setup`` in it, as they change runtimes and no release.
"""

import contextlib
import getpass
import json
import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from edgekit.devices.channel import Ended, last_words
from edgekit.devices.release import printable
from edgekit.devices.shell import RunningCommand, Shell
from edgekit.errors import DeviceError

# $1 is a process id, $2 its nonce. Only what certainly does not carry it is dead: a process that cannot be looked
# at, or not for lack of `grep`, counts as living.
_ALIVE = (
    'alive() { [ -d "/proc/$1" ] || return 1; [ -r "/proc/$1/environ" ] || return 0; '
    'grep -qs "EDGEKIT_RUN=$2" "/proc/$1/environ"; [ "$?" -ne 1 ]; }; '
    'highest() { n=0; for f in lock.*; do [ -L "$f" ] && [ "${f#lock.}" -gt "$n" ] 2>/dev/null && '
    "n=${f#lock.}; done; }; "
)
# How every script that changes releases begins and ends: $1 folder, $2 the lock's name.
CLAIM = (
    'cd "$1" || exit 9; busy="busy.$$"; rm -f "$busy"; ln -s "$$ $EDGEKIT_RUN" "$busy" || exit 9; '
    '[ -L "$2" ] || { rm -f "$busy"; exit 75; }; '
)
DONE = 'rm -f "$busy"'
# $1 folder, $2 who asks. It ends with its input. What it writes now and then makes the device's system notice a
# computer that vanished, which silence would hide for hours.
_HOLD = (
    'mkdir -p "$1" && cd "$1" || exit 9; ' + _ALIVE + "highest; "
    'if [ "$n" -gt 0 ]; then holder=$(readlink "lock.$n"); rest=${holder#* }; '
    'if alive "${holder%% *}" "${rest%% *}"; then echo "${rest#* }"; exit 75; fi; fi; '
    "mine=$((n + 1)); "
    'ln -s "$$ $EDGEKIT_RUN $2" "lock.$mine" || { [ -L "lock.$mine" ] && exit 75; exit 9; }; '
    'highest; if [ "$n" != "$mine" ]; then rm -f "lock.$mine"; exit 75; fi; '
    'for f in lock.*; do [ "$f" = "lock.$mine" ] || rm -f "$f"; done; '
    'for f in busy.*; do while [ -L "$f" ] && busy=$(readlink "$f") && alive "${busy%% *}" "${busy#* }"; do '
    'sleep 1; done; rm -f "$f"; done; '
    'echo "held lock.$mine $$ $EDGEKIT_RUN"; '
    "beat() { trap 'kill \"$s\" 2> /dev/null; exit' TERM; "
    'while :; do sleep 15 > /dev/null 2>&1 & s=$!; wait "$s"; echo || exit; done; }; '
    "beat & b=$!; cat > /dev/null; kill $b; wait $b 2> /dev/null; exit 0"
)
# $1 folder. Says who holds the lock, if anybody does.
_ASK = (
    'cd "$1" 2>/dev/null || exit 0; ' + _ALIVE + 'highest; [ "$n" -gt 0 ] || exit 0; '
    'holder=$(readlink "lock.$n"); rest=${holder#* }; '
    'if alive "${holder%% *}" "${rest%% *}"; then echo "${rest#* }"; fi; exit 0'
)
# $1 folder, $2 the lock's name, $3 its holder's process id, $4 its nonce.
_HELD = _ALIVE + '[ -L "$1/$2" ] && alive "$3" "$4"'
LOST = 75
_AGAIN_S = 0.5
# A command that was killed this moment still has a process on the device.
_GRACE_S = 2.0
_RELEASE_S = 5.0


@dataclass(frozen=True)
class Holder:
    """Who has a lock: a process of a computer, since when by that computer's clock."""

    host: str
    user: str
    pid: int
    since: str

    @property
    def account(self) -> str:
        """The user and the computer: ``ann@desk``."""
        return f"{self.user}@{self.host}"

    def __str__(self) -> str:
        return f"{self.account} (process {self.pid}) since {self.since}"

    def describe(self) -> dict[str, Any]:
        """The holder as it stands in JSON documents."""
        return {"host": self.host, "user": self.user, "pid": self.pid, "since": self.since}


@dataclass(frozen=True)
class Work:
    """What a lock is held for: where it lies in edgekit's folder, and what is said to others meanwhile."""

    place: str
    doing: str
    wait: str
    unwritable: str


DEPLOYMENT = Work("", "being deployed to", "Wait for it with --wait SECONDS, or end that process.", "EK842")
SETUP = Work("/setup", "being set up", "Wait until that is done, or end that process.", "EK808")


def this_process() -> Holder:
    """The holder that this process would be."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        user = str(os.getuid())
    return Holder(platform.node()[:64], user[:64], os.getpid(), now())


def now() -> str:
    """This moment in UTC by this computer's clock: a device may have none that is right."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def holder_of(shell: Shell) -> Holder | None:
    """Who deploys to a device at this moment.

    Raises:
        DeviceError: The link is lost.
    """
    said = shell.script(_ASK, shell.folder).text
    return _read(said) if said else None


class DeviceLock:
    """A lock on a device, as a context.

    Args:
        shell: The device.
        wait_s: For how long to wait while somebody else has it.
        work: What it is held for.

    Raises:
        DeviceError: Somebody else has it, or edgekit's folder there cannot be written.
    """

    def __init__(self, shell: Shell, wait_s: float = 0.0, *, work: Work = DEPLOYMENT) -> None:
        self._shell = shell
        self._wait_s = wait_s
        self._work = work
        self._running: RunningCommand | None = None
        self._process: list[str] = []
        self.name = ""

    def __enter__(self) -> "DeviceLock":
        self._acquire(max(self._wait_s, _GRACE_S))
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def renew(self) -> bool:
        """Take the lock again where a lost link took it away; whether that was so.

        Raises:
            DeviceError: Somebody else has it now.
        """
        if self._running is not None:
            asked = self._shell.script(_HELD, self._folder, self.name, *self._process, check=False)
            if asked.status == 0:
                return False
        self.release()
        self._acquire(_GRACE_S)
        return True

    def release(self) -> None:
        """Let others have it."""
        running, self._running = self._running, None
        if running is None:
            return
        with contextlib.suppress(Ended, TimeoutError):
            running.channel.end_input()
            running.finish(time.monotonic() + _RELEASE_S)
        running.close()

    @property
    def _folder(self) -> str:
        return self._shell.folder + self._work.place

    def _acquire(self, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while True:
            holder = self._try()
            if self._running is not None:
                return
            if time.monotonic() >= until:
                who = str(holder) if holder else "another process"
                raise DeviceError(
                    "EK841",
                    f"{self._shell.device.name} is {self._work.doing} by {who}.",
                    self._work.wait,
                )
            time.sleep(_AGAIN_S)

    def _try(self) -> Holder | None:
        """Hold the lock in ``_running``, or say who has it."""
        shell = self._shell
        asks = json.dumps(this_process().describe())
        until = time.monotonic() + shell.limits.command_s
        running = shell.start(["sh", "-c", _HOLD, "edgekit", self._folder, asks])
        said = ""
        try:
            said = running.read_line(until).decode(errors="replace")
            if said.startswith("held "):
                _, self.name, *self._process = said.split()
                self._running = running
                return None
            running.finish(until)
        except TimeoutError as error:
            raise shell.late("taking the lock", shell.limits.command_s) from error
        except Ended:
            pass  # the status says why
        finally:
            errors = running.error_text()
            if self._running is not running:
                running.close()
        if running.status is None:
            raise shell.lost(errors)
        if running.status != LOST:
            raise self._unwritable(errors)
        return _read(said)

    def _unwritable(self, said: str) -> DeviceError:
        shell = self._shell
        return DeviceError(
            self._work.unwritable,
            f"{shell.folder} on {shell.device.name} cannot be written: {last_words(said) or 'no reason was given'}.",
            "It must be on a file system with symbolic links; choose another: edgekit device add --folder.",
            detail=said,
        )


def _read(said: str) -> Holder | None:
    """What stands in a lock, which anybody may have written."""
    try:
        document = json.loads(said)
        host, user, since = (printable(document[field]) for field in ("host", "user", "since"))
        return Holder(host, user, int(document["pid"]), since)
    except (ValueError, KeyError, TypeError):
        return None
