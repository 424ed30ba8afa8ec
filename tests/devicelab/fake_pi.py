"""Tier 2: a Raspberry Pi as far as programs can tell, its Arm programs run by an emulator, with its own sshd."""

import uuid
from collections.abc import Mapping
from pathlib import Path

from devicelab import pi_user, system_files
from devicelab.boards import PI_4, Board
from devicelab.debian_root import DebianRoot
from devicelab.machine import Machine, empty
from devicelab.processes import LabError, find_program, free_port, listens, send, wait_until
from devicelab.ssh_access import SshAccess

_THROTTLED_FILE = "var/lib/vcgencmd/throttled"
_VCGENCMD = f"""#!/bin/sh
# Answers as the Pi's firmware does, from files that tests write.
case "$1 $2" in
    "get_throttled "*) echo "throttled=$(cat /{_THROTTLED_FILE})" ;;
    "measure_temp "*) read -r t </sys/class/thermal/thermal_zone0/temp
        echo "temp=$((t / 1000)).$((t % 1000 / 100))'C" ;;
    "measure_clock arm") read -r khz </sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq
        echo "frequency(48)=${{khz}}000" ;;
    "measure_volts "*) echo "volt=0.8500V" ;;
    *) echo 'error=1 error_msg="Command not registered"'; exit 255 ;;
esac
"""


