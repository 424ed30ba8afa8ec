"""The user's devices by name: the file ``devices.toml`` in the folder of edgekit's configuration."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.catalog import names, unknown
from edgekit.devices.device import Device
from edgekit.errors import UsageError

# 1 (2026): a table [devices.NAME] for each, with url, folder and ssh_config.
SCHEMA = 1
_KEYS = ("url", "folder", "ssh_config")
_MOST_BYTES = 1 << 20
_EXAMPLE = 'url = "ssh://USER@HOST"'


def path() -> Path:
    """Where the inventory is kept."""
    import platformdirs

    return platformdirs.user_config_path("edgekit") / "devices.toml"


def devices() -> dict[str, Device]:
    """The user's devices by name, in the order of their names; empty where there is no inventory yet.

    Raises:
        UsageError: The file is unreadable, of a newer edgekit, or holds what does not belong there.
    """
    place = path()
    try:
        document = tomllib.loads(files.read_bytes(place, most_bytes=_MOST_BYTES).decode())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _damaged(place, f"cannot be read: {reason}", "Mend the file, or move it away.") from error
    return dict(sorted(_read(document, place)))


def resolve(text: str) -> Device:
    """The device that is meant by a name of the inventory, or by a URL.

    Raises:
        UsageError: It is neither; the nearest name is given. Or the inventory cannot be read.
    """
    # A URL works even where the inventory is damaged.
    if "://" in text or text in {"local", "null"}:
        device = Device(_name_of(text), text)
        check_scheme(device)
        return device
    known = devices()
    if text in known:
        return known[text]
    raise _no_device(text, known)


def add(device: Device, *, overwrite: bool = False) -> None:
    """Put a device into the inventory.

    Raises:
        UsageError: The name is taken, and ``overwrite`` is not set; or the inventory cannot be read.
        OutputError: The inventory cannot be written.
    """
    with _changing() as known:
        check_free(device.name, known, overwrite=overwrite)
        known[device.name] = device


def check_free(name: str, known: Mapping[str, Device], *, overwrite: bool) -> None:
    """Refuse a name that is taken, or that a URL could be taken for.

    Raises:
        UsageError: It is.
    """
    if name in {"local", "null"}:
        raise UsageError("EK829", f"{name} is no name to give: it stands for itself.", "Choose another name.")
    if name in known and not overwrite:
        raise UsageError(
            "EK829",
            f"There is a device named {name} already: {known[name].url}.",
            "Choose another name, or add --overwrite.",
        )


def check_scheme(device: Device) -> None:
    """Refuse a URL that nothing here can follow.

    Raises:
        UsageError: There is no such transport; the nearest one is named.
    """
    if device.scheme not in names("transports"):
        raise unknown("transport", device.scheme, names("transports"))


def remove(name: str) -> Device:
    """Take a device out of the inventory; nothing is done to the device itself.

    Raises:
        UsageError: There is none of that name; the nearest one is given.
        OutputError: The inventory cannot be written.
    """
    with _changing() as known:
        if name not in known:
            raise _no_device(name, known)
        return known.pop(name)


@contextmanager
def _changing() -> Iterator[dict[str, Device]]:
    """The devices to change; nobody else writes meanwhile, and what stands there is written at the end."""
    import tomli_w

    place = path()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.output_error(place, error) from error
    with files.locked_folder(place.parent):
        known = devices()
        yield known
        tables = {name: _table(device) for name, device in sorted(known.items())}
        content = tomli_w.dumps({"schema": SCHEMA, "devices": tables}).encode()
        files.write_bytes(place, content, private=True)


def _table(device: Device) -> dict[str, str]:
    return {key: value for key in _KEYS if (value := getattr(device, key)) is not None}


def _read(document: Mapping[str, Any], place: Path) -> Iterator[tuple[str, Device]]:
    version = document.get("schema")
    if not isinstance(version, int) or version < 1:
        raise _damaged(place, "does not say which schema it has", f"Write schema = {SCHEMA} at its top.")
    if version > SCHEMA:
        raise _damaged(
            place, f"has schema {version}, and this edgekit reads up to {SCHEMA}", "Update edgekit."
        )
    _check_keys(document, ("schema", "devices"), place, "")
    tables = document.get("devices", {})
    if not isinstance(tables, dict):
        raise _damaged(place, "has no tables of devices", f"Write [devices.NAME] and {_EXAMPLE}.")
    for name, table in tables.items():
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            raise _damaged(place, f"has no table of texts for {name}", f"Write {_EXAMPLE}.")
        _check_keys(table, _KEYS, place, f" of {name}")
        if "url" not in table:
            raise _damaged(place, f"has no url for {name}", f"Write {_EXAMPLE}.")
        try:
            yield name, Device(name, **table)
        except UsageError as error:
            raise _damaged(
                place, f"is wrong about {name}: {error.message.rstrip('.')}", error.hint
            ) from error


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], place: Path, where: str) -> None:
    for key in table:
        if key not in known:
            hint = unknown("key", key, list(known)).hint
            raise _damaged(place, f"has an unknown key {key!r}{where}", hint)


def _no_device(name: str, known: Mapping[str, Device]) -> UsageError:
    if known:
        return unknown("device", name, sorted(known))
    hint = "Add one: edgekit device add NAME ssh://USER@HOST"
    return UsageError("EK901", f"There is no device named {name!r}: the inventory is empty.", hint)


def _damaged(place: Path, what: str, hint: str) -> UsageError:
    return UsageError("EK828", f"{place} {what}.", hint)


def _name_of(url: str) -> str:
    """A name for a device that has none: its address, as far as names allow."""
    device = Device("device", url)
    address = device.host if device.scheme == "ssh" else device.address or device.scheme
    return re.sub(r"[^A-Za-z0-9._-]", "-", address).lstrip("._-")[:64] or "device"
