"""The user's devices: put into the inventory, listed, asked what they are, and taken out again."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgekit.devices import cautions, inventory, kept_files, support
from edgekit.devices.device import Device
from edgekit.devices.facts import DeviceFacts, probe
from edgekit.devices.kept_files import KeptFile
from edgekit.devices.shell import Shell
from edgekit.devices.support import RuntimeSupport
from edgekit.findings import Finding, Level

_ADB_S = 15.0


@dataclass(frozen=True)
class DeviceProbe:
    """What a device said of itself, and which of edgekit's runtimes can run there."""

    device: Device
    facts: DeviceFacts
    support: tuple[RuntimeSupport, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the user should know of the device's present state."""
        return cautions.findings(self.facts)

    def describe(self) -> dict[str, Any]:
        """The answer as it stands in JSON documents."""
        return {
            "device": self.device.describe(),
            "facts": self.facts.describe(),
            "runtimes": [runtime.describe() for runtime in self.support],
            "platform_tags": support.platform_tags(self.facts),
        }


@dataclass(frozen=True)
class AttachedDevice:
    """A device that adb sees and the inventory does not have; ``state`` is adb's word for it."""

    serial: str
    state: str
    model: str

    def describe(self) -> dict[str, Any]:
        """The device as it stands in JSON documents."""
        return {
            "url": f"adb://{self.serial}",
            "state": self.state,
            "model": self.model or None,
        }


@dataclass(frozen=True)
class DeviceList:
    """The user's devices, and those that are attached besides."""

    devices: tuple[Device, ...]
    attached: tuple[AttachedDevice, ...]
    findings: tuple[Finding, ...]

    def describe(self) -> dict[str, Any]:
        """The list as it stands in JSON documents."""
        return {
            "inventory": str(inventory.path()),
            "devices": [device.describe() for device in self.devices],
            "attached": [device.describe() for device in self.attached],
        }


@dataclass(frozen=True)
class DeviceCleaning:
    """What was removed from a device, or with ``dry_run`` would be, and what stays."""

    device: str
    folder: str
    files: tuple[KeptFile, ...]
    dry_run: bool = False

    @property
    def removed(self) -> tuple[KeptFile, ...]:
        """What went, or may go."""
        return tuple(file for file in self.files if file.state != "stays")

    @property
    def kept(self) -> tuple[KeptFile, ...]:
        """What stays."""
        return tuple(file for file in self.files if file.state == "stays")

    def describe(self) -> dict[str, Any]:
        """The cleaning as it stands in JSON documents."""
        return {
            "device": self.device,
            "folder": self.folder,
            "dry_run": self.dry_run,
            "removed": [file.describe() for file in self.removed],
            "removed_bytes": kept_files.total_bytes(self.removed),
            "kept": [file.describe() for file in self.kept],
            "kept_bytes": kept_files.total_bytes(self.kept),
        }


def device_probe(device: str) -> DeviceProbe:
    """Ask a device what it is, how it is at the moment, and which runtimes can run there.

    Args:
        device: Its name in the inventory, or its URL.

    Raises:
        UsageError: There is no such device.
        DeviceError: It is unreachable, or does not let us in.
    """
    return _probe(inventory.resolve(device))


def device_add(device: Device, *, overwrite: bool = False, connect: bool = True) -> DeviceProbe | None:
    """Put a device into the inventory, once it has answered.

    Args:
        device: The device under the name that it shall have.
        overwrite: Replace the device that has the name.
        connect: Ask it what it is first; without that it need not be reachable, and None comes back.

    Raises:
        UsageError: The name is taken, or there is no such transport.
        DeviceError: It is unreachable, or does not let us in; nothing was written then.
        OutputError: The inventory cannot be written.
    """
    inventory.check_scheme(device)
    inventory.check_free(device.name, inventory.devices(), overwrite=overwrite)
    found = _probe(device) if connect else None
    inventory.add(device, overwrite=overwrite)
    return found


def device_list() -> DeviceList:
    """The devices of the inventory, and those that adb sees besides, where there is an adb.

    Raises:
        UsageError: The inventory cannot be read.
    """
    known = tuple(inventory.devices().values())
    urls = {device.url.rstrip("/") for device in known}
    if shutil.which("adb") is None:
        return DeviceList(known, (), ())
    try:
        done = subprocess.run(
            ["adb", "devices", "-l"], capture_output=True, text=True, errors="replace", timeout=_ADB_S,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        attached = tuple(found for found in _attached(done.stdout) if f"adb://{found.serial}" not in urls)
        problem = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except (OSError, subprocess.TimeoutExpired) as error:
        attached, problem = (), [str(error)]
    findings = [
        Finding("EK800", f"adb does not list its devices: {text}.", "Try: adb kill-server", Level.NOTE)
        for text in problem
    ]
    return DeviceList(known, attached, tuple(findings))


def device_remove(name: str) -> Device:
    """Take a device out of the inventory; what edgekit keeps on the device stays there.

    Raises:
        UsageError: There is none of that name.
        OutputError: The inventory cannot be written.
    """
    return inventory.remove(name)


def device_clean(device: str, *, everything: bool = False, dry_run: bool = False) -> DeviceCleaning:
    """Remove what finished and broken runs left on a device: models that were sent, pieces of uploads and set-ups.

    What was used within a day stays, and the model of a worker that runs now in any case. Releases and runtimes are
    not touched.

    Args:
        device: Its name in the inventory, or its URL.
        everything: Remove the models of today too, and pieces that are older than an hour.
        dry_run: Say what would be removed, and leave it.

    Raises:
        UsageError: There is no such device.
        DeviceError: It is unreachable, or something cannot be removed.
    """
    with Shell(inventory.resolve(device)) as shell:
        sweep = kept_files.look if dry_run else kept_files.clean
        found = sweep(shell, everything=everything)
        return DeviceCleaning(shell.device.name, shell.folder, found, dry_run)


def _probe(device: Device) -> DeviceProbe:
    with Shell(device) as shell:
        facts = probe(shell)
    return DeviceProbe(device, facts, support.support(facts))


def _attached(listing: str) -> Iterator[AttachedDevice]:
    """From ``adb devices -l``: ``R58M123  device usb:1-4 product:a51 model:SM_A515F``."""
    for row in listing.splitlines():
        words = row.split()
        # Before the list adb may say that it starts its server: "* daemon started successfully *".
        if len(words) < 2 or words[0] in {"*", "List"}:
            continue
        # "no permissions (missing udev rules? ...)" is the one state of several words.
        state = "no permissions" if words[1] == "no" else words[1]
        model = next((word.removeprefix("model:") for word in words if word.startswith("model:")), "")
        yield AttachedDevice(words[0], state, model.replace("_", " "))
