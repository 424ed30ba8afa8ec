"""A device that is not there: it takes every command, does nothing, and answers nothing.

What is not answered is not done, so every command on it fails in the way that a dead link fails. Code that
would take silence for success shows itself here.
"""

from collections.abc import Sequence

from edgekit.devices.channel import Channel, ProcessChannel
from edgekit.devices.device import Device
from edgekit.transports import Limits

# Where edgekit keeps its files on such a device; ~ is the home of the user.
FOLDER = "/nowhere/edgekit"


class NullTransport:
    """Answers nothing, with exit status 0."""

    def start(self, _words: Sequence[str]) -> Channel:
        """See ``Transport.start``."""
        return ProcessChannel(["true"])

    def close(self) -> None:
        """Nothing is open."""


def connect(_device: Device, _limits: Limits) -> NullTransport:
    """There is nothing to connect to."""
    return NullTransport()
