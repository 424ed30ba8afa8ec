"""A runtime brought to a device with Python: sent, unpacked beside the old one, tried, and only then used."""

import posixpath
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.devices import installed_runtimes, remote_files, trial
from edgekit.devices.device_lock import SETUP, DeviceLock
from edgekit.devices.installed_runtimes import InstalledRuntime
from edgekit.devices.python_facts import DevicePython
from edgekit.devices.runtime_bundle import Bundle
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError
from edgekit.worker_process import WORKER

_MARGIN_BYTES = 4 << 20
# Slow cards write a few MB per second, and small files slower.
_UNPACK_BYTES_PER_S = 256 << 10

# $1 folder, $2 the runtime's folder.
_LOOK = 'mkdir -p "$1" || exit 9; df -Pk "$1"; if [ -d "$2" ]; then echo have; fi'
# $1 archive, $2 new folder, $3 final folder, $4 Python, for devices whose tar is none or knows no gzip.
_UNPACK = (
    'set -e; rm -rf "$2"; mkdir -p "$2"; '
    'tar -xzmf "$1" -C "$2" 2>/dev/null || "$4" -m tarfile -e "$1" "$2"; '
    # Synced before it gets its name, or a power cut could leave the name with half of the files.
    'sync; [ -d "$3" ] && rm -rf "$2" || mv "$2" "$3"; rm -f "$1"'
)
# $1 folder, $2 beginning of the names, the rest are names to keep.
_PRUNE = (
    'cd "$1" || exit 0; p=$2; shift 2; for f in "$p"*; do k=; for n in "$@"; do [ "$f" = "$n" ] && k=1; done; '
    '[ -n "$k" ] || rm -rf "$f"; done'
)


@dataclass(frozen=True)
class RuntimeSetup:
    """A runtime that was set up: what was sent, and what the trial said.

    ``replaced`` is the version that was set up before; None where there was none. ``trial`` has
    ``runtime_import_ms``, ``load_ms`` and ``first_inference_ms`` of a tiny model, and the ``delegate``.
    """

    runtime: InstalledRuntime
    replaced: str | None
    bytes_sent: int
    unpacked_bytes: int
    trial: dict[str, Any]
    seconds: float

    def describe(self) -> dict[str, Any]:
        """The setup as it stands in JSON documents."""
        return asdict(self)


def set_up(
    shell: Shell,
    name: str,
    version: str,
    python: DevicePython,
    wheels: Sequence[Path],
    *,
    with_webgpu: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> RuntimeSetup:
    """Bring a runtime to a device, try it there, and make it known.

    What the device has already is not sent again, and until the trial succeeds nothing that was set up before
    is touched.

    Raises:
        DataError: A wheel is damaged.
        DeviceError: The device is full, unwritable or lost, somebody else sets it up, or the runtime does not
            work on it.
    """
    started = time.monotonic()
    bundle = Bundle(wheels, with_webgpu=with_webgpu)
    folder = f"{installed_runtimes.folder_of(shell)}/{name}-{version}.{bundle.digest}"
    worker = f"{shell.folder}/tools/worker-{files.sha256(WORKER)[:12]}.py"
    runtime = InstalledRuntime(name, version, (python.path, worker), {"PYTHONPATH": folder})
    with DeviceLock(shell, work=SETUP) as lock:
        before = recorded(shell).get(name)
        sent = _install(shell, bundle, folder, python, progress)
        sent += remote_files.upload(shell, WORKER, worker)
        lock.renew()
        try:
            reply = trial.try_out(shell, runtime)
        except DeviceError:
            if before is None or before.environment.get("PYTHONPATH") != folder:
                _remove(shell, folder)
            raise
        if runtime != before:
            installed_runtimes.record(shell, runtime)
        _prune(shell, runtime)
    keys = ("runtime_import_ms", "load_ms", "first_inference_ms", "delegate")
    return RuntimeSetup(
        runtime,
        before.version if before else None,
        sent,
        bundle.unpacked_bytes,
        {key: reply.get(key) for key in keys},
        time.monotonic() - started,
    )


def recorded(shell: Shell) -> dict[str, InstalledRuntime]:
    """The runtimes of a device; damaged records count as none, for they are about to be written anew."""
    try:
        return installed_runtimes.installed(shell)
    except DeviceError as error:
        if error.code != "EK815":
            raise
        return {}


def _install(
    shell: Shell,
    bundle: Bundle,
    folder: str,
    python: DevicePython,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Put the bundle's files into a folder, unless they are there; returns the bytes that were sent."""
    free_bytes, present = _look(shell, folder)
    if present:
        return 0
    needed = bundle.about_packed_bytes + bundle.unpacked_bytes + _MARGIN_BYTES
    if free_bytes is not None and free_bytes < needed:
        raise DeviceError(
            "EK807",
            f"{posixpath.dirname(folder)} on {shell.device.name} has {free_bytes:,} bytes free; "
            f"{posixpath.basename(folder)} needs about {needed:,}.",
            "Free some space there, or choose another place with edgekit device add --folder.",
        )
    packed = f"{folder}.tar.gz"
    with tempfile.TemporaryDirectory() as temporary:
        archive = Path(temporary) / "bundle.tar.gz"
        bundle.write(archive)
        sent = remote_files.upload(shell, archive, packed, progress=progress)
    new = f"{folder}.{secrets.token_hex(4)}.new"
    deadline_s = shell.limits.command_s + bundle.unpacked_bytes / _UNPACK_BYTES_PER_S
    try:
        shell.script(_UNPACK, packed, new, folder, python.path, deadline_s=deadline_s)
    except DeviceError as error:
        if error.code != "EK804":
            _remove(shell, new, packed)
            raise
        # The link broke, not the device: the archive is there, and unpacking it is a matter of seconds.
        shell.reconnect()
        if not _look(shell, folder)[1]:
            shell.script(_UNPACK, packed, new, folder, python.path, deadline_s=deadline_s)
    return sent


def _look(shell: Shell, folder: str) -> tuple[int | None, bool]:
    """Free bytes (None where ``df`` does not tell), and whether the runtime's folder is there."""
    done = shell.script(_LOOK, posixpath.dirname(folder), folder, check=False)
    if done.status == 9:
        reason = done.errors.splitlines()[-1] if done.errors else "no reason was given"
        raise DeviceError(
            "EK808",
            f"{posixpath.dirname(folder)} on {shell.device.name} cannot be written: {reason}.",
            "Choose another place with edgekit device add --folder.",
            detail=done.errors,
        )
    free = re.search(r"\s(\d+)\s+(?:\d+%|-)\s", done.text)
    return int(free[1]) * 1024 if free else None, done.text.endswith("have")


def _remove(shell: Shell, *paths: str) -> None:
    with suppress(DeviceError):
        shell.run("rm", "-rf", *paths, check=False)


def _prune(shell: Shell, runtime: InstalledRuntime) -> None:
    """Remove other versions of the runtime, and workers that none of the device's runtimes starts any more."""
    kept = posixpath.basename(runtime.environment["PYTHONPATH"])
    prune(shell, installed_runtimes.folder_of(shell), f"{runtime.name}-", kept)
    words = [word for known in recorded(shell).values() for word in known.words]
    workers = [posixpath.basename(word) for word in words if "/tools/worker-" in word]
    prune(shell, f"{shell.folder}/tools", "worker-", *workers)


def prune(shell: Shell, folder: str, beginning: str, *kept: str) -> None:
    """Remove what begins with ``beginning`` from a folder of the device, but for the names to keep.

    Raises:
        DeviceError: The link is lost.
    """
    shell.script(_PRUNE, folder, beginning, *kept)
