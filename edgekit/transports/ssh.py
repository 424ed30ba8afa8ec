"""A device behind an SSH server, with the user's own ssh configuration, keys and known hosts.

asyncssh works in an event loop, and the loop in a thread of its own: everybody else here waits in plain calls.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import shlex
import threading
import time
from collections.abc import Awaitable, Coroutine, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from edgekit.devices.channel import Channel
from edgekit.devices.device import Device
from edgekit.errors import DependencyError, DeviceError, EdgekitError
from edgekit.transports import Limits

if TYPE_CHECKING:
    import asyncssh

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

# asyncssh keeps its own deadlines; this is for the case that it does not.
_SLACK_S = 5.0
_CLOSE_S = 3.0
_PORT = 22
_PIPE_BYTES = 1 << 20

# Where edgekit keeps its files on such a device; ~ is the home of the user.
FOLDER = "~/.edgekit"


class SshTransport:
    """One connection; every command is a session of it."""

    def __init__(
        self, loop: "_Loop", connection: "asyncssh.SSHClientConnection", device: Device, limits: Limits
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._device = device
        self._limits = limits
        self._endings: dict[int, asyncio.Task[None]] = {}

    def start(self, words: Sequence[str]) -> Channel:
        """See ``Transport.start``: the server hands one string to the user's login shell."""
        import asyncssh

        their_stdin, stdin = os.pipe()
        stdout, their_stdout = os.pipe()
        errors, their_errors = os.pipe()
        # The two threads at its ends then wake each other less often; only Linux can.
        with contextlib.suppress(AttributeError, OSError):
            fcntl.fcntl(stdin, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        theirs = [
            os.fdopen(their_stdin, "rb", 0), os.fdopen(their_stdout, "wb", 0), os.fdopen(their_errors, "wb", 0),
        ]  # fmt: skip
        try:
            session = self._loop.wait(self._begin(_command_line(words), theirs), self._limits.connect_s)
        except BaseException as error:
            for descriptor in (stdin, stdout, errors):
                os.close(descriptor)
            if isinstance(error, asyncssh.ChannelOpenError) and not self._connection.is_closed():
                raise _no_session(self._device, error) from error
            if isinstance(error, OSError | asyncssh.Error | FutureTimeoutError):
                raise lost(self._device, error) from error
            raise
        return _SshChannel(self._loop, session, (stdin, stdout, errors))

    def close(self) -> None:
        """Close the connection; a dead one is dropped."""

        async def close() -> None:
            self._connection.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._connection.wait_closed(), _CLOSE_S)
            self._connection.abort()
            if self._endings:
                await asyncio.wait(self._endings.values(), timeout=_CLOSE_S)

        with contextlib.suppress(FutureTimeoutError):
            self._loop.wait(close(), 3 * _CLOSE_S)
        self._loop.end()

    async def _begin(self, command: str, theirs: Sequence[IO[bytes]]) -> "_Session":
        stdin, stdout, stderr = theirs
        try:
            process = await self._connection.create_process(
                command, stdin=stdin, stdout=stdout, stderr=stderr, encoding=None
            )
        except BaseException:
            for stream in theirs:
                stream.close()
            raise
        # asyncssh leaves coroutines behind in a session whose end nobody waits for, and two must not wait for it.
        ending = asyncio.create_task(process.wait_closed())
        self._endings[id(ending)] = ending
        ending.add_done_callback(lambda task: self._endings.pop(id(task)))
        return _Session(process, ending)


@dataclass(frozen=True)
class _Session:
    """A command's session, and the task that ends with it."""

    process: "asyncssh.SSHClientProcess[bytes]"
    ending: asyncio.Task[None]

    async def ended(self) -> None:
        await asyncio.wait([self.ending])

    async def end(self) -> None:
        self.process.close()
        await self.ended()


class _SshChannel(Channel):
    """A session of the connection, its streams redirected into pipes."""

    def __init__(self, loop: "_Loop", session: _Session, streams: tuple[int, int, int]) -> None:
        super().__init__(*streams)
        self._loop = loop
        self._session = session

    def exit_status(self) -> int | None:
        """See ``Channel.exit_status``: None where the link was lost before the command ended."""
        until = time.monotonic() + _CLOSE_S
        self._listen(self._session.ending.done, until)
        with contextlib.suppress(FutureTimeoutError):
            self._loop.wait(self._session.ended(), max(0.0, until - time.monotonic()))
        code: int | None = self._session.process.returncode
        return code

    def _stop(self) -> None:
        self._loop.begin(self._session.end())


