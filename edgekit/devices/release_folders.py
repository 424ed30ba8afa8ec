"""Releases on a device: ``releases/DIGEST/``, of which the symbolic link ``current`` names the one in service.

The link is the only thing that decides, and it changes by one rename. All else is written and synced before:
the release, under a hidden name until it is whole, and ``switch.json``, which says in which order releases were
in service, both before the switch and after it. Whichever of the two lists begins with what the link names is
the true one, so a switch that power cut off in the middle is either made or not.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.devices import inventory, remote_files
from edgekit.devices.device import Device
from edgekit.devices.device_lock import CLAIM, DONE, LOST
from edgekit.devices.probe_texts import free_disk
from edgekit.devices.release import DIGEST, MANIFEST, Release, ReleaseFile, printable, read_manifest
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError

_MOST_MANIFEST_BYTES = 256 << 10
_VERIFY_BYTES_PER_S = 4 << 20

# $1 folder.
_LOOK = (
    'cd "$1" 2>/dev/null || exit 0; '
    'if [ -L current ]; then echo "current $(readlink current)"; elif [ -e current ]; then echo "blocked"; fi; '
    'if [ -f switch.json ]; then echo "switch $(head -c 65536 switch.json)"; fi; '
    "for f in releases/* releases/.*.new releases/.*.old .switch.*; do "
    'if [ -d "$f" ]; then echo "folder $f"; fi; done; '
    'echo "free $(df -Pk . | tail -n 1)"'
)
# $@ files. One line each, in their order: digest and size.
_VERIFY = (
    'for f; do if [ -f "$f" ] && h=$(sha256sum < "$f"); then echo "${h%% *} $(wc -c < "$f")"; '
    "else echo missing; fi; done"
)
# $1 folder, $2 lock, $3 the digest whose half-sent files may stay, then the digests to remove. A release is
# hidden before it is taken apart: what has a digest as its name is whole.
_TIDY = (
    f'{CLAIM}keep="releases/.$3.new"; shift 3; '
    'for d; do [ "$(readlink current)" = "releases/$d" ] || mv -f "releases/$d" "releases/.$d.old"; done; '
    'for f in releases/.*.new releases/.*.old .switch.*; do [ "$f" = "$keep" ] || rm -rf "$f"; done; ' + DONE
)
# $1 folder, $2 lock, $3 digest, $4 nonce, $5 bytes of switch.json, which is its input; then the release's files.
# `mv` into a folder replaces a link of the same name by one rename, where `mv` onto the link would follow it.
# What an upload that was cut off left beside the release's files goes, the hidden probe of `remote_files` too.
# An existing release that is damaged gets its files one by one, each by a rename too.
_ACTIVATE = (
    CLAIM + "set -e; "
    'flush() { sync "$1" 2>/dev/null || sync; }; '
    'to="releases/$3"; new="releases/.$3.new"; s=".switch.$4"; bytes=$5; shift 5; '
    'mkdir "$s"; cat > "$s/switch.json"; [ "$(wc -c < "$s/switch.json")" -eq "$bytes" ]; flush "$s/switch.json"; '
    'if [ -d "$new" ]; then '
    'for f in "$new"/* "$new"/.[!.]*; do keep=; for n; do if [ "$f" = "$new/$n" ]; then keep=1; fi; done; '
    'if [ -z "$keep" ]; then rm -rf "$f"; fi; done; '
    'if [ -d "$to" ]; then for f in "$new"/*; do mv -f "$f" "$to/"; done; flush "$to"; rmdir "$new"; '
    'else mv "$new" "$to"; fi; flush releases; fi; '
    '[ -f "$to/manifest.json" ]; ln -s "$to" "$s/current"; '
    'mv -f "$s/switch.json" .; flush .; mv -f "$s/current" .; flush .; rmdir "$s"; ' + DONE
)


@dataclass(frozen=True)
class Entry:
    """That a release went into service: when, by the clock of the computer that did it, and by whom."""

    release: str
    at: str
    by: str

    def describe(self) -> dict[str, str]:
        """The entry as it stands in ``switch.json``."""
        return {"release": self.release, "at": self.at, "by": self.by}


@dataclass(frozen=True)
class Present:
    """What lies on a device.

    ``order`` are the releases as they were in service, the current one first, then those that one can go back
    to; ``kept`` are all that lie there, in that order. ``leftovers`` are of deployments that were cut off.
    """

    current: str | None
    order: tuple[Entry, ...]
    kept: tuple[str, ...]
    leftovers: tuple[str, ...]
    free_bytes: int | None

    @property
    def previous(self) -> str | None:
        """What was in service before the current release, and still lies there."""
        return next((entry.release for entry in self.order if entry.release != self.current), None)


def connect(device: str | Device) -> Shell:
    """A connected device, by its name or URL.

    Raises:
        DeviceError: It is unreachable.
        UsageError: There is no such device.
    """
    return Shell(device if isinstance(device, Device) else inventory.resolve(device))


def look(shell: Shell) -> Present:
    """See what lies on a device.

    Raises:
        DeviceError: The link is lost, or ``current`` is not a link that edgekit made.
    """
    lines = [line.partition(" ") for line in shell.script(_LOOK, shell.folder).text.splitlines()]
    said = {key: rest for key, _, rest in lines}
    target = said.get("current")
    current = None if target is None else target.removeprefix("releases/")
    if "blocked" in said or (current is not None and not DIGEST.fullmatch(current)):
        raise DeviceError(
            "EK848",
            f"{shell.folder}/current on {shell.device.name} was not made by edgekit.",
            "Move it away, or choose another place with edgekit device add --folder.",
            detail=target or "",
        )
    folders = [rest for key, _, rest in lines if key == "folder"]
    whole = {name.removeprefix("releases/") for name in folders}
    whole = {name for name in whole if DIGEST.fullmatch(name)}
    order = tuple(entry for entry in _order(said.get("switch", ""), current) if entry.release in whole)
    known = [entry.release for entry in order]
    return Present(
        current=current,
        order=order,
        kept=(*known, *sorted(whole - set(known))),
        leftovers=tuple(sorted(name for name in folders if name.removeprefix("releases/").startswith("."))),
        free_bytes=free_disk(said.get("free", ""))[0],
    )


def folder_of(shell: Shell, digest: str) -> str:
    """Where a release lies."""
    return f"{shell.folder}/releases/{digest}"


def staging_of(shell: Shell, digest: str) -> str:
    """Where a release lies until it is whole."""
    return f"{shell.folder}/releases/.{digest}.new"


def read(shell: Shell, digest: str) -> Release:
    """What a release on the device consists of.

    Raises:
        DeviceError: Its manifest is missing or damaged, or the link is lost.
    """
    path = f"{folder_of(shell, digest)}/{MANIFEST}"
    done = shell.run("head", "-c", str(_MOST_MANIFEST_BYTES), path, check=False)
    try:
        if done.status:
            raise ValueError("it is missing")
        return read_manifest(done.output, digest)
    except ValueError as error:
        raise damaged(shell, digest, f"{MANIFEST}: {error}") from error


def wrong_files(shell: Shell, release: Release, folder: str) -> tuple[str, ...]:
    """Which files of a release are missing or not as they should be, by their digests on the device.

    Raises:
        DeviceError: The link is lost, or the digests take too long.
    """
    seconds = shell.limits.command_s + release.size_bytes / _VERIFY_BYTES_PER_S
    paths = [f"{folder}/{file.name}" for file in release.files]
    lines = shell.script(_VERIFY, *paths, deadline_s=seconds).text.splitlines()
    said = dict(zip(release.files, lines, strict=False))
    return tuple(file.name for file in release.files if said.get(file, "").split() != _expected(file))


def damaged(shell: Shell, digest: str, what: str) -> DeviceError:
    """The error for a release that is not as it was deployed."""
    return DeviceError(
        "EK844",
        f"The release {digest[:12]} on {shell.device.name} is damaged: {what}.",
        "Deploy its model again, or roll back to another release; `edgekit status` lists them.",
    )


def send(
    shell: Shell, digest: str, sources: Mapping[str, Path], progress: remote_files.Progress | None = None
) -> int:
    """Bring the files of a release to where it lies until it is whole; returns the bytes that were sent.

    Raises:
        DeviceError: See ``remote_files.upload``.
    """
    total = sum(path.stat().st_size for path in sources.values())
    sent = before = 0
    for name, path in sources.items():
        size_bytes = path.stat().st_size

        def advance(done: int, _size: int, base: int = before) -> None:
            if progress:
                progress(base + done, total)

        sent += remote_files.upload(shell, path, f"{staging_of(shell, digest)}/{name}", progress=advance)
        before += size_bytes
    return sent


def activate(shell: Shell, lock: str, present: Present, release: Release, entry: Entry) -> None:
    """Put a release into service: give it its name where it was just sent, and switch.

    Args:
        shell: The device.
        lock: The name of the lock that is held.
        present: What ``look`` saw under that lock.
        release: What goes into service; its files were verified.
        entry: What to remember of it.

    Raises:
        DeviceError: The lock was lost, or a step failed; the old release is still in service then.
    """
    before = present.order
    # A repaired release has been in service all the time.
    is_first = bool(before) and before[0].release == release.digest
    after = before if is_first else (entry, *(old for old in before if old.release != release.digest))
    record = json.dumps(
        {
            "schema_version": 1,
            "before": [old.describe() for old in before],
            "after": [new.describe() for new in after],
        }
    ).encode()
    names = [MANIFEST, *(file.name for file in release.files)]
    words = [shell.folder, lock, release.digest, secrets.token_hex(8), str(len(record)), *names]
    done = shell.run("sh", "-c", _ACTIVATE, "edgekit", *words, stdin=record, check=False)
    _check_lock(shell, done.status)
    if done.status:
        raise shell.failed("switching to the new release", done)


def tidy(shell: Shell, lock: str, *, sending: str = "", remove: Sequence[str] = ()) -> None:
    """Remove releases, never the current one, and what deployments left that were cut off.

    Args:
        shell: The device.
        lock: The name of the lock that is held.
        sending: The release whose files may stay, half-sent as they are.
        remove: Digests of releases.

    Raises:
        DeviceError: The lock or the link was lost, or something cannot be removed.
    """
    done = shell.script(_TIDY, shell.folder, lock, sending, *remove, check=False)
    _check_lock(shell, done.status)
    if done.status:
        raise shell.failed("removing old releases", done)


def superfluous(present: Present, keep: int) -> tuple[str, ...]:
    """The oldest releases beyond so many, never the current one nor the one before it."""
    return present.kept[max(keep, 2) :]


def came_between(shell: Shell) -> DeviceError:
    """The error for a lock that somebody else took while the link was lost."""
    return DeviceError(
        "EK849",
        f"Another deployment to {shell.device.name} came between, when the connection was lost.",
        "See what runs there with `edgekit status`, then deploy again.",
    )


def _check_lock(shell: Shell, status: int) -> None:
    if status == LOST:
        raise came_between(shell)


def _order(text: str, current: str | None) -> tuple[Entry, ...]:
    """The releases as they were in service, by a record that anybody may have written."""
    lists = {}
    try:
        document: Any = json.loads(text)
        for key in ("after", "before"):
            lists[key] = tuple(
                Entry(*(printable(item[field]) for field in ("release", "at", "by")))
                for item in document[key]
            )
    except (ValueError, KeyError, TypeError):
        lists = {}
    for entries in lists.values():
        if (entries[0].release if entries else None) == current:
            return entries
    # No record tells of it: somebody else made the link.
    rest = tuple(entry for entry in lists.get("after", ()) if entry.release != current)
    return rest if current is None else (Entry(current, "", ""), *rest)


def _expected(file: ReleaseFile) -> list[str]:
    return [file.sha256, str(file.size_bytes)]


def without(present: Present, digests: Sequence[str]) -> Present:
    """What lies there once these releases were removed."""
    return replace(
        present,
        order=tuple(entry for entry in present.order if entry.release not in digests),
        kept=tuple(digest for digest in present.kept if digest not in digests),
    )
