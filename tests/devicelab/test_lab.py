"""The lab itself: devices are what they claim to be, faults do what they say, and nothing is left behind."""

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from devicelab.fake_phone import AdbNetwork, FakePhone
from devicelab.faultproxy import FaultProxy
from devicelab.processes import LabError, UnavailableError, find_program, is_alive, listens, wait_until
from devicelab.vm import Vm


@pytest.fixture
def echo_port():
    """A server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                while data := client.recv(65536):
                    client.sendall(data)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=[listener.accept()[0]], daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.fixture
def proxy(echo_port):
    with FaultProxy(echo_port) as proxy:
        yield proxy


def _client(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def _echo(client: socket.socket, data: bytes) -> bytes:
    with contextlib.suppress(OSError):  # What is then read says more.
        client.sendall(data)
    return _receive(client, len(data))


def _receive(client: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        data = client.recv(65536)
        if not data:
            break
        received += data
    return received


def test_the_proxy_passes_everything_and_ends_as_the_other_side_does(proxy):
    data = hashlib.sha256(b"x").digest() * 10_000
    with _client(proxy) as client:
        threading.Thread(target=client.sendall, args=[data], daemon=True).start()
        assert _receive(client, len(data)) == data
        client.shutdown(socket.SHUT_WR)
        assert client.recv(10) == b""
    assert proxy.bytes_up == proxy.bytes_down == len(data)
    wait_until(lambda: proxy.connections() == 0, "the end of the connection")


def test_a_stalled_link_delivers_late_and_loses_nothing(proxy):
    with _client(proxy) as client:
        assert _echo(client, b"before") == b"before"
        proxy.stall()
        client.sendall(b"during")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(10)
        with _client(proxy) as other:
            other.sendall(b"new")
            other.settimeout(0.3)
            with pytest.raises(TimeoutError):
                other.recv(10)
            proxy.pass_all()
            other.settimeout(10)
            assert other.recv(10) == b"new"
        client.settimeout(10)
        assert client.recv(10) == b"during"


def test_a_reset_link_stays_so_until_it_passes_again(proxy):
    with _client(proxy) as client:
        assert _echo(client, b"before") == b"before"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    with pytest.raises(ConnectionResetError), _client(proxy) as client:
        client.recv(10)
    proxy.reset_once()
    with _client(proxy) as client:
        assert _echo(client, b"after") == b"after"


@pytest.mark.parametrize("upwards", [True, False])
def test_a_link_is_cut_after_exactly_so_many_bytes(proxy, upwards):
    with _client(proxy) as client:
        assert _echo(client, b"before") == b"before"
        proxy.cut_after(100_000, upwards=upwards)
        with pytest.raises(ConnectionResetError):
            _echo(client, b"x" * 300_000)
    passed = proxy.bytes_up if upwards else proxy.bytes_down
    assert passed == 100_000 + len(b"before")
    with _client(proxy) as client:
        assert _echo(client, b"after") == b"after"


def test_a_slow_link_takes_its_time(proxy):
    proxy.limit_rate(100_000)
    with _client(proxy) as client:
        started = time.monotonic()
        assert _echo(client, b"x" * 50_000) == b"x" * 50_000
        # 0.5 s up, and the last chunk down again.
        assert time.monotonic() - started > 0.5


def test_a_refusing_proxy_keeps_its_port(proxy):
    with _client(proxy) as client:
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    with pytest.raises(ConnectionRefusedError):
        _client(proxy)
    proxy.pass_all()
    with _client(proxy) as client:
        assert _echo(client, b"after") == b"after"


def test_a_proxy_before_a_dead_server_resets():
    with FaultProxy(1) as proxy, pytest.raises(ConnectionResetError), _client(proxy) as client:
        client.recv(10)


def test_a_closed_proxy_leaves_no_thread_and_no_port(echo_port):
    threads = threading.active_count()
    proxy = FaultProxy(echo_port)
    with _client(proxy) as client:
        assert _echo(client, b"x") == b"x"
        proxy.close()
        assert threading.active_count() <= threads + 1  # The echo server's own.
        assert not listens(proxy.port)
    proxy.close()


def test_a_missing_program_says_how_to_get_it():
    with pytest.raises(UnavailableError, match="apt-get install openssh-nothing"):
        find_program("no-such-program", "openssh-nothing")


def test_ssh_logs_in_and_starts_in_the_devices_home(sshd):
    assert sshd.access.output("pwd") == str(sshd.home)
    assert sshd.access.output("sh", "-c", "echo $HOME") == str(sshd.home)
    assert sshd.access.run("sh", "-c", "cat; exit 7", text_input="hello").stdout == "hello"
    assert sshd.access.run("sh", "-c", "exit 7").returncode == 7


def test_files_come_over_sftp_into_the_devices_home(sshd, tmp_path):
    (tmp_path / "a file").write_bytes(b"x" * 100_000)
    sftp = find_program("sftp", "openssh-client")
    done = subprocess.run(
        [sftp, "-F", sshd.access.config, "-b", "-", sshd.access.alias],
        input=f'put "{tmp_path / "a file"}" "a copy"\n',
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (sshd.home / "a copy").read_bytes() == b"x" * 100_000


def test_sessions_see_the_environment_that_a_test_wants(make_sshd):
    sshd = make_sshd(environment={"WORD": "two words"}, login_shell="/bin/bash")
    (sshd.home / ".bashrc").write_text("echo noise\n")
    assert sshd.access.output("printenv", "WORD").splitlines()[-1] == "two words"
    sshd.restart(WORD="other")
    assert sshd.access.output("printenv", "WORD").splitlines()[-1] == "other"


def test_a_device_without_python_has_everything_else(make_sshd):
    sshd = make_sshd(has_python=False)
    assert sshd.access.run("python3", "-c", "print(1)").returncode == 127
    assert sshd.access.run("sh", "-c", "command -v python3 python").returncode != 0
    assert sshd.access.output("sha256sum", "/dev/null").startswith("e3b0c442")


@pytest.mark.parametrize(
    ("trust", "message"),
    [("wrong", "HOST IDENTIFICATION HAS CHANGED"), ("nothing", "Host key verification failed")],
)
def test_a_device_with_another_key_is_refused(sshd, trust, message):
    sshd.access.trust_host(trust)
    done = sshd.access.run("true")
    assert done.returncode == 255
    assert message in done.stderr
    sshd.access.trust_host("right and wrong")
    assert sshd.access.run("true").returncode == 0


def test_a_killed_session_ends_the_client_and_leaves_the_server(sshd):
    client = subprocess.Popen(
        sshd.access.ssh_command("sh", "-c", "echo up; sleep 100"), stdout=subprocess.PIPE, text=True
    )
    with client:
        assert client.stdout.readline() == "up\n"
        sshd.kill_sessions()
        assert client.wait(10) == 255
    assert sshd.programs() != []
    assert sshd.access.run("true").returncode == 0


def test_a_frozen_server_is_connected_to_and_silent(sshd):
    sshd.freeze()
    with socket.create_connection(("127.0.0.1", sshd.access.port), timeout=10) as client:
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(10)
        sshd.thaw()
        client.settimeout(10)
        assert client.recv(10).startswith(b"SSH-2.0")


def test_a_session_through_the_proxy_ends_with_the_link(sshd):
    proxy = sshd.access.through_proxy()
    assert sshd.access.output("echo", "through") == "through"
    assert proxy.bytes_down > 0
    proxy.cut_after(200_000)
    done = sshd.access.run("wc", "-c", text_input="x" * 1_000_000)
    assert done.returncode == 255
    assert sshd.access.output("echo", "again") == "again"
    proxy.refuse()
    assert "refused" in sshd.access.run("true").stderr


def test_nothing_of_a_server_is_left(make_sshd):
    sshd = make_sshd()
    with subprocess.Popen(
        sshd.access.ssh_command("sh", "-c", "trap '' HUP; echo up; sleep 100"),
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout.readline() == "up\n"
        pids = [sshd.pid, *sshd.sessions(), *sshd.programs()]
        assert len(pids) >= 3
        port = sshd.access.through_proxy().port
        sshd.close()
        assert [pid for pid in pids if is_alive(pid)] == []
        assert not listens(port)
        assert not listens(sshd.access.device_port)
        client.send_signal(signal.SIGKILL)
    sshd.close()


def test_a_server_that_cannot_start_says_why(sshd):
    sshd.stop()
    sshd.environment = {"A": 'a"\nNoSuchOption 1'}
    with pytest.raises(LabError, match="NoSuchOption"):
        sshd.start()


def _mounts_below(folder: Path) -> list[str]:
    """What this machine sees mounted there."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]


