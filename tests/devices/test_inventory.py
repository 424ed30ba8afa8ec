"""The inventory keeps devices by name, whoever else writes it, and says what is wrong with it."""

import multiprocessing
import stat
import tomllib

import pytest

from edgekit.devices import inventory
from edgekit.devices.device import Device
from edgekit.errors import OutputError, UsageError


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def write(text: str) -> None:
    inventory.path().parent.mkdir(exist_ok=True)
    inventory.path().write_text(text, encoding="utf-8")


def test_it_is_empty_before_anything_is_added():
    assert inventory.devices() == {}
    assert not inventory.path().parent.exists(), "looking leaves nothing behind"


def test_what_was_added_comes_back():
    full = Device("pi4", "ssh://pi@rpi4:2222", "/data/my 'edgekit'", "/home/me/ssh config")
    inventory.add(full)
    inventory.add(Device("a.phone", "adb://R58M123"))
    assert inventory.devices() == {"a.phone": Device("a.phone", "adb://R58M123"), "pi4": full}
    assert list(inventory.devices()) == ["a.phone", "pi4"]
    assert inventory.resolve("pi4") == full


def test_the_file_is_for_its_owner_and_for_reading():
    inventory.add(Device("pi4", "ssh://pi@rpi4"))
    assert stat.S_IMODE(inventory.path().stat().st_mode) == 0o600
    document = tomllib.loads(inventory.path().read_text(encoding="utf-8"))
    assert document == {"schema": 1, "devices": {"pi4": {"url": "ssh://pi@rpi4"}}}
    assert [file.name for file in inventory.path().parent.iterdir()] == ["devices.toml"]


def test_a_name_is_taken_until_it_is_overwritten_or_removed():
    inventory.add(Device("pi", "ssh://one"))
    with pytest.raises(UsageError) as caught:
        inventory.add(Device("pi", "ssh://two"))
    assert (caught.value.code, caught.value.exit_code) == ("EK829", 2)
    assert inventory.devices()["pi"].url == "ssh://one"
    inventory.add(Device("pi", "ssh://two"), overwrite=True)
    assert inventory.remove("pi").url == "ssh://two"
    assert inventory.devices() == {}


@pytest.mark.parametrize("name", ["local", "null"])
def test_names_that_mean_something_already(name):
    with pytest.raises(UsageError) as caught:
        inventory.add(Device(name, "ssh://pi"), overwrite=True)
    assert caught.value.code == "EK829"


@pytest.mark.parametrize(
    ("text", "url", "name"),
    [
        ("local", "local", "local"),
        ("null", "null", "null"),
        ("ssh://pi@Rpi4.lan:2222", "ssh://pi@Rpi4.lan:2222", "Rpi4.lan"),
        ("ssh://[fe80::1]:22", "ssh://[fe80::1]:22", "fe80--1"),
        ("adb://127.0.0.1:5611", "adb://127.0.0.1:5611", "127.0.0.1-5611"),
        ("adb://R58M123", "adb://R58M123", "R58M123"),
    ],
)
def test_a_url_is_a_device(text, url, name):
    write("this is no TOML")  # does not matter to a URL
    assert inventory.resolve(text) == Device(name, url)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError) as caught:
        inventory.resolve("pi4")
    assert caught.value.hint == "Add one: edgekit device add NAME ssh://USER@HOST"
    inventory.add(Device("pi4", "ssh://pi4"))
    for use in (inventory.resolve, inventory.remove):
        with pytest.raises(UsageError) as caught:
            use("pi5")
        assert caught.value.code == "EK901"
        assert caught.value.hint.startswith("Did you mean pi4?")


@pytest.mark.parametrize("url", ["http://pi", "ssh://pi:secret@host", "ssh://", "adb://-e"])
def test_a_wrong_url_is_refused(url):
    with pytest.raises(UsageError):
        inventory.resolve(url)


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("schema = ", "cannot be read", ""),
        ("[devices]", "does not say which schema", "schema = 1"),
        ('schema = "1"', "does not say which schema", "schema = 1"),
        ("schema = 2", "has schema 2", "Update edgekit"),
        ("schema = 1\ndevice = 1", "unknown key 'device'", "Did you mean devices?"),
        ("schema = 1\ndevices = 1", "no tables", "[devices.NAME]"),
        ('schema = 1\ndevices.pi = "ssh://pi"', "no table of texts for pi", "url ="),
        ('schema = 1\n[devices.pi]\nurl = "local"\nport = "22"', "unknown key 'port' of pi", "url"),
        ('schema = 1\n[devices.pi]\nuri = "local"', "unknown key 'uri' of pi", "Did you mean url?"),
        ('schema = 1\n[devices.pi]\nfolder = "/x"', "no url for pi", "url ="),
        (
            'schema = 1\n[devices.pi]\nurl = "pi@host"',
            "wrong about pi: 'pi@host' is no URL",
            "ssh://USER@HOST",
        ),
        ('schema = 1\n[devices."-x"]\nurl = "local"', "wrong about -x", ""),
        ('schema = 1\n[devices.pi]\nurl = "ssh://a:b@c"', "holds no password", ""),
        ("# " + "x" * (1 << 20), "cannot be read", ""),
    ],
)
def test_a_file_that_is_wrong_says_where_and_is_left_alone(text, words, hint):
    write(text)
    for use in (inventory.devices, lambda: inventory.add(Device("new", "local"))):
        with pytest.raises(UsageError) as caught:
            use()
        assert caught.value.code == "EK828"
        assert words in caught.value.message
        assert hint in caught.value.hint
    assert inventory.path().read_text(encoding="utf-8") == text


def test_a_configuration_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError):
        inventory.add(Device("pi", "ssh://pi"))


def _add_many(prefix: str) -> None:
    for number in range(10):
        inventory.add(Device(f"{prefix}{number}", "local"))


def test_several_processes_lose_nothing():
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add_many, args=(prefix,)) for prefix in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert len(inventory.devices()) == 30
