"""Commands on a device are believed only when they say so themselves, end in time, and leave nothing running."""

import secrets
import threading
import time
from dataclasses import replace

import pytest
from devicelab.processes import is_alive, wait_until, with_environment
from faulty_links import QUICK, device_of, failing

from edgekit.devices.channel import Ended
from edgekit.devices.device import Device
from edgekit.devices.shell import Shell
from edgekit.transports import Limits


@pytest.fixture(params=["local", "ssh"])
def shell(request):
    """This machine as a device, without and with a link between."""
    device = Device("here", "local")
    if request.param == "ssh":
        device = device_of(request.getfixturevalue("sshd").access)
    with Shell(device, QUICK) as shell:
        yield shell


def test_output_errors_and_status_come_back_as_they_are(shell):
    done = shell.run("sh", "-c", "printf 'a\\n\\nb'; echo no >&2; exit 3", check=False)
    assert (done.output, done.errors, done.status) == (b"a\n\nb", "no", 3)
    assert shell.run("printf", "").output == b""
    assert shell.run("printf", "\n\n").output == b"\n\n"
    assert shell.run("cat", stdin=bytes(range(256)) * 3000).output == bytes(range(256)) * 3000
    assert shell.run("sh", "-c", "exit 137", check=False).status == 137


def test_what_reads_nothing_of_its_input_succeeds(shell):
    assert shell.run("true", stdin=bytes(3_000_000)).status == 0


def test_foreign_words_are_never_interpreted(shell, tmp_path):
    names = [
        f"$(touch {tmp_path}/x)",
        f"`touch {tmp_path}/x`",
        f"'; touch {tmp_path}/x; '",
        "-n",
        "a\nb",
        "ä\\n!",
    ]
    assert shell.script('printf "<%s>" "$@"', *names).output.decode() == "".join(
        f"<{name}>" for name in names
    )
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_fails_says_why_in_one_printable_line(shell):
    with failing("EK806", within_s=5) as errors:
        shell.run("sh", "-c", "printf 'first\\n\\033[31mred\\007 end.\\n\\n' >&2; exit 4")
    assert errors[0].message.endswith("with exit status 4:  [31mred  end.".replace(":  ", ": "))
    with failing("EK806", within_s=5) as errors:
        shell.run("no-such-program-anywhere")
    assert "status 127" in errors[0].message


def test_errors_are_there_however_short_the_command(shell):
    for _ in range(20):
        assert shell.run("sh", "-c", "echo gone >&2; exit 1", check=False).errors.endswith("gone")


def test_a_command_that_outlives_its_deadline_is_ended_with_all_that_it_started(shell):
    mark = secrets.token_hex(8)
    script = "sleep 1000 & trap '' HUP TERM; sleep 1000 & sleep 1000; true"
    with failing("EK805", within_s=6):
        shell.run("env", f"EDGEKIT_TEST={mark}", "sh", "-c", script, deadline_s=0.4)
    wait_until(lambda: with_environment("EDGEKIT_TEST", mark) == [], "the end of the command")
    assert shell.run("echo", "alive").text == "alive"


def test_a_command_that_never_stops_talking_is_ended_too(shell):
    with failing("EK805", within_s=6):
        shell.run("yes", deadline_s=0.4)


def test_an_abandoned_command_is_ended(shell):
    with failing("EK805", within_s=6):
        running = shell.start(["sleep", "1000"])
        assert is_alive(running.pid)
        try:
            raise shell.late("waiting", 0)
        finally:
            running.close()
    wait_until(lambda: not is_alive(running.pid), "the end of the command")
    running.close()


def test_a_running_command_is_spoken_to(shell):
    running = shell.start(["sh", "-c", 'while read -r line; do echo "<$line>"; done; echo last; kill -11 $$'])
    until = time.monotonic() + 5
    running.write(b"one\ntwo\n", until)
    assert running.read_line(until) == b"<one>"
    assert running.read_line(until) == b"<two>"
    with pytest.raises(TimeoutError):
        running.read_line(time.monotonic() + 0.1)
    running.channel.end_input()
    assert running.read_line(until) == b"last"
    with pytest.raises(Ended):
        running.read_line(until)
    assert running.exit_status() == -11
    running.close()


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (3, 3), (128, 128), (137, -9), (255, 255)])
def test_the_exit_status_of_a_running_command(status, expected):
    with Shell(Device("here", "local"), QUICK) as shell:
        running = shell.start(["sh", "-c", f"exit {status}"])
        assert running.exit_status() == expected
        running.close()


