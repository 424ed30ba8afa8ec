"""Tier 3: Android's own adbd in an emulated arm64 root, and the adb client, in a network that only they see.

adbd listens on every address and adb's server on a fixed port of loopback: in a network of their own they meet
neither each other's likes nor the phones of whoever runs the tests.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from devicelab import system_files
from devicelab.debian_root import DebianRoot
from devicelab.machine import Machine, empty
from devicelab.processes import (
    UnavailableError,
    call,
    find_program,
    in_namespace,
    is_alive,
    send,
    start,
    stop,
    wait_until,
)

_PACKAGES = (
    *("adbd", "base-files", "bash", "coreutils", "dash", "findutils", "grep", "sed", "procps"),
    *("tar", "gzip", "util-linux", "libstdc++6"),
)
_ADBD = "/usr/lib/android-sdk/platform-tools/adbd"
_PROCESSOR = system_files.CORTEX_A76
_MEMORY_KIB = 7_800_000
_ADB_SERVER_PORT = 5037
_STATE = "var/lib/phone"
_PROPERTIES = {
    "ro.product.manufacturer": "Edgekit",
    "ro.product.model": "Fake Phone",
    "ro.product.device": "fake",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.cpu.abilist": "arm64-v8a",
    "ro.soc.manufacturer": "Nobody",
    "ro.soc.model": "FAKE1",
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.build.fingerprint": "edgekit/fake/fake:14/FAKE.1/1:user/release-keys",
}
_GETPROP = f"""#!/bin/sh
# Answers from a file for each property, which tests write.
cd /{_STATE}/properties || exit 1
if [ $# -eq 0 ]; then for name in *; do echo "[$name]: [$(cat "$name")]"; done
elif [ -e "$1" ]; then cat "$1"
else echo "$2"
fi
"""
_DUMPSYS = f"""#!/bin/sh
# Answers from a file for each service, which tests write.
if [ -e "/{_STATE}/services/$1" ]; then cat "/{_STATE}/services/$1"
else echo "Can't find service: $1" >&2
fi
"""


class AdbNetwork:
    """A network with nothing but loopback in it, an adb server, and an ``adb`` that reaches it.

    Attributes:
        programs: A folder to put first in PATH: its ``adb`` is the real client in this network.
    """

    def __init__(self, folder: Path) -> None:
        """Make the network and start the server.

        Args:
            folder: An empty folder for logs, keys and the ``adb`` command.

        Raises:
            UnavailableError: This machine cannot do it.
        """
        if os.geteuid() != 0:
            raise UnavailableError("emulated devices need root, for mounts and namespaces")
        self._adb = find_program("adb", "adb")
        find_program("ip", "iproute2")
        self._folder = folder
        self._server: subprocess.Popen | None = None
        self._others: list[subprocess.Popen] = []
        log = folder / "network.log"
        self._holder = start(
            ["unshare", "--net", "--", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"], log
        )
        self._namespace = 0
        self.programs = folder / "programs"
        self.programs.mkdir()
        try:
            wait_until(
                lambda: log.read_text(encoding="utf-8") == "up\n" or self._holder.poll() is not None,
                "the phones' network",
            )
            if self._holder.poll() is not None:
                said = log.read_text(encoding="utf-8").strip()
                raise UnavailableError(f"network namespaces are refused here: {said}")
            self._namespace = Path(f"/proc/{self.pid}/ns/net").stat().st_ino
            self._write_adb()
            self.start_server()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """A process in the network."""
        return self._holder.pid

    def processes(self) -> list[int]:
        """Every process in the network, devices included, as this machine numbers them."""
        return in_namespace("net", self._namespace) if self._namespace else []

    def start_server(self) -> None:
        """Start adb's server where none runs; without it, the first client would, and it would outlive tests."""
        if self._server is not None and self._server.poll() is None:
            return
        # A client may have started a server of its own in the meantime.
        self.adb("kill-server", timeout_s=30)
        self._server = start(
            [*self._enter(), self._adb, "nodaemon", "server"],
            self._folder / "adb.log",
            environment={**os.environ, **self._environment()},
        )
        wait_until(lambda: self.listens(_ADB_SERVER_PORT), "adb's server")

    def adb(self, *arguments: str | Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the adb client and return how it ended."""
        return subprocess.run(
            [str(self.programs / "adb"), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def states(self) -> dict[str, str]:
        """The devices that adb's server knows: serial number, then "device", "offline" or "unauthorized"."""
        lines = self.adb("devices").stdout.splitlines()
        return dict(line.split("\t") for line in lines if "\t" in line)

    def add_unauthorized(self, port: int) -> str:
        """Add a phone that has not allowed this computer, and return its serial number."""
        script = Path(__file__).with_name("unauthorized_adbd.py")
        command = [*self._enter(), sys.executable, "-I", script, str(port)]
        self._others.append(start(command, self._folder / "unauthorized.log"))
        wait_until(lambda: self.listens(port), "the unauthorized device")
        serial = f"127.0.0.1:{port}"
        self.adb("connect", serial)
        wait_until(lambda: self.states().get(serial) == "unauthorized", "adb's opinion of the device")
        return serial

    def disconnect_all(self) -> None:
        """Let adb's server forget every device, and end those that are no emulated phones."""
        self.adb("disconnect")
        for process in self._others:
            stop(process)
        self._others.clear()

    def listens(self, port: int) -> bool:
        """Whether somebody listens on a port in this network."""
        sockets = call(*self._enter(), "ss", "--listening", "--tcp", "--numeric", "--no-header")
        return any(line.split()[3].endswith(f":{port}") for line in sockets.splitlines())

    def close(self) -> None:
        """End every process in the network, and so the network."""
        for process in (self._server, *self._others, self._holder):
            if process is not None:
                stop(process)
        left = self.processes()
        send(left)
        wait_until(lambda: not any(map(is_alive, left)), "the end of the phones' network")

    def _write_adb(self) -> None:
        adb = self.programs / "adb"
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in self._environment().items())
        command = shlex.join([*self._enter(), self._adb])
        adb.write_text(f'#!/bin/sh\nexport {exports}\nexec {command} "$@"\n', encoding="utf-8")
        adb.chmod(0o755)

    def _environment(self) -> dict[str, str]:
        """Keys and logs go to the lab, not to the user who runs it."""
        return {"HOME": str(self._folder), "TMPDIR": str(self._folder)}

    def _enter(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--"]


class FakePhone:
    """An emulated phone, switched on and connected to adb; ``reset`` makes it as good as new.

    Attributes:
        network: Where it is, with the ``adb`` that reaches it.
        machine: The device from outside: its root folder, its processes.
        serial: What adb calls it.
    """

    def __init__(self, folder: Path, network: AdbNetwork, *, port: int = 5611) -> None:
        """Unpack, configure and start a phone.

        Args:
            folder: An empty folder.
            network: Where its adbd listens.
            port: On which port; not 5555 to 5585, where adb looks for emulators of its own accord.

        Raises:
            UnavailableError: This machine cannot run it.
        """
        self.network = network
        self.machine = Machine(folder, "localhost", network_of=network.pid)
        self.serial = f"127.0.0.1:{port}"
        self._port = port
        self._adbd = 0
        DebianRoot("trixie", _PACKAGES).unpack(self.machine.root)
        self._configure()
        try:
            self.reset()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The device as edgekit names it."""
        return f"adb://{self.serial}"

    def reset(self) -> None:
        """Make the device as good as new: nothing in /data/local/tmp, cool, charged, connected."""
        self.machine.switch_off()
        empty(self.machine.root / "data/local/tmp")
        state = self.machine.root / _STATE
        for folder in (state / "properties", state / "services"):
            empty(folder)
        for name, value in _PROPERTIES.items():
            self.set_property(name, value)
        self.set_battery()
        self.set_thermal_status(0)
        (state / "services/power").write_text("POWER MANAGER (dumpsys power)\n  mWakefulness=Awake\n")
        system_files.write_sys(self.machine.root, _PROCESSOR)
        self.switch_on()
        self.connect()

    def close(self) -> None:
        """End everything of this device and delete it."""
        self.machine.close()

    def switch_on(self) -> None:
        """Start the device and wait for its adbd; adb has yet to connect."""
        self.machine.switch_on()
        self.start_adbd()

    def switch_off(self) -> None:
        """Cut the power: every process ends at once; files stay."""
        self.machine.switch_off()

    def start_adbd(self) -> None:
        """Start adbd, where it is not running."""
        self._adbd = self.machine.serve(
            [_ADBD],
            self.machine.folder / "adbd.log",
            {
                "ADBD_PORT": str(self._port),
                "QEMU_CPU": _PROCESSOR.emulated_as,
                "QEMU_UNAME": "5.15.123-android13-8-fake",
                "HOME": "/data/local/tmp",
                "TMPDIR": "/data/local/tmp",
            },
        )
        wait_until(lambda: self.network.listens(self._port), "adbd")

    def connect(self) -> None:
        """Let adb connect anew and wait until it sees the device."""
        self.network.adb("disconnect", self.serial)
        self.network.adb("connect", self.serial)
        wait_until(lambda: self.network.states().get(self.serial) == "device", "adb's connection")

    def adb(self, *arguments: str | Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the adb client for this device."""
        return self.network.adb("-s", self.serial, *arguments, timeout_s=timeout_s)

    def output(self, command: str) -> str:
        """What a shell command prints on the device, stripped.

        Raises:
            AssertionError: The command failed.
        """
        done = self.adb("shell", command)
        assert done.returncode == 0, done
        return done.stdout.strip()

    def programs(self) -> list[int]:
        """What runs on the device besides process 1 and adbd."""
        return [pid for pid in self.machine.processes() if pid not in {self.machine.init, self._adbd}]

    def kill_adbd(self) -> None:
        """Kill adbd, as when a cable is pulled; what it started lives on."""
        self.machine.kill_and_wait(self._adbd)

    def freeze(self) -> None:
        """Stop everything on the device: adb's commands hang, and a new connection shows it as offline."""
        self.machine.freeze()

    def thaw(self) -> None:
        """Let a frozen device go on."""
        self.machine.thaw()

    def set_property(self, name: str, value: str) -> None:
        """Change what ``getprop`` says."""
        file = self.machine.root / _STATE / "properties" / name
        file.write_text(f"{value}\n", encoding="utf-8")

    def set_battery(self, *, level: int = 83, celsius: float = 29.7, powered: bool = True) -> None:
        """Change what ``dumpsys battery`` says."""
        text = (
            "Current Battery Service state:\n"
            f"  AC powered: false\n  USB powered: {str(powered).lower()}\n  Wireless powered: false\n"
            f"  status: {2 if powered else 3}\n  health: 2\n  present: true\n  level: {level}\n  scale: 100\n"
            f"  voltage: 4123\n  temperature: {round(celsius * 10)}\n  technology: Li-ion\n"
        )
        (self.machine.root / _STATE / "services/battery").write_text(text, encoding="ascii")

    def set_thermal_status(self, status: int, *, celsius: float = 35.0) -> None:
        """Change what ``dumpsys thermalservice`` says: 0 is none, 3 severe, 6 shutdown."""
        reading = f"Temperature{{mValue={celsius}, mType=3, mName=skin, mStatus={status}}}"
        text = (
            f"IsStatusOverride: false\nThermal Status: {status}\nCached temperatures:\n\t{reading}\n"
            f"HAL Ready: true\nCurrent temperatures from HAL:\n\t{reading}\n"
        )
        (self.machine.root / _STATE / "services/thermalservice").write_text(text, encoding="ascii")

    def mount_small_disk(self, path: str, *, size_mb: int = 8) -> None:
        """Mount an empty disk of so many megabytes at a path."""
        self.machine.mount("-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", at=path)

    def mount_read_only(self, path: str) -> None:
        """Make a folder read-only with what is in it."""
        self.machine.mount("--bind", str(self.machine.root / path.lstrip("/")), at=path)
        self.machine.mount("-o", "remount,bind,ro", at=path)

    def _configure(self) -> None:
        root, folder = self.machine.root, self.machine.folder
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nshell:x:2000:2000::/:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\nshell:x:2000:\n")
        for name in ("data/local/tmp", f"{_STATE}/properties", f"{_STATE}/services"):
            (root / name).mkdir(parents=True)
        system_files.write_program(root, "getprop", _GETPROP)
        system_files.write_program(root, "dumpsys", _DUMPSYS)
        (folder / "cpuinfo").write_text(_PROCESSOR.cpuinfo(), encoding="ascii")
        (folder / "meminfo").write_text(system_files.meminfo(_MEMORY_KIB, 5_000_000), encoding="ascii")
        self.machine.proc_files = {"cpuinfo": folder / "cpuinfo", "meminfo": folder / "meminfo"}
