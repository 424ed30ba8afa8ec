"""``rollback``: back to the release that was in service before, in one step."""

import tempfile
import time
from pathlib import Path

from edgekit.devices import release_folders, remote_files
from edgekit.devices.device import Device
from edgekit.devices.device_lock import DeviceLock, now, this_process
from edgekit.devices.release import Release
from edgekit.devices.release_folders import Entry, Present
from edgekit.devices.session import choose_runtime
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError, UsageError
from edgekit.findings import Finding
from edgekit.formats import open_artifact
from edgekit.health_check import NOT_CHECKED, Health, PutIntoService, check_health, failed, trial_of


class Rollback(PutIntoService):
    """What a rollback did."""


def rollback(
    device: str | Device,
    *,
    to: str | None = None,
    health_check: str | bool = True,
    runtime: str | None = None,
    wait_s: float = 0.0,
    seed: int = 0,
) -> Rollback:
    """Put the previous release of a device into service again; a second rollback goes forward again.

    Args:
        device: The name or URL of a device.
        to: The beginning of another release's digest, instead of the previous one.
        health_check: Samples to try it with, True for random ones, False for no check. The release is fetched
            from the device for that, since only a file here can be run here.
        runtime: What executes the model on the device; what was set up there when None.
        wait_s: For how long to wait while somebody else deploys.
        seed: For random samples.

    Raises:
        DeviceError: There is nothing to roll back to, the release is damaged or failed its health check, or the
            device is unreachable; what was in service still is.
        UsageError: There is no such release.
    """
    began = time.perf_counter()
    with release_folders.connect(device) as shell, DeviceLock(shell, wait_s) as lock:
        present = release_folders.look(shell)
        digest = _target(shell, present, to)
        release = release_folders.read(shell, digest)
        wrong = release_folders.wrong_files(shell, release, release_folders.folder_of(shell, digest))
        if wrong:
            raise release_folders.damaged(shell, digest, f"{', '.join(wrong)} is not as it was deployed")
        health, findings = _try(shell, release, health_check, runtime, seed)
        if health.ok is False:
            raise failed(shell, digest, health, present.current)
        if lock.renew() and release_folders.look(shell).current != present.current:
            raise release_folders.came_between(shell)
        entry = Entry(digest, now(), this_process().account)
        release_folders.activate(shell, lock.name, present, release, entry)
        return Rollback(
            device=shell.device.name,
            folder=shell.folder,
            release=digest,
            previous=present.current,
            model=release.model,
            health=health,
            seconds=time.perf_counter() - began,
            findings=(*findings, *health.findings),
        )


def _target(shell: Shell, present: Present, to: str | None) -> str:
    if to is None:
        if present.previous is None:
            raise DeviceError(
                "EK847",
                f"{shell.device.name} has no release before the current one.",
                "See `edgekit status`; another release can be named with --to.",
            )
        return present.previous
    found = [digest for digest in present.kept if to and digest.startswith(to)]
    if len(found) != 1:
        what = "no release" if not found else f"{len(found)} releases"
        raise UsageError(
            "EK850",
            f"{shell.device.name} has {what} whose digest begins with {to!r}.",
            f"It has {', '.join(digest[:12] for digest in present.kept) or 'none'}.",
        )
    return found[0]


def _try(
    shell: Shell, release: Release, health_check: str | bool, runtime: str | None, seed: int
) -> tuple[Health, tuple[Finding, ...]]:
    """The health check of a release that lies on the device."""
    if health_check is False:
        text = "The release goes into service untried."
        return NOT_CHECKED, (Finding("EK846", text, "Leave --no-health-check away."),)
    folder = release_folders.folder_of(shell, release.digest)
    with tempfile.TemporaryDirectory(prefix="edgekit-release-") as here:
        for file in release.files:
            content = remote_files.read(shell, f"{folder}/{file.name}", most_bytes=file.size_bytes)
            Path(here, file.name).write_bytes(content)
        artifact = open_artifact(Path(here, release.model))
        data = health_check if isinstance(health_check, str) else None
        trial, findings = trial_of(artifact, data, seed=seed)
        path = f"{folder}/{release.model}"
        return check_health(shell, artifact, path, trial, choose_runtime(shell, artifact, runtime)), findings
