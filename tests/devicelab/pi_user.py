"""The user ``pi`` of an emulated device, and the sshd through which pi logs in with a test's key."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from devicelab.ssh_access import SshAccess

UID = 1000
SSHD = "/usr/sbin/sshd"
# What sshd and a bare login need of Debian.
PACKAGES = (
    *("bash", "dash", "coreutils", "findutils", "grep", "sed", "gawk", "procps", "hostname", "util-linux"),
    *("tar", "gzip", "libc-bin", "openssh-server", "openssh-sftp-server"),
    *("python3-minimal", "libpython3-stdlib", "libstdc++6"),
)
_PASSWD = (
    "root:x:0:0:root:/root:/bin/bash\n"
    "sshd:x:104:65534::/run/sshd:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    f"pi:x:{UID}:{UID}:,,,:/home/pi:/bin/bash\n"
)
_SHADOW = "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\npi:*:19000:0:99999:7:::\n"
_GROUP = f"root:x:0:\nvideo:x:44:pi\nnogroup:x:65534:\npi:x:{UID}:\n"


def write_system(root: Path, access: SshAccess, sshd_options: Sequence[str]) -> None:
    """Write what the packages' own scripts would have written, as far as a login needs it.

    Args:
        root: The unpacked root.
        access: Whose host key the device has.
        sshd_options: Lines of ``sshd_config`` besides those that every device has, Port first.
    """
    options = [
        *sshd_options,
        "HostKey /etc/ssh/host_key",
        "PidFile none",
        "PasswordAuthentication no",
        "UsePAM no",
        "Subsystem sftp /usr/lib/openssh/sftp-server",
    ]
    files = {
        "etc/passwd": _PASSWD,
        "etc/group": _GROUP,
        "etc/shadow": _SHADOW,
        "etc/hostname": "raspberrypi\n",
        "etc/hosts": "127.0.0.1 localhost raspberrypi\n",
        "etc/ssh/sshd_config": "".join(f"{line}\n" for line in options),
    }
    for name, text in files.items():
        (root / name).write_text(text, encoding="ascii")
    (root / "run/sshd").mkdir(exist_ok=True)
    (root / "usr/bin/awk").symlink_to("gawk")
    key = root / "etc/ssh/host_key"
    shutil.copyfile(access.host_key, key)
    key.chmod(0o600)
    (root / "home/pi").mkdir()
    write_authorized_key(root / "home/pi", access, UID)


def write_authorized_key(home: Path, access: SshAccess, uid: int) -> None:
    """Let the test's key log in to a home folder that has no ``.ssh`` yet."""
    ssh = home / ".ssh"
    ssh.mkdir(mode=0o700)
    shutil.copyfile(access.identity.with_suffix(".pub"), ssh / "authorized_keys")
    for path in (home, ssh, ssh / "authorized_keys"):
        shutil.chown(path, uid, uid)
