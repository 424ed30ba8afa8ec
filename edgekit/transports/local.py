"""This machine as a device: the same commands, without a link between."""

from collections.abc import Sequence

from edgekit.devices.channel import Channel, ProcessChannel
from edgekit.devices.device import Device
from edgekit.transports import Limits

# Where edgekit keeps its files on such a device; ~ is the home of the user.
FOLDER = "~/.local/share/edgekit/device"


class LocalTransport:
    """Programs of this machine, started without a shell."""

    def start(self, words: Sequence[str]) -> Channel:
        """See ``Transport.start``."""
        return ProcessChannel(words, detached=True)

    def close(self) -> None:
        """Nothing is open."""


def connect(_device: Device, _limits: Limits) -> LocalTransport:
    """This machine is always there."""
    return LocalTransport()