@pytest.mark.devicelab
def test_a_pi_is_a_pi_as_far_as_programs_can_tell(fake_pi):
    output = fake_pi.access.output
    assert output("uname", "-m") == "aarch64"
    assert output("whoami") == "pi"
    assert output("hostname") == "raspberrypi"
    assert output("pwd") == "/home/pi"
    assert "Raspberry Pi 4 Model B" in output("cat", "/sys/firmware/devicetree/base/model")
    assert output("grep", "-c", "0xd08", "/proc/cpuinfo") == "4"
    assert output("python3", "-c", "import platform; print(*platform.libc_ver())") == "glibc 2.36"
    assert 3_000 < int(output("sh", "-c", "free -m | awk '/^Mem/ {print $2}'")) < 4_000
    assert int(output("sh", "-c", "df -Pk . | awk 'NR==2 {print $4}'")) > 0
    # The device has processes of its own only.
    assert int(output("sh", "-c", "ls -d /proc/[0-9]* | wc -l")) < 12


@pytest.mark.devicelab
def test_a_pi_shows_what_tests_set(fake_pi):
    output = fake_pi.access.output
    assert output("vcgencmd", "get_throttled") == "throttled=0x0"
    assert output("vcgencmd", "measure_temp") == "temp=48.3'C"
    fake_pi.set_throttled(0x50005)
    fake_pi.set_temperature(85.1)
    fake_pi.set_frequency(600_000)
    fake_pi.set_governor("powersave")
    fake_pi.set_available_memory(20_000)
    assert output("vcgencmd", "get_throttled") == "throttled=0x50005"
    assert output("vcgencmd", "measure_temp") == "temp=85.1'C"
    assert output("vcgencmd", "measure_clock", "arm") == "frequency(48)=600000000"
    assert output("cat", "/sys/class/thermal/thermal_zone0/temp") == "85100"
    assert output("cat", "/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor") == "powersave"
    assert output("awk", "/MemAvailable/ {print $2}", "/proc/meminfo") == "20000"
    fake_pi.reset()
    assert output("vcgencmd", "get_throttled") == "throttled=0x0"