class _Loop:
    """An event loop in a thread that ends with the program."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # asyncssh trips over streams that close while it reads them: of no consequence, but it would print.
        self._loop.set_exception_handler(lambda _loop, context: _log.debug("asyncssh: %s", context))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="edgekit-ssh")
        self._thread.start()
        self._ended = False

    def wait(self, work: Awaitable[_T], deadline_s: float) -> _T:
        """What comes of it; ctrl-C and the deadline cancel it. Nothing comes once the loop has ended."""

        async def done() -> _T:
            return await work

        if self._ended:
            if asyncio.iscoroutine(work):
                work.close()
            raise FutureTimeoutError
        future = asyncio.run_coroutine_threadsafe(done(), self._loop)
        try:
            return future.result(deadline_s)
        except BaseException:
            future.cancel()
            raise

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done without waiting for it; once the loop has ended, it was done by that."""
        if self._ended:
            work.close()
        else:
            asyncio.run_coroutine_threadsafe(work, self._loop)

    def end(self) -> None:
        """Stop the thread."""

        async def finish() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.get_running_loop().shutdown_default_executor()

        if self._ended:
            return
        with contextlib.suppress(FutureTimeoutError):
            self.wait(finish(), _CLOSE_S)
        self._ended = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_S)
        if not self._thread.is_alive():
            self._loop.close()


def connect(device: Device, limits: Limits) -> SshTransport:
    """Log in with the user's configuration, keys and agent.

    Raises:
        DeviceError: The host is unreachable, its key is unknown or has changed, or it refuses the login.
        DependencyError: asyncssh is not installed.
    """
    try:
        import asyncssh
    except ImportError as error:
        raise DependencyError(
            "EK812", "Devices behind SSH need asyncssh, which is not installed.", 'pip install "edgekit[ssh]"'
        ) from error
    if device.ssh_config is not None and not Path(device.ssh_config).is_file():
        raise DeviceError(
            "EK803",
            f"The ssh configuration of {device.name} is not there: {device.ssh_config}.",
            "Add the device again with the file's present path.",
        )
    loop = _Loop()
    limiting = {
        "connect_timeout": limits.connect_s,
        "login_timeout": limits.login_s,
        "keepalive_interval": limits.keepalive_s,
        "keepalive_count_max": limits.keepalive_count,
    }
    try:
        opening = asyncssh.connect(
            device.host, **_options(device), **limiting, **_trusting(device), **_encrypting(device)
        )
        connection = loop.wait(opening, limits.connect_s + limits.login_s + _SLACK_S)
    except (OSError, asyncssh.Error, FutureTimeoutError, ValueError) as error:
        loop.end()
        raise _refused(device, error) from error
    except BaseException:
        loop.end()
        raise
    return SshTransport(loop, connection, device, limits)


def _command_line(words: Sequence[str]) -> str:
    """The words as one line that every login shell reads alike.

    Even between single quotes csh and fish read signs of their own: !, backslashes, line ends. A line with those is
    spelled in octal, for ``sh`` to read.
    """
    line = shlex.join(words)
    if not re.search(r"[!\\\n]", line):
        return line
    coded = "".join(f"\\0{byte:03o}" for byte in f"exec {line}".encode())
    return f'sh -c \'eval "$(printf %b "{coded}")"\''


def lost(device: Device, error: BaseException | None = None) -> DeviceError:
    """The error for a link that broke."""
    return DeviceError(
        "EK804",
        f"The connection to {device.name} was lost.",
        "Check the device's power and network, then run the command again.",
        detail=str(error or ""),
    )


def _no_session(device: Device, error: BaseException) -> DeviceError:
    """The error for a server that logs us in and then starts nothing."""
    return DeviceError(
        "EK816",
        f"{device.name} runs no commands: {error}.",
        "Its SSH server may allow this login something else only. Log in by hand and look.",
    )


