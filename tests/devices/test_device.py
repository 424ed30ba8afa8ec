"""URLs of devices: what is one, and what is refused before anything is done with it."""

import pytest
from faulty_links import failing

from edgekit.devices.device import Device
from edgekit.errors import UsageError


@pytest.mark.parametrize(
    ("url", "scheme", "user", "host", "port"),
    [
        ("ssh://pi@rpi4", "ssh", "pi", "rpi4", None),
        ("ssh://pi@rpi4:2222", "ssh", "pi", "rpi4", 2222),
        ("ssh://My-Alias_4", "ssh", None, "My-Alias_4", None),
        ("ssh://pi@[fe80::1%eth0]:22", "ssh", "pi", "fe80::1%eth0", 22),
        ("ssh://user@domain@host", "ssh", "user@domain", "host", None),
        ("ssh://pi@rpi4/", "ssh", "pi", "rpi4", None),
    ],
)
def test_parts_of_an_ssh_url(url, scheme, user, host, port):
    device = Device("board", url)
    assert (device.scheme, device.user, device.host, device.port) == (scheme, user, host, port)


@pytest.mark.parametrize(
    ("url", "address"), [("adb://emulator-5554", "emulator-5554"), ("adb://10.0.0.2:5555", "10.0.0.2:5555")]
)
def test_serial_numbers(url, address):
    assert Device("phone", url).address == address


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "rpi4",
            "ssh",
            "ssh:",
            "ssh://",
            "ssh://@host",
            "ssh://pi@",
            "adb",
            "adb://",
            "local://there",
            "null://",
        ),
        *(
            "ssh://host:port",
            "ssh://host:0",
            "ssh://host:99999",
            "ssh://host/path",
            "ssh://host?query",
            "ssh://host#x",
        ),
        *(
            "ssh://-oProxyCommand=touch",
            "ssh://-l@host",
            "adb://-s",
            "ssh://ho st",
            "ssh://ho\nst",
            "ssh://ho$(x)st",
        ),
        *("adb://$(x)", "adb://a b", "adb://a\nb", "local\n", " local", "LOCAL", "../x://y", "_ssh://host"),
    ],
)
def test_what_is_no_url_of_a_device(url):
    with failing("EK810", within_s=1, kind=UsageError):
        Device("board", url)


@pytest.mark.parametrize(
    "url", ["ssh://pi:secret@rpi4", "ssh://pi:@rpi4", "ssh://pi:se#cret@rpi4", "ssh://pi:secret@rpi4/x"]
)
def test_passwords_are_refused_and_not_repeated(url):
    with failing("EK810", within_s=1, kind=UsageError) as errors:
        Device("board", url)
    assert "cret" not in errors[0].message + errors[0].hint


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "..", "a\n", "ä", "x" * 65])
def test_names_that_no_device_can_have(name):
    with failing("EK810", within_s=1, kind=UsageError):
        Device(name, "local")


@pytest.mark.parametrize("folder", ["", "relative", "/two\nlines", "/nul\0", "~", "/esc\x1b"])
def test_folders_that_no_device_can_have(folder):
    with failing("EK810", within_s=1, kind=UsageError):
        Device("board", "local", folder)


def test_a_transport_that_nobody_knows_is_named():
    from edgekit.transports import Limits, connect

    with pytest.raises(UsageError, match="carrier"):
        connect(Device("board", "carrier://pigeon"), Limits())