@pytest.mark.devicelab
def test_a_pi_without_python(fake_pi):
    fake_pi.hide_python()
    assert fake_pi.access.run("python3", "-V").returncode == 127
    fake_pi.show_python()
    assert fake_pi.access.output("python3", "-V").startswith("Python 3.11")


@pytest.mark.devicelab
def test_an_old_pi_has_old_python_and_libc(old_pi):
    assert old_pi.access.output("python3", "-V").startswith("Python 3.9")
    assert old_pi.access.output("getconf", "GNU_LIBC_VERSION") == "glibc 2.31"
    assert old_pi.access.output("uname", "-m") == "aarch64"


@pytest.mark.devicelab
def test_a_pi_whose_disk_is_full_or_read_only(fake_pi):
    fake_pi.mount_small_disk("/home/pi/a small disk", size_mb=8)
    done = fake_pi.access.run("sh", "-c", "head -c 9000000 /dev/zero > 'a small disk/x'")
    assert "No space left on device" in done.stderr
    fake_pi.access.output("sh", "-c", "echo kept > kept")
    fake_pi.mount_read_only("/home/pi")
    assert "Read-only file system" in fake_pi.access.run("touch", "new").stderr
    assert fake_pi.access.output("cat", "kept") == "kept"
    fake_pi.unmount("/home/pi")
    assert fake_pi.access.run("touch", "new").returncode == 0
    assert _mounts_below(fake_pi.machine.root) == []


@pytest.mark.devicelab
def test_a_pi_with_a_wrong_clock(fake_pi):
    now, ticks = map(int, fake_pi.access.output("sh", "-c", "date +%s; cut -d. -f1 /proc/uptime").split())
    fake_pi.set_clock("-365d")
    wrong, later = map(int, fake_pi.access.output("sh", "-c", "date +%s; cut -d. -f1 /proc/uptime").split())
    assert abs((now - wrong) - 365 * 86400) < 60
    assert 0 <= later - ticks < 60