def _refused(device: Device, error: BaseException) -> EdgekitError:
    """What went wrong while connecting, and the command that mends it."""
    import asyncssh

    place, where = shlex.join(_ssh_words(device)), _where(device)
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _untrusted(device, error)
    if isinstance(error, asyncssh.PermissionDenied):
        return DeviceError(
            "EK803",
            f"{device.name} refuses the login: {error.reason}.",
            "edgekit logs in with keys and the ssh agent; one with a passphrase is opened by ssh-add. "
            f"Try: {place}; to install a key: ssh-copy-id {where}",
        )
    if isinstance(error, asyncssh.KeyImportError | asyncssh.ConfigParseError):
        return DeviceError(
            "EK803", f"The ssh configuration for {device.name} does not work: {error}.", f"Try: {place}"
        )
    if isinstance(error, TimeoutError | FutureTimeoutError):
        reason = "it did not answer in time"
    elif isinstance(error, OSError):
        # Where a name has several addresses, the reasons of all come in one text.
        number = re.search(r"\[Errno (\d+)\]", str(error))
        reason = os.strerror(int(number.group(1))) if number else error.strerror or str(error)
    else:
        reason = str(error) or type(error).__name__
    return DeviceError(
        "EK800",
        f"{device.name} ({device.url}) cannot be reached: {reason}.",
        f"Is it on? Try: {place}",
        detail=str(error),
    )


def _untrusted(device: Device, error: Exception) -> DeviceError:
    known = _known_in(device)
    if known is not None:
        remove = shlex.join(["ssh-keygen", "-f", str(known[1]), "-R", known[0]])
        return DeviceError(
            "EK802",
            f"The host key of {device.name} is not the one in the list of known hosts.",
            "Somebody may be in between. Only if you know why it changed (a new SD card): "
            f"{remove} and then {shlex.join(_ssh_words(device))}, which shows the new key.",
            detail=str(error),
        )
    accept = (
        f"Log in once with {shlex.join(_ssh_words(device))}, compare the key that it shows, and accept it."
    )
    if [str(file) for file in _known_hosts(_resolved(device))[:1]] == [os.devnull]:
        accept = f"The ssh configuration keeps no keys (UserKnownHostsFile): name a file there. {accept}"
    return DeviceError(
        "EK801", f"The host key of {device.name} is not known.", accept, detail=str(error)
    )  # fmt: skip


def _known_in(device: Device) -> tuple[str, Path] | None:
    """The name under which this host has a key, and the user's file that has it; None where none has."""
    import asyncssh

    options = _resolved(device)
    port = int(options.port or _PORT)
    # Under an alias of its own, a host is listed without its port.
    alias = options.host_key_alias
    name = alias or (str(options.host) if port == _PORT else f"[{options.host}]:{port}")
    for path in _known_hosts(options):
        with contextlib.suppress(OSError, ValueError):
            known = asyncssh.read_known_hosts(str(path))
            if any(asyncssh.match_known_hosts(known, name, "", None)):
                return name, path
    return None


def _trusting(device: Device) -> dict[str, Any]:
    """The known hosts, where asyncssh would not do with the configuration's what OpenSSH does.

    It trusts every key after ``UserKnownHostsFile none``, and fails where one of the files is not there yet.
    """
    options = _resolved(device)
    files = _known_hosts(options)
    there = [str(path) for path in files if path.exists()]
    if options.known_hosts is not None and len(there) == len(files):
        return {}
    return {"known_hosts": there or ([], [], [])}


def _encrypting(device: Device) -> dict[str, Any]:
    """The cipher that asyncssh is fastest with, before all others, where the configuration names none.

    Its chacha20-poly1305, which both sides would choose, sends half as many bytes in a second.
    """
    if _resolved(device).config.get("Ciphers"):
        return {}
    return {"encryption_algs": "^aes128-gcm@openssh.com"}


def _resolved(device: Device) -> "asyncssh.SSHClientConnectionOptions":
    """All options of the connection, those of the configuration included."""
    import asyncssh

    return asyncssh.SSHClientConnectionOptions(host=device.host, **_options(device))


def _known_hosts(options: "asyncssh.SSHClientConnectionOptions") -> list[Path]:
    """The files of known hosts; without a UserKnownHostsFile asyncssh reads the first of OpenSSH's."""
    files: Any = options.known_hosts or ["~/.ssh/known_hosts"]
    return [Path(str(file)).expanduser() for file in files]


def _options(device: Device) -> dict[str, Any]:
    """What the device says itself. Given as None, a value would replace that of the configuration."""
    config = None if device.ssh_config is None else [device.ssh_config]
    said = {"username": device.user, "port": device.port, "config": config}
    return {key: value for key, value in said.items() if value is not None}


def _where(device: Device) -> str:
    port = ["-p", str(device.port)] if device.port else []
    return shlex.join([*port, f"{device.user}@{device.host}" if device.user else device.host])


def _ssh_words(device: Device) -> list[str]:
    """The ssh command that reaches the device by hand."""
    config = ["-F", device.ssh_config] if device.ssh_config else []
    return ["ssh", *config, *shlex.split(_where(device))]