@pytest.mark.parametrize("fault", [
    "cut", "reset", "session killed", "stall", pytest.param("freeze", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_link_that_breaks_while_a_command_runs(sshd, fault):
    proxy = sshd.access.through_proxy()
    limits = replace(QUICK, login_s=1.5, patience_s=0)
    with Shell(device_of(sshd.access), limits) as shell:
        running = shell.start(["sh", "-c", "echo up; sleep 1000; echo late"])
        assert running.read_line(time.monotonic() + 5) == b"up"
        if fault == "cut":
            proxy.cut_after(1, upwards=False)
        else:
            faults = {"stall": proxy.stall, "freeze": sshd.freeze, "session killed": sshd.kill_sessions}
            faults.get(fault, proxy.reset_once)()
        began = time.monotonic()
        with pytest.raises(Ended):
            running.read_line(began + 20)
        assert running.status is None
        assert running.exit_status() is None
        running.close()
        assert time.monotonic() - began < 10
        proxy.pass_all()
        if fault == "freeze":
            sshd.thaw()
        if fault not in {"stall", "freeze"}:
            # Over a new connection; a device that cannot be reached is left alone.
            wait_until(lambda: not is_alive(running.pid), "the end of the command")
            assert shell.run("echo", "again").text == "again"


def test_half_of_a_status_is_none(sshd):
    with Shell(device_of(sshd.access), QUICK) as shell:
        # The shell that would report the status dies in the middle of it.
        lost = 'echo; printf "edgekit-$EDGEKIT_RUN exit 1"; kill -9 $PPID'
        with failing("EK804", within_s=5):
            shell.run("sh", "-c", lost)


def test_words_of_the_login_shell_after_the_end_are_not_part_of_the_output(make_sshd, tmp_path):
    login = tmp_path / "login"
    login.write_text('#!/bin/bash\nprintf hello\ntrap "echo bye; echo bye" EXIT\neval "$2"\n')
    login.chmod(0o755)
    sshd = make_sshd(login_shell=str(login))
    with Shell(device_of(sshd.access), QUICK) as shell:
        assert shell.run("echo", "in").output == b"in\n"
        assert shell.run("sh", "-c", "exit 5", check=False).status == 5


def test_a_lost_connection_is_made_anew(sshd):
    proxy = sshd.access.through_proxy()
    limits = replace(QUICK, patience_s=1)
    with Shell(device_of(sshd.access), limits) as shell:
        proxy.refuse()
        timer = threading.Timer(0.4, proxy.pass_all)
        timer.start()
        shell.reconnect()
        timer.join(5)
        assert shell.run("echo", "back").text == "back"
        proxy.refuse()
        with failing("EK804", within_s=3):
            shell.run("true")
        with failing("EK800", within_s=limits.patience_s + 3):
            shell.reconnect()
        proxy.pass_all()
        assert shell.run("echo", "back").text == "back"


def test_another_host_key_after_a_lost_link_is_not_tried_for_long(sshd):
    with Shell(device_of(sshd.access), replace(QUICK, patience_s=20)) as shell:
        sshd.kill_sessions()
        sshd.access.trust_host("wrong")
        with failing("EK802", within_s=5):
            shell.reconnect()


def test_a_shell_that_was_closed_ends_what_is_left_and_stays_closed(sshd):
    with Shell(device_of(sshd.access), QUICK) as shell:
        running = shell.start(["sleep", "1000"])
    running.close()
    wait_until(lambda: not is_alive(running.pid), "the end of the command")
    wait_until(lambda: sshd.sessions() == [], "the end of the connections")


def test_the_home_of_the_user_may_be_unknown(make_sshd):
    sshd = make_sshd(environment={"PATH": "/usr/bin:/bin"}, login_shell="/bin/sh")
    session = sshd.home.parent / "session"
    session.write_text(session.read_text().replace("exec ", "unset HOME; exec "))
    with Shell(device_of(sshd.access), QUICK) as shell, failing("EK808", within_s=5):
        _ = shell.folder
    with Shell(device_of(sshd.access, "/some where/"), QUICK) as shell:
        assert shell.folder == "/some where"


def test_a_device_that_answers_nothing_has_done_nothing():
    with Shell(Device("nothing", "null"), Limits(patience_s=0)) as shell:
        with failing("EK804", within_s=5):
            shell.run("true")
        with failing("EK804", within_s=5):
            shell.run("cat", stdin=b"x", check=False)