class FakePi:
    """An emulated Pi that is switched on; ``reset`` makes it as good as new.

    Attributes:
        access: The client's side: ssh_config, keys, proxy. The alias is "fakepi", the user "pi".
        machine: The device from outside: its root folder, its processes.
    """

    def __init__(
        self, folder: Path, *, suite: str = "bookworm", alias: str = "fakepi", board: Board = PI_4
    ) -> None:
        """Unpack, configure and start a Pi.

        Args:
            folder: An empty folder.
            suite: Debian's release: "bookworm" has Python 3.11 and glibc 2.36, "bullseye" 3.9 and 2.31.
            alias: The Host of the ssh_config.
            board: Which Pi it is.

        Raises:
            UnavailableError: This machine cannot run it.
        """
        find_program("ssh", "openssh-client")
        self.board = board
        self.machine = Machine(folder, "raspberrypi")
        packages = (*pi_user.PACKAGES, *board.packages)
        DebianRoot(suite, packages, board.architecture).unpack(self.machine.root)
        self.access = SshAccess(folder / "access", alias, "pi", free_port())
        self._sshd = 0
        self._configure()
        try:
            self.reset()
        except BaseException:
            self.close()
            raise

    @property
    def _emulator(self) -> dict[str, str]:
        """What the emulator is told: which processor and which kernel it shows."""
        return {"QEMU_CPU": self.board.processor.emulated_as, "QEMU_UNAME": self.board.kernel}

    @property
    def home(self) -> Path:
        """The folder of the device's user, as this machine sees it; mounts in it are not seen."""
        return self.machine.root / "home/pi"

    @property
    def log(self) -> Path:
        """What the device's sshd wrote."""
        return self.machine.folder / "sshd.log"

    def reset(self) -> None:
        """Make the device as good as new: empty home, nothing mounted or running, cool, trusted, on the air."""
        self.access.reset()
        self.machine.switch_off()
        root = self.machine.root
        for name in ("tmp", "var/tmp", "dev/shm"):
            empty(root / name)
        empty(self.home)
        pi_user.write_authorized_key(self.home, self.access, pi_user.UID)
        self.show_python()
        system_files.write_sys(root, self.board.processor)
        self.set_throttled(0)
        self.set_available_memory(self.board.memory_kib * 9 // 10)
        self.switch_on()

    def close(self) -> None:
        """End everything that this device started and delete it."""
        self.machine.close()
        self.access.close()

    def switch_on(self) -> None:
        """Start the device and wait for its sshd."""
        (self.machine.folder / "boot_id").write_text(f"{uuid.uuid4()}\n", encoding="ascii")
        self.machine.switch_on()
        self.start_sshd()

    def switch_off(self) -> None:
        """Cut the power: every process ends at once, and its unflushed work with it; files stay."""
        self.machine.switch_off()

    def reboot(self) -> None:
        """Cut the power and start again: another boot_id, nothing mounted by tests."""
        self.switch_off()
        self.switch_on()

    def start_sshd(self) -> None:
        """Start the device's sshd, where it is not running."""
        port = self.access.device_port
        self._sshd = self.machine.serve([pi_user.SSHD, "-D", "-e"], self.log, self._emulator)
        wait_until(lambda: listens(port), "the device's sshd")

    def kill_sessions(self) -> None:
        """Kill the sshd's side of every connection; what sessions started lives on."""
        # Each has two processes, one with rights and one without, and either may outlive the other.
        send(
            [
                pid
                for pid in self.programs()
                if pi_user.SSHD.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
            ]
        )

    def freeze(self) -> None:
        """Stop everything on the device: connections are accepted by the kernel and hear nothing."""
        self.machine.freeze()

    def thaw(self) -> None:
        """Let a frozen device go on."""
        self.machine.thaw()

    def programs(self) -> list[int]:
        """What runs on the device besides process 1 and the listening sshd, sessions included."""
        return [pid for pid in self.machine.processes() if pid not in {self.machine.init, self._sshd}]

    def set_temperature(self, celsius: float) -> None:
        """Change what the SoC's sensor shows."""
        system_files.set_temperature(self.machine.root, celsius)

    def set_frequency(self, khz: int) -> None:
        """Change the clock that all cores show."""
        system_files.set_frequency(self.machine.root, khz)

    def set_governor(self, name: str) -> None:
        """Change the governor that all cores show."""
        system_files.set_governor(self.machine.root, name)

    def set_throttled(self, bits: int) -> None:
        """Change what ``vcgencmd get_throttled`` says: bits 0 to 3 are now, 16 to 19 since the start."""
        (self.machine.root / _THROTTLED_FILE).write_text(f"{bits:#x}\n", encoding="ascii")

    def set_available_memory(self, kib: int) -> None:
        """Change the memory that ``/proc/meminfo`` shows as available."""
        # In place: the running device has this very file over its own.
        text = system_files.meminfo(self.board.memory_kib, kib)
        (self.machine.folder / "meminfo").write_text(text, encoding="ascii")

    def set_environment(self, environment: Mapping[str, str]) -> None:
        """Say what later sessions find in their environment, instead of what an earlier call said."""
        text = "".join(f"{name}={value}\n" for name, value in environment.items())
        (self.home / ".ssh/environment").write_text(text, encoding="utf-8")

    def set_clock(self, offset: str) -> None:
        """Let the programs of later sessions see a wrong date, such as "-365d"; durations stay right."""
        library = f"/usr/lib/{self.board.triplet}/faketime/libfaketime.so.1"
        if not (self.machine.root / library.lstrip("/")).exists():
            raise LabError("libfaketime is not in the root")
        self.set_environment({"LD_PRELOAD": library, "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"})

    def hide_python(self) -> None:
        """Take Python away, as on an image built without it."""
        hidden = self.machine.root / "var/lib/hidden"
        hidden.mkdir(exist_ok=True)
        for program in (self.machine.root / "usr/bin").glob("python*"):
            program.rename(hidden / program.name)

    def show_python(self) -> None:
        """Put back what ``hide_python`` took away."""
        hidden = self.machine.root / "var/lib/hidden"
        for program in hidden.iterdir() if hidden.is_dir() else ():
            program.rename(self.machine.root / "usr/bin" / program.name)

    def mount_small_disk(self, path: str, *, size_mb: int = 8) -> None:
        """Mount an empty disk of so many megabytes at a path, for the device's user to fill."""
        options = f"size={size_mb}m,uid={pi_user.UID},gid={pi_user.UID},mode=755"
        self.machine.mount("-t", "tmpfs", "-o", options, "tmpfs", at=path)

    def mount_read_only(self, path: str) -> None:
        """Make a folder read-only with what is in it, as a card does whose file system has errors."""
        self.machine.mount("--bind", str(self.machine.root / path.lstrip("/")), at=path)
        self.machine.mount("-o", "remount,bind,ro", at=path)

    def unmount(self, path: str) -> None:
        """Take away what ``mount_small_disk`` or ``mount_read_only`` mounted."""
        self.machine.unmount(path)

    def _configure(self) -> None:
        """What the packages' own scripts would have done, as far as it is needed."""
        root, folder = self.machine.root, self.machine.folder
        pi_user.write_system(
            root,
            self.access,
            [
                f"Port {self.access.device_port}",
                "ListenAddress 127.0.0.1",
                "PermitRootLogin no",
                "PermitUserEnvironment yes",
                # The emulator's own choice of CPU gives wrong results in some runtimes.
                "SetEnv " + " ".join(f"{name}={value}" for name, value in self._emulator.items()),
            ],
        )
        (root / _THROTTLED_FILE).parent.mkdir()
        system_files.write_program(root, "vcgencmd", _VCGENCMD)
        base = root / "sys/firmware/devicetree/base"
        base.mkdir(parents=True)
        (base / "model").write_bytes(self.board.model.encode() + b"\0")
        (base / "compatible").write_bytes("".join(f"{name}\0" for name in self.board.compatible).encode())
        (folder / "cpuinfo").write_text(self.board.cpuinfo(), encoding="ascii")
        for link, library in self.board.libraries:
            (root / link).symlink_to(library)
        self.machine.proc_files = {
            "cpuinfo": folder / "cpuinfo",
            "meminfo": folder / "meminfo",
            "sys/kernel/random/boot_id": folder / "boot_id",
        }