@pytest.mark.devicelab
def test_a_pi_that_reboots_keeps_its_files_and_nothing_else(fake_pi):
    boot_id = fake_pi.access.output("cat", "/proc/sys/kernel/random/boot_id")
    fake_pi.mount_small_disk("/home/pi/small")
    with subprocess.Popen(
        fake_pi.access.ssh_command("sh", "-c", "echo kept > kept; sync; echo up; sleep 100"),
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout.readline() == "up\n"
        assert len(fake_pi.programs()) >= 2
        before = fake_pi.machine.processes()
        fake_pi.reboot()
        assert client.wait(10) == 255
    assert [pid for pid in before if is_alive(pid)] == []
    assert fake_pi.access.output("cat", "/proc/sys/kernel/random/boot_id") != boot_id
    assert fake_pi.access.output("cat", "kept") == "kept"
    assert fake_pi.access.run("grep", "small", "/proc/mounts").returncode == 1


@pytest.mark.devicelab
def test_a_frozen_pi_is_silent_and_a_killed_session_ends_the_client(fake_pi):
    fake_pi.freeze()
    with socket.create_connection(("127.0.0.1", fake_pi.access.port), timeout=10) as client:
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(10)
        fake_pi.thaw()
        client.settimeout(20)
        assert client.recv(10).startswith(b"SSH-2.0")
    with subprocess.Popen(
        fake_pi.access.ssh_command("sh", "-c", "echo up; sleep 100"), stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout.readline() == "up\n"
        fake_pi.kill_sessions()
        assert client.wait(10) == 255
    assert fake_pi.access.run("true").returncode == 0


@pytest.mark.devicelab
def test_nothing_of_a_pi_is_left(make_fake_pi):
    pi = make_fake_pi()
    pi.mount_small_disk("/home/pi/small")
    pids = pi.machine.processes()
    assert len(pids) >= 2
    assert _mounts_below(pi.machine.root) == []
    pi.close()
    assert [pid for pid in pids if is_alive(pid)] == []
    assert not pi.machine.root.exists()
    assert not listens(pi.access.device_port)


@pytest.mark.devicelab
def test_a_pi_ends_with_tests_that_are_killed(tmp_path, session_pi):
    program = (
        "import sys, time; from pathlib import Path; from devicelab.fake_pi import FakePi\n"
        f"pi = FakePi(Path({str(tmp_path)!r}))\n"
        "print(*pi.machine.processes(), flush=True); time.sleep(100)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        pids = list(map(int, tests.stdout.readline().split()))
        assert len(pids) >= 2
        tests.kill()
    wait_until(lambda: not any(map(is_alive, pids)), "the end of the killed tests' device")
    shutil.rmtree(tmp_path / "root")


def _adb(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """The plain ``adb`` of PATH, as edgekit starts it."""
    return subprocess.run(
        ["adb", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.devicelab
def test_a_phone_is_a_phone_to_plain_adb(fake_phone, tmp_path):
    assert _adb("devices").stdout.splitlines()[1:] == [f"{fake_phone.serial}\tdevice", ""]
    assert _adb("shell", "uname -m").stdout.strip() == "aarch64"
    assert _adb("shell", "exit 7").returncode == 7
    assert _adb("shell", "command -v python3").returncode != 0
    assert _adb("shell", "getprop ro.product.cpu.abi").stdout.strip() == "arm64-v8a"
    (tmp_path / "a file").write_bytes(b"x" * 1_000_000)
    assert _adb("push", str(tmp_path / "a file"), "/data/local/tmp/a copy").returncode == 0
    assert _adb("pull", "/data/local/tmp/a copy", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == b"x" * 1_000_000


@pytest.mark.devicelab
def test_a_phone_shows_what_tests_set(fake_phone):
    fake_phone.set_battery(level=9, celsius=44.5, powered=False)
    fake_phone.set_thermal_status(3, celsius=47.5)
    fake_phone.set_property("ro.product.model", "Other Phone")
    battery = fake_phone.output("dumpsys battery")
    assert "  level: 9\n" in battery
    assert "  temperature: 445\n" in battery
    assert "  USB powered: false\n" in battery
    assert "Thermal Status: 3\n" in fake_phone.output("dumpsys thermalservice")
    assert fake_phone.output("getprop ro.product.model") == "Other Phone"
    assert "[ro.product.model]: [Other Phone]" in fake_phone.output("getprop")
    assert fake_phone.output("getprop no.such.property fallback") == "fallback"
    fake_phone.reset()
    assert fake_phone.output("getprop ro.product.model") == "Fake Phone"


@pytest.mark.devicelab
def test_two_phones_are_told_apart_by_serial_number(fake_phone, second_phone):
    second_phone.set_property("ro.product.model", "Second Phone")
    assert "more than one device" in _adb("shell", "true").stderr
    assert fake_phone.output("getprop ro.product.model") == "Fake Phone"
    assert second_phone.output("getprop ro.product.model") == "Second Phone"


@pytest.mark.devicelab
def test_a_phone_that_does_not_allow_this_computer(fake_phone):
    serial = fake_phone.network.add_unauthorized(5621)
    assert fake_phone.network.states() == {fake_phone.serial: "device", serial: "unauthorized"}
    assert "unauthorized" in _adb("-s", serial, "shell", "true").stderr
    fake_phone.network.disconnect_all()
    assert fake_phone.network.states() == {}


@pytest.mark.devicelab
def test_a_phone_that_goes_offline_and_comes_back(fake_phone):
    fake_phone.kill_adbd()
    wait_until(lambda: fake_phone.network.states() == {fake_phone.serial: "offline"}, "adb's notice")
    assert "offline" in _adb("shell", "true").stderr
    fake_phone.start_adbd()
    fake_phone.connect()
    assert fake_phone.output("echo back") == "back"
    fake_phone.freeze()
    with pytest.raises(subprocess.TimeoutExpired):
        _adb("shell", "true", timeout_s=2)
    fake_phone.thaw()
    assert fake_phone.output("echo back") == "back"


@pytest.mark.devicelab
def test_a_killed_client_leaves_its_program_on_the_phone(fake_phone):
    with subprocess.Popen(
        ["adb", "shell", "echo up; sleep 100"], stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout.readline() == "up\n"
        wait_until(lambda: len(fake_phone.programs()) == 2, "the start of sleep")
        client.kill()
    # The shell ends with its input, and what it started does not.
    wait_until(lambda: len(fake_phone.programs()) == 1, "the end of the shell")
    fake_phone.switch_off()
    assert fake_phone.programs() == []


@pytest.mark.devicelab
def test_a_phone_whose_disk_is_full_or_read_only(fake_phone, tmp_path):
    fake_phone.mount_small_disk("/data/local/tmp/small")
    (tmp_path / "big").write_bytes(b"x" * 9_000_000)
    done = _adb("push", str(tmp_path / "big"), "/data/local/tmp/small/big")
    assert "No space left on device" in done.stdout + done.stderr
    fake_phone.mount_read_only("/data/local/tmp")
    assert "Read-only file system" in fake_phone.adb("shell", "touch /data/local/tmp/x").stderr
    assert _mounts_below(fake_phone.machine.root) == []


@pytest.mark.devicelab
def test_nothing_of_phones_and_adb_is_left(tmp_path, fake_phone, monkeypatch):
    monkeypatch.undo()  # The real adb is in PATH again, for a network of its own.
    (tmp_path / "adb").mkdir()
    (tmp_path / "phone").mkdir()
    with (
        contextlib.closing(AdbNetwork(tmp_path / "adb")) as network,
        contextlib.closing(FakePhone(tmp_path / "phone", network)) as phone,
    ):
        # The same port and the same serial number in two networks.
        assert phone.serial == fake_phone.serial
        phone.set_property("ro.product.model", "Other Phone")
        assert phone.output("getprop ro.product.model") == "Other Phone"
        assert fake_phone.output("getprop ro.product.model") == "Fake Phone"
        # A server that a client started, which is nobody's child.
        network.adb("kill-server")
        network.adb("connect", phone.serial)
        pids = network.processes()
        assert set(phone.machine.processes()) < set(pids)
    assert [pid for pid in pids if is_alive(pid)] == []
    assert network.processes() == []
    assert not phone.machine.root.exists()
    assert _mounts_below(tmp_path) == []


@pytest.mark.devicelab
@pytest.mark.vm
def test_a_virtual_machine_loses_power_and_reboots(vm):
    output = vm.access.output
    assert output("uname", "-m") == "aarch64"
    assert output("sh", "-c", "wc -w < /proc/modules") != "0"
    before = output("cat", "/proc/sys/kernel/random/boot_id")
    output("sh", "-c", "echo kept > kept; sync; echo lost > not-yet-written")
    vm.switch_off()
    assert not listens(vm.access.device_port)
    vm.switch_on()
    # What was flushed is there; what was only in the kernel's memory is not, or is empty.
    assert output("cat", "kept") == "kept"
    assert vm.access.run("cat", "not-yet-written").stdout == ""
    after = output("cat", "/proc/sys/kernel/random/boot_id")
    assert after != before
    output("sh", "-c", "echo written > flushed-by-the-reboot")
    vm.reboot()
    assert output("cat", "/proc/sys/kernel/random/boot_id") not in {before, after}
    assert output("cat", "flushed-by-the-reboot") == "written"


@pytest.mark.devicelab
@pytest.mark.vm
def test_nothing_of_a_virtual_machine_is_left(vm, tmp_path):
    machine = Vm(tmp_path)
    pid = machine.pid
    assert is_alive(pid)
    machine.close()
    assert not is_alive(pid)
    assert not (tmp_path / "disk.img").exists()
    assert not (tmp_path / "root").exists()
