"""The native runner brought to a device without Python: compiled here, sent, tried there, and only then used."""

import posixpath
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edgekit import files
from edgekit.devices import installed_runtimes, remote_files, trial
from edgekit.devices.device_lock import SETUP, DeviceLock
from edgekit.devices.installed_runtimes import InstalledRuntime
from edgekit.devices.native_runner import PROGRAM
from edgekit.devices.runtime_setup import RuntimeSetup, prune, recorded
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError

_LIBRARY = "libtflite.so"


def set_up_native(
    shell: Shell,
    program: Path,
    library: Path,
    version: str,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> RuntimeSetup:
    """Bring the runner and its TFLite library to a device, try them there, and make them known.

    What the device has already is not sent again, and until the trial succeeds nothing that was set up before
    is touched.

    Raises:
        DeviceError: The device is full, unwritable or lost, somebody else sets it up, or the runner does not work
            on it.
    """
    started = time.monotonic()
    digest = files.sha256(program)[:8] + files.sha256(library)[:8]
    folder = f"{installed_runtimes.folder_of(shell)}/native-{version}.{digest}"
    runner, there = f"{folder}/{PROGRAM}", f"{folder}/{_LIBRARY}"
    runtime = InstalledRuntime("native", version, (runner, there))
    with DeviceLock(shell, work=SETUP) as lock:
        before = recorded(shell).get("native")
        sent = remote_files.upload(shell, library, there, progress=progress)
        sent += remote_files.upload(shell, program, runner)
        shell.run("chmod", "755", runner)
        lock.renew()
        try:
            reply = trial.try_out(shell, runtime)
        except DeviceError:
            if before is None or before.words != runtime.words:
                with suppress(DeviceError):
                    shell.run("rm", "-rf", folder, check=False)
            raise
        if runtime != before:
            installed_runtimes.record(shell, runtime)
        prune(shell, installed_runtimes.folder_of(shell), "native-", posixpath.basename(folder))
    keys = ("runtime_import_ms", "load_ms", "first_inference_ms", "delegate")
    return RuntimeSetup(
        runtime,
        before.version if before else None,
        sent,
        files.size_bytes(program) + files.size_bytes(library),
        {key: reply.get(key) for key in keys},
        time.monotonic() - started,
    )
