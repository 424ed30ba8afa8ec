"""``status``: what is in service on a device, whether it is as it was deployed, and what one can go back to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgekit.devices import kept_files, release_folders
from edgekit.devices.device import Device
from edgekit.devices.device_lock import Holder, holder_of
from edgekit.devices.kept_files import KeptFile
from edgekit.devices.release_folders import Present
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError
from edgekit.findings import Finding, Level


@dataclass(frozen=True)
class KeptRelease:
    """A release on a device. ``state`` is current, previous or kept; ``damage`` is empty where it is whole.

    ``since`` is when it last went into service, by the clock of the computer that did it.
    """

    release: str
    state: str
    model: str | None
    format: str | None
    size_bytes: int | None
    since: str | None
    by: str | None
    damage: str

    def describe(self) -> dict[str, Any]:
        """The release as it stands in JSON documents."""
        return {
            "release": self.release,
            "state": self.state,
            "model": self.model,
            "format": self.format,
            "size_bytes": self.size_bytes,
            "since": self.since,
            "by": self.by,
            "ok": not self.damage,
            "damage": self.damage,
        }


@dataclass(frozen=True)
class DeviceStatus:
    """What lies on a device; ``current`` and ``previous`` are digests, ``path`` leads to what is in service.

    ``kept_files`` are those of benchmarks and evaluations, and pieces of what was cut off.
    """

    device: str
    folder: str
    current: str | None
    previous: str | None
    releases: tuple[KeptRelease, ...]
    free_bytes: int | None
    leftovers: tuple[str, ...]
    deploying: Holder | None
    kept_files: tuple[KeptFile, ...]
    findings: tuple[Finding, ...] = field(default_factory=tuple)

    @property
    def path(self) -> str:
        """Where programs on the device find the release in service."""
        return f"{self.folder}/current"

    @property
    def ok(self) -> bool:
        """Whether what is in service is whole; a device without any release is."""
        mine = [release for release in self.releases if release.release == self.current]
        return self.current is None or any(not release.damage for release in mine)

    def describe(self) -> dict[str, Any]:
        """The status as it stands in JSON documents."""
        return {
            "device": self.device,
            "folder": self.folder,
            "path": self.path,
            "ok": self.ok,
            "current": self.current,
            "previous": self.previous,
            "releases": [release.describe() for release in self.releases],
            "free_bytes": self.free_bytes,
            "leftovers": list(self.leftovers),
            "deploying": self.deploying.describe() if self.deploying else None,
            "kept_files": {
                "count": len(self.kept_files),
                "size_bytes": kept_files.total_bytes(self.kept_files),
                "removable_bytes": kept_files.total_bytes(_removable(self.kept_files)),
            },
        }


def status(device: str | Device) -> DeviceStatus:
    """Say what is in service on a device; the digests of all files are computed there.

    Args:
        device: The name or URL of a device.

    Raises:
        DeviceError: The device is unreachable.
        UsageError: There is no such device.
    """
    with release_folders.connect(device) as shell:
        present = release_folders.look(shell)
        releases = tuple(_examined(shell, present, digest) for digest in _listed(present))
        deploying = holder_of(shell)
        others = kept_files.look(shell)
        return DeviceStatus(
            device=shell.device.name,
            folder=shell.folder,
            current=present.current,
            previous=present.previous,
            releases=releases,
            free_bytes=present.free_bytes,
            leftovers=present.leftovers,
            deploying=deploying,
            kept_files=others,
            findings=(*_findings(shell, present, releases, deploying), *_about_kept(shell, others)),
        )


def _listed(present: Present) -> tuple[str, ...]:
    """All releases that lie there, and the one in service where it is gone."""
    missing = present.current is not None and present.current not in present.kept
    return (present.current, *present.kept) if missing and present.current else present.kept


def _examined(shell: Shell, present: Present, digest: str) -> KeptRelease:
    states = {present.previous: "previous", present.current: "current"}
    entry = next((entry for entry in present.order if entry.release == digest), None)
    since, by = (entry.at or None, entry.by or None) if entry else (None, None)
    state = states.get(digest, "kept")
    try:
        release = release_folders.read(shell, digest)
    except DeviceError as error:
        if error.code != "EK844":
            raise
        return KeptRelease(digest, state, None, None, None, since, by, "its manifest is missing or damaged")
    wrong = release_folders.wrong_files(shell, release, release_folders.folder_of(shell, digest))
    damage = f"{', '.join(wrong)} is not as it was deployed" if wrong else ""
    return KeptRelease(digest, state, release.model, release.format, release.size_bytes, since, by, damage)


def _removable(found: Sequence[KeptFile]) -> list[KeptFile]:
    return [file for file in found if file.state != "stays"]


def _about_kept(shell: Shell, found: Sequence[KeptFile]) -> Iterator[Finding]:
    removable = _removable(found)
    if removable:
        size = kept_files.total_bytes(removable) / 1e6
        text = f"{len(removable)} files of runs that are over ({size:,.1f} MB) were not used for a day."
        yield Finding("EK818", text, f"edgekit device clean {shell.device.name}", Level.NOTE)


def _findings(
    shell: Shell, present: Present, releases: tuple[KeptRelease, ...], deploying: Holder | None
) -> tuple[Finding, ...]:
    found = []
    for release in releases:
        if release.damage:
            level = Level.ERROR if release.state == "current" else Level.WARNING
            error = release_folders.damaged(shell, release.release, release.damage)
            found.append(Finding(error.code, error.message, error.hint, level))
    if present.leftovers and deploying is None:
        text = f"{len(present.leftovers)} leftovers of deployments that were cut off lie on the device."
        found.append(Finding("EK851", text, "The next deployment removes them.", Level.NOTE))
    return tuple(found)
