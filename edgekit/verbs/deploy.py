"""``deploy``: a model on a device, tried there before it goes into service."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.artifact import Artifact
from edgekit.devices import release_folders
from edgekit.devices.device import Device
from edgekit.devices.device_lock import DeviceLock, now, this_process
from edgekit.devices.installed_runtimes import InstalledRuntime
from edgekit.devices.packing import Packed, check_deployable, packed
from edgekit.devices.release_folders import Entry
from edgekit.devices.session import choose_runtime
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError, EdgekitError
from edgekit.findings import Finding
from edgekit.formats import open_artifact
from edgekit.health_check import NOT_CHECKED, Health, PutIntoService, Trial, check_health, failed, trial_of

_Progress = Callable[[int, int], None]
_LINK_CODES = {"EK800", "EK804", "EK805"}


@dataclass(frozen=True, kw_only=True)
class Deployment(PutIntoService):
    """What a deployment did.

    ``bytes_sent`` is 0 where the release lay on the device already, ``switched`` False where it was in service already.
    """

    sha256: str
    bytes_sent: int
    switched: bool
    removed: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """The deployment as it stands in JSON documents."""
        return super().describe() | {
            "sha256": self.sha256,
            "bytes_sent": self.bytes_sent,
            "switched": self.switched,
            "removed": list(self.removed),
        }


def deploy(
    model: str | Path | Artifact,
    device: str | Device,
    *,
    health_check: str | bool = True,
    preprocess: str | None = None,
    runtime: str | None = None,
    keep: int = 3,
    wait_s: float = 0.0,
    seed: int = 0,
    progress: _Progress | None = None,
) -> Deployment:
    """Bring a model to a device, try it there, and only then put it into service.

    Args:
        model: A ``.tflite`` or ``.onnx`` file, or one that was opened before.
        device: The name or URL of a device.
        health_check: Samples to try the model with, True for random ones, False for no check.
        preprocess: The contract that goes along; that of the model's lineage when None, "none" for none.
        runtime: What executes the model on the device; what was set up there when None.
        keep: How many releases stay on the device; the current one and the one before it always do.
        wait_s: For how long to wait while somebody else deploys.
        seed: For random samples.
        progress: Called with the numbers of bytes sent and of all.

    Raises:
        DeviceError: The device is unreachable, the health check failed, or a step did; what was in service
            still is.
        ModelError: The model is unreadable.
        TargetError: No device runs models of its format.
    """
    began = time.perf_counter()
    artifact = opened(model)
    trial, findings = _trial(artifact, health_check, preprocess, seed)
    with packed(artifact, preprocess) as release, release_folders.connect(device) as shell:
        with DeviceLock(shell, wait_s) as lock:
            run = _Run(shell, lock, release, artifact, runtime)
            health = run.bring(trial, progress)
            removed = run.remove_old(keep)
        return Deployment(
            device=shell.device.name,
            folder=shell.folder,
            release=release.release.digest,
            previous=run.present.previous,
            model=release.release.model,
            sha256=artifact.sha256,
            bytes_sent=run.sent,
            switched=run.switched,
            health=health,
            removed=removed,
            seconds=time.perf_counter() - began,
            findings=(*release.findings, *findings, *run.findings, *health.findings),
        )


def opened(model: str | Path | Artifact) -> Artifact:
    """A model that can be deployed.

    Raises:
        ModelError: It is unreadable, or has a name that cannot be kept.
        TargetError: No device runs models of its format.
    """
    artifact = model if isinstance(model, Artifact) else open_artifact(Path(model))
    check_deployable(artifact)
    return artifact


class _Run:
    """One deployment under way, while its lock is held."""

    def __init__(
        self, shell: Shell, lock: DeviceLock, release: Packed, artifact: Artifact, runtime: str | None
    ) -> None:
        self._shell = shell
        self._lock = lock
        self._packed = release
        self._release = release.release
        self._artifact = artifact
        self._runtime = runtime
        self.sent = 0
        self.switched = False
        self.findings: tuple[Finding, ...] = ()
        self.present = release_folders.look(shell)

    def bring(self, trial: Trial | None, progress: _Progress | None) -> Health:
        """Send what is missing, try it, and switch."""
        shell, digest = self._shell, self._release.digest
        release_folders.tidy(shell, self._lock.name, sending=digest)
        is_whole = self._is_whole()
        if is_whole and self.present.current == digest:
            return Health(None, "It is in service already, and all its files are as they should be.")
        # Known before anything is sent: is there what could try it?
        runtime = None if trial is None else choose_runtime(shell, self._artifact, self._runtime)
        folder = release_folders.folder_of(shell, digest)
        if not is_whole:
            folder = release_folders.staging_of(shell, digest)
            self._send(folder, progress)
        health = self._try(trial, runtime, f"{folder}/{self._release.model}")
        self._look_again()
        entry = Entry(digest, now(), this_process().account)
        release_folders.activate(shell, self._lock.name, self.present, self._release, entry)
        self.switched = self.present.current != digest
        return health

    def remove_old(self, keep: int) -> tuple[str, ...]:
        """Remove the oldest releases; returns their digests."""
        self._lock.renew()
        self.present = release_folders.look(self._shell)
        removed = release_folders.superfluous(self.present, keep)
        release_folders.tidy(self._shell, self._lock.name, remove=removed)
        self.present = release_folders.without(self.present, removed)
        return removed

    def _send(self, folder: str, progress: _Progress | None) -> None:
        """Send the release to a folder, and see that it arrived."""
        digest = self._release.digest
        try:
            self.sent = release_folders.send(self._shell, digest, self._packed.sources, progress)
            wrong = release_folders.wrong_files(self._shell, self._release, folder)
            if wrong:
                what = f"{', '.join(wrong)} arrived with another digest"
                raise release_folders.damaged(self._shell, digest, what)
        except EdgekitError as error:
            self._discard_after(error)
            raise

    def _is_whole(self) -> bool:
        """Whether the release lies on the device, as it should be."""
        digest = self._release.digest
        if digest not in self.present.kept:
            return False
        try:
            release = release_folders.read(self._shell, digest)
            wrong = release_folders.wrong_files(
                self._shell, release, release_folders.folder_of(self._shell, digest)
            )
        except DeviceError as error:
            if error.code != "EK844":
                raise
            wrong = ("its manifest",)
        if wrong:
            text = (
                f"The release {digest[:12]} was damaged on the device ({', '.join(wrong)}); it is sent again."
            )
            self.findings += (Finding("EK844", text, "The card or disk of the device may be failing."),)
        return not wrong

    def _try(self, trial: Trial | None, runtime: InstalledRuntime | None, path: str) -> Health:
        if trial is None or runtime is None:
            text = "The release goes into service untried."
            self.findings += (Finding("EK846", text, "Leave --no-health-check away."),)
            return NOT_CHECKED
        try:
            health = check_health(self._shell, self._artifact, path, trial, runtime)
        except EdgekitError as error:
            self._discard_after(error)
            raise
        if not health.ok:
            self._discard()
            raise failed(self._shell, self._release.digest, health, self.present.current)
        return health

    def _look_again(self) -> None:
        """Where a lost link took the lock away: has anybody else deployed meanwhile?"""
        if self._lock.renew():
            found = release_folders.look(self._shell)
            if found.current != self.present.current:
                raise release_folders.came_between(self._shell)
            self.present = found

    def _discard_after(self, error: EdgekitError) -> None:
        """Remove what was sent, unless the link was lost: then it is of use to the next deployment."""
        if error.code not in _LINK_CODES:
            self._discard()

    def _discard(self) -> None:
        """Remove what was sent; on a device that is not to be reached, the next deployment does it."""
        with suppress(DeviceError):
            self._lock.renew()
            release_folders.tidy(self._shell, self._lock.name)


def _trial(
    artifact: Artifact, check: str | bool, preprocess: str | None, seed: int
) -> tuple[Trial | None, tuple[Finding, ...]]:
    if check is False:
        return None, ()
    data = check if isinstance(check, str) else None
    return trial_of(artifact, data, preprocess=preprocess, seed=seed)


@dataclass(frozen=True)
class Plan:
    """What a deployment would do."""

    device: str
    release: str
    model: str
    current: str | None
    bytes_to_send: int
    removes: tuple[str, ...]
    findings: tuple[Finding, ...] = field(default_factory=tuple)

    def describe(self) -> dict[str, Any]:
        """The plan as it stands in JSON documents."""
        return {
            "device": self.device,
            "release": self.release,
            "model": self.model,
            "current": self.current,
            "bytes_to_send": self.bytes_to_send,
            "removes": list(self.removes),
        }

    def sentence(self) -> str:
        """The plan for people."""
        if self.current == self.release:
            return f"would do nothing: release {self.release[:12]} is in service on {self.device} already"
        instead = f" instead of {self.current[:12]}" if self.current else ""
        removed = f", and remove {', '.join(old[:12] for old in self.removes)}" if self.removes else ""
        return (
            f"would send {self.bytes_to_send:,} bytes to {self.device}, try them there, and put release "
            f"{self.release[:12]} into service{instead}{removed}"
        )


def planned(
    model: str | Path | Artifact, device: str | Device, *, preprocess: str | None = None, keep: int = 3
) -> Plan:
    """What ``deploy`` would do with these options; the device is looked at and left as it is.

    Raises:
        EdgekitError: What ``deploy`` would raise before it changes anything.
    """
    artifact = opened(model)
    with packed(artifact, preprocess) as release, release_folders.connect(device) as shell:
        digest = release.release.digest
        present = release_folders.look(shell)
        lies_there = digest in present.kept
        size_bytes = sum(path.stat().st_size for path in release.sources.values())
        kept = (digest, *(old for old in present.kept if old != digest))
        return Plan(
            device=shell.device.name,
            release=digest,
            model=release.release.model,
            current=present.current,
            bytes_to_send=0 if lies_there else size_bytes,
            removes=kept[max(keep, 2) :],
            findings=release.findings,
        )
