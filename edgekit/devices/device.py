"""The noun of a machine that can be reached, by a URL: ``local``, ``ssh://pi@rpi4``, ``adb://SERIAL``."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from edgekit.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Neither a host nor a serial number may look like an option of the program that is given it.
_ADDRESS = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9._:%\[\]-]{0,254}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}")
_SCHEME = re.compile(r"[a-z][a-z0-9_]*")
_BARE = ("local", "null")


@dataclass(frozen=True)
class Device:
    """A machine that can be reached.

    ``folder`` is where edgekit keeps its files there, an absolute path; None means the default of the
    transport. ``ssh_config`` replaces ``~/.ssh/config``.

    Raises:
        UsageError: The name or the URL is none.
    """

    name: str
    url: str
    folder: str | None = None
    ssh_config: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                "EK810", f"{self.name!r} is no name of a device.", "Use letters, digits, dots and hyphens."
            )
        if self.folder is not None and not (self.folder.startswith("/") and self.folder.isprintable()):
            raise UsageError(
                "EK810", f"The folder {self.folder!r} is no absolute path.", "For example /data/edgekit."
            )
        if self.url in _BARE:
            return
        if self.scheme == "ssh":
            self._check_ssh()
        elif (
            self.scheme in _BARE or not _SCHEME.fullmatch(self.scheme) or not _ADDRESS.fullmatch(self.address)
        ):
            raise _bad_url(self.url)

    @property
    def scheme(self) -> str:
        """The name of the transport: ``ssh``."""
        return self.url if self.url in _BARE else self.url.partition("://")[0]

    @property
    def address(self) -> str:
        """What stands after the scheme: ``pi@rpi4:22`` or a serial number."""
        return self.url.partition("://")[2].rstrip("/")

    @property
    def host(self) -> str:
        """The host of an ssh URL, or an alias of the ssh configuration."""
        # urlsplit makes host names lower case; aliases are not.
        place = self.address.rpartition("@")[2]
        if place.startswith("["):
            return place[1:].partition("]")[0]
        return place.partition(":")[0]

    @property
    def user(self) -> str | None:
        """The user of an ssh URL; None where the ssh configuration decides."""
        return self.address.rpartition("@")[0] or None

    @property
    def port(self) -> int | None:
        """The port of an ssh URL; None where the ssh configuration decides."""
        return urlsplit(self.url).port

    def describe(self) -> dict[str, Any]:
        """The device as it stands in JSON documents."""
        return {"name": self.name, "url": self.url, "folder": self.folder, "ssh_config": self.ssh_config}

    def _check_ssh(self) -> None:
        if ":" in self.address.rpartition("@")[0]:
            raise UsageError(
                "EK810",
                "A device's URL holds no password: edgekit neither takes nor stores one.",
                "Log in with a key: ssh-copy-id USER@HOST, then leave the password out.",
            )
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise _bad_url(self.url) from error
        user, at, _place = self.address.rpartition("@")
        user_fits = _USER.fullmatch(user) if at else True
        more = parts.path.strip("/") or parts.query or parts.fragment
        if more or not user_fits or not _ADDRESS.fullmatch(self.host) or port == 0:
            raise _bad_url(self.url)


def _bad_url(url: str) -> UsageError:
    return UsageError(
        "EK810",
        f"{url!r} is no URL of a device.",
        "Use local, ssh://USER@HOST[:PORT], a Host of ~/.ssh/config as ssh://HOST, or adb://SERIAL.",
    )
