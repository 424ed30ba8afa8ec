"""Which tensor differs first between this machine and a device."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.artifact import Artifact
from edgekit.debugging.result import Debugging
from edgekit.devices.device import Device
from edgekit.devices.session import DeviceSession
from edgekit.devices.shell import Shell
from edgekit.verbs.debug import debug


def debug_on_device(
    a: str | Path | Artifact,
    b: str | Path | Artifact | None,
    data: str | Path,
    device: Device,
    *,
    runtime: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Debugging:
    """Compare a model here with a model on a device, tensor by tensor.

    Args:
        a: The reference, which runs here.
        b: The version that runs on the device; None for A itself.
        data: A data spec; labels play no part.
        device: Where B runs.
        runtime: What executes B there; what was set up there when None.
        progress: Called with the numbers of samples done and of all.
        options: ``runtime_a``, ``samples`` and ``preprocess`` as for ``debug``.

    Raises:
        EdgekitError: As ``debug``; and ``DeviceError`` where the device cannot be reached or used.
    """
    with Shell(device) as shell:
        used: list[str] = []

        def open_there(artifact: Artifact) -> DeviceSession:
            session = DeviceSession(shell, artifact, runtime=runtime)
            used.append(session.runtime.name)
            return session

        found = debug(a, b, data, open_b=open_there, progress=progress, **options)
        return replace(found, runtimes=(found.runtimes[0], f"{used[0]} on {device.name}"))
