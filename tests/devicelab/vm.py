"""Tier 4: a whole emulated arm64 machine with Debian's kernel, for what needs one: power loss and reboots.

It is slow, and most faults need no kernel of the device's own, so it is built on demand: EDGEKIT_LAB_VM=1.
"""

import shutil
import subprocess
import time
from pathlib import Path

from devicelab import pi_user
from devicelab.debian_root import DebianRoot
from devicelab.processes import LabError, call, find_program, free_port, start, stop
from devicelab.ssh_access import SshAccess

_PACKAGES = (*pi_user.PACKAGES, "linux-image-cloud-arm64", "busybox-static")
# In this order: the kernel's package has the drivers of the disk and the network as modules.
_MODULES = (
    *("drivers/virtio/virtio", "drivers/virtio/virtio_ring", "drivers/virtio/virtio_pci_modern_dev"),
    *("drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci", "drivers/block/virtio_blk"),
    *("net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net"),
)
_DISK_MB = 700
_MEMORY_MB = 1024
_BOOT_LIMIT_S = 180
# From the first program of all to the disk's own.
_INITRAMFS_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in {modules}; do /bin/busybox insmod /modules/$module.ko; done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do /bin/busybox sleep 0.1; tries=$((tries + 1)); done
/bin/busybox mount -t ext4 /dev/vda /disk
for folder in dev proc sys; do /bin/busybox mount --move /$folder /disk/$folder; done
exec /bin/busybox switch_root /disk /usr/sbin/lab-init
"""
_INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
busybox mkdir -p /dev/pts /dev/shm
busybox mount -t devpts devpts /dev/pts
busybox mount -t tmpfs tmpfs /run
busybox mkdir -p /run/sshd
busybox hostname raspberrypi
busybox ip link set lo up
busybox ip link set eth0 up
busybox ip addr add 10.0.2.15/24 dev eth0
exec /usr/sbin/sshd -D -e
"""


