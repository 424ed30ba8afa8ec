"""A device behind an SSH server, with the user's own ssh configuration, keys and known hosts.

asyncssh works in an event loop, and the loop in a thread of its own: everybody else here waits in plain calls.
"""

import asyncio
import contextlib
import logging
import os
import shlex
import tempfile
import threading
from collections.abc import Awaitable, Coroutine, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from edgekit.channel import Channel
from edgekit.device import Device
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

    def start(self, words: Sequence[str]) -> Channel:
        """See ``Transport.start``: the server hands one string to the user's shell, so every word is quoted."""
        import asyncssh

        errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the channel
        their_stdin, stdin = os.pipe()
        stdout, their_stdout = os.pipe()
        starting = self._connection.create_process(
            shlex.join(words), stdin=their_stdin, stdout=their_stdout, stderr=os.dup(errors.fileno()), encoding=None
        )  # fmt: skip
        try:
            process = self._loop.wait(starting, self._limits.connect_s)
        except (OSError, asyncssh.Error, FutureTimeoutError) as error:
            os.close(stdin)
            os.close(stdout)
            errors.close()
            raise lost(self._device, error) from error
        return _SshChannel(self._loop, process, (stdin, stdout, errors))

    def close(self) -> None:
        """Close the connection; a dead one is dropped."""

        async def close() -> None:
            self._connection.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._connection.wait_closed(), _CLOSE_S)
            self._connection.abort()

        with contextlib.suppress(FutureTimeoutError):
            self._loop.wait(close(), 2 * _CLOSE_S)
        self._loop.end()


class _SshChannel(Channel):
    """A session of the connection, its streams redirected into pipes."""

    def __init__(
        self, loop: "_Loop", process: "asyncssh.SSHClientProcess[bytes]", streams: tuple[int, int, IO[bytes]]
    ) -> None:
        super().__init__(*streams)
        self._loop = loop
        self._process = process

    def exit_status(self) -> int | None:
        """See ``Channel.exit_status``: None where the link was lost before the command ended."""
        with contextlib.suppress(FutureTimeoutError):
            self._loop.wait(self._process.wait_closed(), _CLOSE_S)
        return self._process.returncode

    def _stop(self) -> None:
        async def stop() -> None:
            self._process.close()
            await self._process.wait_closed()

        self._loop.begin(stop())


class _Loop:
    """An event loop in a thread that ends with the program."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # asyncssh trips over streams that close while it reads them: of no consequence, but it would print.
        self._loop.set_exception_handler(lambda _loop, context: _log.debug("asyncssh: %s", context))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="edgekit-ssh")
        self._thread.start()

    def wait(self, work: Awaitable[_T], deadline_s: float) -> _T:
        """What comes of it; ctrl-C and the deadline cancel it."""

        async def done() -> _T:
            return await work

        future = asyncio.run_coroutine_threadsafe(done(), self._loop)
        try:
            return future.result(deadline_s)
        except BaseException:
            future.cancel()
            raise

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done without waiting for it."""
        asyncio.run_coroutine_threadsafe(work, self._loop)

    def end(self) -> None:
        """Stop the thread."""

        async def finish() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.get_running_loop().shutdown_default_executor()

        with contextlib.suppress(FutureTimeoutError):
            self.wait(finish(), _CLOSE_S)
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
    loop = _Loop()
    options = _options(device) | {
        "connect_timeout": limits.connect_s,
        "login_timeout": limits.login_s,
        "keepalive_interval": limits.keepalive_s,
        "keepalive_count_max": limits.keepalive_count,
    }
    try:
        opening = asyncssh.connect(device.host, **options)
        connection = loop.wait(opening, limits.connect_s + limits.login_s + _SLACK_S)
    except (OSError, asyncssh.Error, FutureTimeoutError, ValueError) as error:
        loop.end()
        raise _refused(device, error) from error
    except BaseException:
        loop.end()
        raise
    return SshTransport(loop, connection, device, limits)


def lost(device: Device, error: BaseException | None = None) -> DeviceError:
    """The error for a link that broke."""
    return DeviceError(
        "EK804",
        f"The connection to {device.name} was lost.",
        "Check the device's power and network, then run the command again.",
        detail=str(error or ""),
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
            f"edgekit logs in with keys and the ssh agent. Try: {place}; to install a key: ssh-copy-id {where}",
        )
    if isinstance(error, asyncssh.KeyImportError | asyncssh.ConfigParseError):
        return DeviceError(
            "EK803", f"The ssh configuration for {device.name} does not work: {error}.", f"Try: {place}"
        )
    if isinstance(error, TimeoutError | FutureTimeoutError):
        reason = "it did not answer in time"
    elif isinstance(error, OSError):
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
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
    return DeviceError(
        "EK801",
        f"The host key of {device.name} is not known.",
        f"Log in once with {shlex.join(_ssh_words(device))}, compare the key that it shows, and accept it.",
        detail=str(error),
    )


def _known_in(device: Device) -> tuple[str, Path] | None:
    """The name under which this host has a key, and the user's file that has it; None where none has."""
    import asyncssh

    options = asyncssh.SSHClientConnectionOptions(host=device.host, **_options(device))
    host, port = str(options.host), int(options.port or _PORT)
    # Without a UserKnownHostsFile asyncssh reads the first of these.
    files: Any = options.known_hosts or ["~/.ssh/known_hosts"]
    for file in files:
        path = Path(str(file)).expanduser()
        with contextlib.suppress(OSError, ValueError):
            if any(asyncssh.match_known_hosts(asyncssh.read_known_hosts(str(path)), host, host, port)):
                return host if port == _PORT else f"[{host}]:{port}", path
    return None


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
