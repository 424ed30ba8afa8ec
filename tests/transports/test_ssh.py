"""Devices behind a real SSH server: the user's configuration, keys of hosts, and links that break."""

import os
import re
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from devicelab.processes import free_port, wait_until
from faulty_links import QUICK, device_of, failing

from edgekit.devices.device import Device
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError
from edgekit.transports import Limits, connect


@pytest.fixture
def asked_keys(tmp_path):
    """The environment of a person who answers ssh's question about a host key with yes."""
    answer = tmp_path / "askpass"
    answer.write_text('#!/bin/sh\necho "$1" >> "$0.asked"\necho yes\n')
    answer.chmod(0o755)
    return os.environ | {"SSH_ASKPASS": str(answer), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": "none:0"}


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def type_commands(hint: str, environment: dict[str, str]) -> None:
    """Run the commands that stand in a hint, as a person would who copies them from the screen."""
    for command in re.findall(r"(?:ssh|ssh-keygen) -[^,]*?(?=,| and then )", hint):
        done = subprocess.run(
            ["sh", "-c", command if command.startswith("ssh-keygen") else f"{command} true"],
            env=environment, capture_output=True, text=True, check=False, timeout=20, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)


@pytest.mark.parametrize(("trust", "code"), [("nothing", "EK801"), ("wrong", "EK802")])
def test_the_command_of_the_hint_cures_a_host_key_that_is_not_the_known_one(sshd, asked_keys, trust, code):
    sshd.access.extra_options = {"StrictHostKeyChecking": "ask", "BatchMode": "no"}
    sshd.access.trust_host(trust)
    device = device_of(sshd.access)
    before = sshd.access.known_hosts.read_text()
    with failing(code, within_s=5) as errors:
        connect(device, QUICK)
    assert sshd.access.known_hosts.read_text() == before
    type_commands(errors[0].hint, asked_keys)
    with Shell(device, QUICK) as shell:
        assert shell.run("echo", "in").text == "in"


def test_a_key_listed_for_another_port_of_the_host_does_not_count_as_changed(sshd, asked_keys):
    access = sshd.access
    access.extra_options = {"StrictHostKeyChecking": "ask", "BatchMode": "no"}
    access.trust_host("wrong")
    access.known_hosts.write_text(
        access.known_hosts.read_text().replace(f"[127.0.0.1]:{access.port}", "127.0.0.1")
    )
    with failing("EK801", within_s=5) as errors:
        connect(device_of(access), QUICK)
    type_commands(errors[0].hint, asked_keys)
    with Shell(device_of(access), QUICK) as shell:
        assert shell.run("echo", "in").text == "in"


def test_a_host_known_under_an_alias_of_its_own(sshd, asked_keys):
    access = sshd.access
    access.extra_options = {"HostKeyAlias": "my-board", "StrictHostKeyChecking": "ask", "BatchMode": "no"}
    access.trust_host("right")
    access.known_hosts.write_text(
        access.known_hosts.read_text().replace(f"[127.0.0.1]:{access.port}", "my-board")
    )
    with Shell(device_of(access), QUICK) as shell:
        assert shell.run("echo", "in").text == "in"
    access.trust_host("wrong")
    access.known_hosts.write_text(
        access.known_hosts.read_text().replace(f"[127.0.0.1]:{access.port}", "my-board")
    )
    with failing("EK802", within_s=5) as errors:
        connect(device_of(access), QUICK)
    type_commands(errors[0].hint, asked_keys)
    with Shell(device_of(access), QUICK) as shell:
        assert shell.run("echo", "in").text == "in"


def test_a_host_is_never_trusted_because_no_known_hosts_are_configured(sshd):
    access = sshd.access
    access.extra_options = {"UserKnownHostsFile": "none"}
    access.trust_host("nothing")
    with failing("EK801", within_s=5):
        connect(device_of(access), QUICK)
    access.extra_options = {"UserKnownHostsFile": "/dev/null"}
    access.write()
    with failing("EK801", within_s=5) as errors:
        connect(device_of(access), QUICK)
    assert "UserKnownHostsFile" in errors[0].hint


def test_files_of_known_hosts_that_are_not_there_yet_do_no_harm(sshd):
    access = sshd.access
    access.extra_options = {"UserKnownHostsFile": f'"{access.home / "none yet"}" "{access.known_hosts}"'}
    access.write()
    with Shell(device_of(access), QUICK) as shell:
        assert shell.run("echo", "in").text == "in"
    access.known_hosts.unlink()
    with failing("EK801", within_s=5):
        connect(device_of(access), QUICK)


def test_the_configuration_says_host_port_user_and_key(sshd):
    # The lab's alias is no name of a host: it leads nowhere without the configuration.
    with Shell(device_of(sshd.access), QUICK) as shell:
        assert shell.run("pwd").text == str(sshd.home)
        assert shell.folder == f"{sshd.home}/.edgekit"


@pytest.mark.parametrize(
    ("ciphers", "used"), [(None, "aes128-gcm@openssh.com"), ("aes256-ctr", "aes256-ctr")]
)
def test_a_cipher_of_the_configuration_is_the_one_that_is_used(sshd, ciphers, used):
    sshd.access.extra_options = {"Ciphers": ciphers} if ciphers else {}
    sshd.access.write()
    with Shell(device_of(sshd.access), QUICK) as shell:
        assert shell._transport._connection.get_extra_info("send_cipher") == used


def test_what_the_url_says_comes_before_the_configuration(sshd):
    access = sshd.access
    right = access.port
    access.extra_options = {"Port": "1", "User": "nobody-of-this-name"}
    access.write()
    url = f"ssh://{access.user}@{access.alias}:{right}"
    with Shell(Device("lab", url, None, str(access.config)), QUICK) as shell:
        assert shell.run("echo", "in").text == "in"


def test_a_device_behind_another(sshd, make_sshd):
    hop = make_sshd(alias="hop")
    hop.access.config.write_text(hop.access.config.read_text() + sshd.access.config.read_text())
    config = hop.access.config.read_text().replace("Host lab\n", "Host lab\n  ProxyJump hop\n")
    hop.access.config.write_text(config)
    with Shell(Device("lab", "ssh://lab", None, str(hop.access.config)), QUICK) as shell:
        assert shell.run("pwd").text == str(sshd.home)
        assert len(hop.sessions()) == 1
    wait_until(lambda: hop.sessions() == [] == sshd.sessions(), "the end of the connections")
    hop.stop()
    with failing("EK800", within_s=5):
        connect(Device("lab", "ssh://lab", None, str(hop.access.config)), QUICK)


def test_a_key_that_the_device_does_not_accept(sshd, make_sshd):
    other = make_sshd(alias="other")
    text = sshd.access.config.read_text().replace(str(sshd.access.identity), str(other.access.identity))
    sshd.access.config.write_text(text)
    with failing("EK803", within_s=5) as errors:
        connect(device_of(sshd.access), QUICK)
    assert "ssh-copy-id" in errors[0].hint


def test_a_key_with_a_passphrase_works_once_it_is_in_the_agent(sshd, tmp_path, monkeypatch):
    key, agent = sshd.access.identity, tmp_path / "agent"
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-f", key, "-P", "", "-N", "words"], check=True, capture_output=True
    )
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    with failing("EK803", within_s=5) as errors:
        connect(device_of(sshd.access), QUICK)
    assert "ssh-add" in errors[0].hint
    answer = tmp_path / "askpass"
    answer.write_text("#!/bin/sh\necho words\n")
    answer.chmod(0o755)
    with subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdout=subprocess.DEVNULL) as process:
        wait_until(agent.exists, "the agent")
        asked = os.environ | {"SSH_ASKPASS": str(answer), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": "none:0"}
        subprocess.run(["ssh-add", "-q", key], env=asked, check=True, stdin=subprocess.DEVNULL)
        with Shell(device_of(sshd.access), QUICK) as shell:
            assert shell.run("echo", "in").text == "in"
        process.terminate()


@pytest.mark.parametrize("what", ["no file", "no configuration", "no key"])
def test_a_configuration_that_does_not_work(sshd, what):
    access = sshd.access
    if what == "no file":
        access.config.unlink()
    elif what == "no configuration":
        access.config.write_text(
            access.config.read_text().replace(f"Port {access.port}", "Port zweiundzwanzig")
        )
    else:
        access.identity.write_text("no key")
    with failing("EK803", within_s=5) as errors:
        connect(device_of(access), QUICK)
    assert str(access.config) in errors[0].message + errors[0].hint


def test_a_device_that_refuses_resets_or_does_not_speak(sshd):
    proxy = sshd.access.through_proxy()
    device, limits = device_of(sshd.access), replace(QUICK, login_s=1)
    proxy.refuse()
    with failing("EK800", within_s=3) as errors:
        connect(device, limits)
    assert "refused" in errors[0].message
    proxy.reset()
    with failing("EK800", within_s=3):
        connect(device, limits)
    proxy.stall()
    with failing("EK800", within_s=limits.connect_s + limits.login_s + 3) as errors:
        connect(device, limits)
    assert "in time" in errors[0].message
    proxy.pass_all()
    with Shell(device, QUICK) as shell:
        assert shell.run("echo", "in").text == "in"


def test_a_frozen_server(sshd):
    limits = replace(QUICK, login_s=1)
    sshd.freeze()
    with failing("EK800", within_s=limits.connect_s + limits.login_s + 3):
        connect(device_of(sshd.access), limits)
    sshd.thaw()
    with Shell(device_of(sshd.access), QUICK) as shell:
        assert shell.run("echo", "in").text == "in"


@pytest.mark.parametrize(
    "url", ["ssh://no-such-host.invalid", "ssh://127.0.0.1:{port}", "ssh://localhost:{port}"]
)
def test_an_address_without_a_server(tmp_path, url):
    (tmp_path / "config").touch()
    device = Device("none", url.format(port=free_port()), None, str(tmp_path / "config"))
    with failing("EK800", within_s=10) as errors:
        connect(device, Limits(connect_s=5, login_s=2))
    assert "(" not in errors[0].message.removeprefix(f"none ({device.url})")


def test_nothing_of_a_connection_is_left(sshd):
    def threads():
        return [
            thread.name for thread in threading.enumerate() if thread.name.startswith(("edgekit", "asyncio"))
        ]

    open_files = open_descriptors()
    for _ in range(3):
        with Shell(device_of(sshd.access), QUICK) as shell:
            shell.run("true")
            running = shell.start(["cat"])
            running.close()
    sshd.stop()
    for _ in range(3):
        with pytest.raises(DeviceError):
            connect(device_of(sshd.access), QUICK)
    assert threads() == []
    assert open_descriptors() == open_files


def test_a_link_that_broke_while_commands_were_running_leaves_no_descriptor(sshd):
    proxy = sshd.access.through_proxy()
    with Shell(device_of(sshd.access), replace(QUICK, patience_s=0)) as shell:
        open_files = open_descriptors()
        running = [shell.start(["cat"]) for _ in range(3)]
        proxy.reset()
        for command in running:
            command.close()
        for _ in range(3):
            with pytest.raises(DeviceError):
                shell.run("true")
    assert open_descriptors() <= open_files
    proxy.pass_all()


@pytest.mark.parametrize(
    ("name", "banner"),
    [
        ("bash", "echo 'welcome to bash'; printf 'no end of line'\n"),
        ("dash", ""),
        ("busybox", ""),
        ("mksh", ""),
        ("tcsh", "echo welcome to tcsh\n"),
        ("fish", ""),
    ],
)
def test_whatever_the_login_shell_is(make_sshd, login_shell, name, banner):
    program = login_shell(name)
    sshd = make_sshd(login_shell=program)
    (sshd.home / f".{name}rc").write_text(banner)
    odd = [
        "a b",
        "it's",
        '"',
        "$(touch x)",
        "`touch x`",
        "!!",
        "a\\b\\",
        "*",
        "~",
        ";",
        "&",
        "#",
        "",
        "ä",
        "a\nb",
    ]
    with Shell(device_of(sshd.access), QUICK) as shell:
        assert shell.script('printf "<%s>" "$@"', *odd).output.decode() == "".join(
            f"<{word}>" for word in odd
        )
        assert shell.run("sh", "-c", "echo bad >&2; exit 3", check=False).status == 3
        assert shell.run("sh", "-c", "echo bad >&2; exit 3", check=False).errors.endswith("bad")
    assert not (sshd.home / "x").exists()


def test_a_login_shell_that_runs_nothing(make_sshd, tmp_path):
    closed = tmp_path / "nologin"
    closed.write_text("#!/bin/sh\necho 'This account is currently not available.'\nexit 1\n")
    closed.chmod(0o755)
    sshd = make_sshd(login_shell=str(closed))
    with Shell(device_of(sshd.access), QUICK) as shell, failing("EK816", within_s=5) as errors:
        shell.run("true")
    assert "currently not available" in errors[0].message


def test_a_login_shell_that_never_stops_talking(make_sshd, tmp_path):
    talker = tmp_path / "talker"
    talker.write_text("#!/bin/sh\nexec yes nonsense\n")
    talker.chmod(0o755)
    sshd = make_sshd(login_shell=str(talker))
    with Shell(device_of(sshd.access), Limits(command_s=0.5)) as shell, failing("EK805", within_s=8):
        shell.run("true")


@pytest.fixture
def login_shell(tmp_path):
    """The path of a login shell by its name; skips where it is not installed."""

    def find(name: str) -> str:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not installed")
        program = tmp_path / name
        if name == "busybox":
            program.write_text(f'#!/bin/sh\nexec {found} sh "$@"\n')
        elif name == "bash":
            # For commands bash reads it of its own accord only where it knows that sshd started it.
            program.write_text('#!/bin/bash\nexec bash --rcfile ~/.bashrc -i "$@" 2> /dev/null\n')
            program.write_text('#!/bin/bash\nexport BASH_ENV=~/.bashrc\nexec bash "$@"\n')
        else:
            return found
        program.chmod(0o755)
        return str(program)

    return find


def test_a_session_that_the_server_refuses(sshd):
    config = sshd.access.folder.parent / "sshd_config"
    sshd.stop()
    write = type(sshd)._write_config

    def with_limit():
        path = write(sshd)
        path.write_text(path.read_text() + "MaxSessions 0\n")
        return path

    sshd._write_config = with_limit
    sshd.start()
    with Shell(device_of(sshd.access), QUICK) as shell, failing("EK816", within_s=5):
        shell.run("true")
    assert config.exists()
