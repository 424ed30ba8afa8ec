"""Which tensor differs first between this machine and a device."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import placement
from edgekit.artifact import Artifact
from edgekit.debugging.result import Debugging
from edgekit.devices.device import Device
from edgekit.devices.session import DeviceSession
from edgekit.devices.shell import Shell
from edgekit.interleaved import Delegate
from edgekit.verbs.debug import debug


def debug_on_device(
    a: str | Path | Artifact,
    b: str | Path | Artifact | None,
    data: str | Path,
    device: Device,
    *,
    runtime: str | None = None,
    delegate: Delegate | None = None,
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
        delegate: What accelerates B there; the CPU alone when None.
        progress: Called with the numbers of samples done and of all.
        options: ``runtime_a``, ``samples`` and ``preprocess`` as for ``debug``.

    Raises:
        EdgekitError: As ``debug``; and ``DeviceError`` where the device cannot be reached or used.
    """
    with Shell(device) as shell:
        used: list[DeviceSession] = []

        def open_there(artifact: Artifact) -> DeviceSession:
            used.append(DeviceSession(shell, artifact, runtime=runtime, delegate=delegate))
            return used[-1]

        found = debug(a, b, data, open_b=open_there, progress=progress, **options)
        # The last one is the model as it is; before it come those whose inner tensors are outputs.
        session = used[-1]
        who = session.runtime.name if delegate is None else f"{session.runtime.name} with {delegate.name}"
        told = (
            [] if delegate is None else placement.findings(session.opened, found.b.path.name, who, delegate)
        )
        return replace(
            found,
            runtimes=(found.runtimes[0], f"{who} on {device.name}"),
            noticed=(*found.noticed, *told),
        )