class Vm:
    """An emulated machine that is switched on.

    Attributes:
        access: The client's side: ssh_config, keys, proxy. The alias is "vm", the user "pi".
    """

    def __init__(self, folder: Path) -> None:
        """Build the disk and start the machine.

        Args:
            folder: An empty folder.

        Raises:
            UnavailableError: This machine cannot run it.
        """
        self._qemu = find_program("qemu-system-aarch64", "qemu-system-arm")
        for program, package in [("mke2fs", "e2fsprogs"), ("cpio", "cpio"), ("ssh", "openssh-client")]:
            find_program(program, package)
        self._folder = folder
        self._process: subprocess.Popen | None = None
        self.access = SshAccess(folder / "access", "vm", "pi", free_port())
        self._build()
        try:
            self.switch_on()
        except BaseException:
            self.close()
            raise

    @property
    def console(self) -> Path:
        """What the kernel and the device's programs wrote since the machine was built."""
        return self._folder / "console.log"

    @property
    def pid(self) -> int:
        """The emulator's process."""
        if self._process is None:
            raise LabError("the virtual machine is switched off")
        return self._process.pid

    def switch_on(self) -> None:
        """Start the machine and wait for its sshd."""
        forward = f"hostfwd=tcp:127.0.0.1:{self.access.device_port}-:22"
        self._process = start(
            [
                self._qemu,
                *("-machine", "virt,gic-version=3", "-cpu", "cortex-a72", "-smp", "2", "-m", str(_MEMORY_MB)),
                *("-accel", "tcg,thread=multi", "-nodefaults", "-nographic"),
                *("-serial", f"file:{self.console}"),
                *("-kernel", self._folder / "kernel", "-initrd", self._folder / "initramfs"),
                *("-append", "console=ttyAMA0 quiet loglevel=4 random.trust_cpu=on mitigations=off panic=1"),
                *("-drive", f"if=none,id=disk,format=raw,file={self._folder / 'disk.img'}"),
                *("-device", "virtio-blk-pci,drive=disk"),
                *(
                    "-netdev",
                    f"user,id=net,restrict=on,{forward}",
                    "-device",
                    "virtio-net-pci,netdev=net,romfile=",
                ),
            ],
            self._folder / "qemu.log",
        )
        self.wait_for_login()

    def switch_off(self) -> None:
        """Cut the power: what the device's kernel has not yet written to the disk is lost."""
        if self._process is not None:
            stop(self._process)
            self._process = None

    def reboot(self) -> None:
        """Let the device restart itself, its files written, and wait until it is back."""
        boot_id = self.access.output("cat", "/proc/sys/kernel/random/boot_id")
        ssh, *rest = self.access.ssh_command("busybox", "reboot", "-f")
        # The link ends with the kernel, before sshd could say how the command ended.
        # The machine may be gone before it has closed the connection: the client finds out by asking.
        alive = ["-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=3"]
        subprocess.run([ssh, "-l", "root", *alive, *rest], capture_output=True, check=False, timeout=60)
        self.wait_for_login(other_than=boot_id)

    def reset(self) -> None:
        """Make the machine usable again after a test: switched on, home empty, trusted."""
        self.access.reset()
        if self._process is None or self._process.poll() is not None:
            self.switch_on()
        self.access.output("find", ".", "-mindepth", "1", "-not", "-path", "./.ssh*", "-delete")

    def wait_for_login(self, *, other_than: str = "") -> str:
        """Wait until a login works, and return the boot_id.

        Args:
            other_than: A boot_id that is not yet the one waited for.

        Raises:
            LabError: The machine did not start in time.
        """
        deadline = time.monotonic() + _BOOT_LIMIT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                done = self.access.run("cat", "/proc/sys/kernel/random/boot_id", timeout_s=15)
            except subprocess.TimeoutExpired:
                continue
            if done.returncode == 0 and done.stdout.strip() != other_than:
                return done.stdout.strip()
            time.sleep(0.3)
        logs = [self._folder / "qemu.log", self.console]
        said = "".join(
            log.read_text(encoding="utf-8", errors="replace")[-1500:] for log in logs if log.exists()
        )
        raise LabError(f"the virtual machine is not up: {said}")

    def close(self) -> None:
        """End the machine and delete its disk."""
        self.switch_off()
        self.access.close()
        for name in ("disk.img", "kernel", "initramfs"):
            (self._folder / name).unlink(missing_ok=True)

    def _build(self) -> None:
        root = self._folder / "root"
        DebianRoot("bookworm", _PACKAGES).unpack(root)
        pi_user.write_system(root, self.access, ["Port 22", "PermitRootLogin prohibit-password"])
        pi_user.write_authorized_key(root / "root", self.access, 0)
        self._write_program(root / "usr/sbin/lab-init", _INIT)
        shutil.copyfile(next((root / "boot").glob("vmlinuz-*")), self._folder / "kernel")
        self._build_initramfs(root)
        # Neither is needed any more, and both are large.
        shutil.rmtree(root / "boot")
        shutil.rmtree(root / "usr/lib/modules")
        disk = self._folder / "disk.img"
        mke2fs = find_program("mke2fs", "e2fsprogs")
        call(mke2fs, "-q", "-t", "ext4", "-d", root, disk, f"{_DISK_MB}M", timeout_s=120)
        shutil.rmtree(root)

    def _build_initramfs(self, root: Path) -> None:
        """The first root, in memory: busybox, the drivers, and a program that mounts the disk."""
        folder = self._folder / "first"
        for name in ("bin", "modules", "proc", "sys", "dev", "disk"):
            (folder / name).mkdir(parents=True)
        shutil.copy2(root / "usr/bin/busybox", folder / "bin/busybox")
        kernel = next((root / "usr/lib/modules").iterdir()) / "kernel"
        for module in _MODULES:
            shutil.copy2(kernel / f"{module}.ko", folder / "modules")
        names = " ".join(Path(module).name for module in _MODULES)
        self._write_program(folder / "init", _INITRAMFS_INIT.format(modules=names))
        files = "\n".join(str(path.relative_to(folder)) for path in [folder, *sorted(folder.rglob("*"))])
        with (self._folder / "initramfs").open("wb") as archive:
            subprocess.run(
                [find_program("cpio", "cpio"), "--create", "--format=newc", "--quiet"],
                cwd=folder,
                input=files.encode(),
                stdout=archive,
                check=True,
            )
        shutil.rmtree(folder)

    def _write_program(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="ascii")
        path.chmod(0o755)
