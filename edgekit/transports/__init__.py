"""How a device is reached: one file per scheme of a device's URL, with ``FOLDER`` and ``connect(device, limits)``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edgekit.catalog import load
from edgekit.devices.channel import Channel
from edgekit.devices.device import Device


@dataclass(frozen=True)
class Limits:
    """How long to wait for a device, in seconds.

    A link that says nothing is asked ``keepalive_count`` times, every ``keepalive_s``, and then given up;
    ``idle_s`` bounds how long it may take no data. ``patience_s`` is for how long a lost link is tried again.
    """

    connect_s: float = 15.0
    login_s: float = 15.0
    command_s: float = 60.0
    idle_s: float = 30.0
    keepalive_s: float = 5.0
    keepalive_count: int = 3
    patience_s: float = 30.0


class Transport(Protocol):
    """A connection to a device."""

    def start(self, words: Sequence[str]) -> Channel:
        """Start a program with its arguments, none of which any shell may interpret.

        Raises:
            DeviceError: The connection is gone.
        """

    def close(self) -> None:
        """Give the connection up."""


def connect(device: Device, limits: Limits) -> Transport:
    """Connect to a device.

    Raises:
        DeviceError: It is unreachable, or does not let us in.
        DependencyError: What its transport needs is not installed.
        UsageError: There is no such transport.
    """
    transport: Transport = load("transports", device.scheme).connect(device, limits)
    return transport
