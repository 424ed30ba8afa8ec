"""Tier 1: this machine's sshd as an ordinary process on loopback, which needs no rights of its own."""

import os
import pwd
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from devicelab.processes import (
    LabError,
    UnavailableError,
    descendants,
    find_program,
    free_port,
    is_alive,
    listens,
    name_of,
    send,
    start,
    stop,
    wait_until,
    with_environment,
)
from devicelab.ssh_access import SshAccess

# In the environment of every session: its programs are known by it when they have lost their parents.
_MARK = "EDGEKIT_LAB"
_PATH = "/usr/local/bin:/usr/bin:/bin"


class Sshd:
    """A device that is this machine, with a home folder of its own.

    Attributes:
        access: The client's side: ssh_config, keys, proxy.
        home: The device's home folder, in which every session starts; empty at first. Files such as ``.bashrc``
            work where the login shell reads them.
        environment: What sessions find in their environment besides HOME and PATH.
    """

    def __init__(
        self,
        folder: Path,
        *,
        alias: str = "lab",
        environment: Mapping[str, str] | None = None,
        login_shell: str = "/bin/sh",
        has_python: bool = True,
    ) -> None:
        """Start the server.

        Args:
            folder: An empty folder for keys, configuration, logs and the device's home.
            alias: The Host of the ssh_config.
            environment: More environment for sessions; PATH in it replaces the lab's.
            login_shell: What runs the commands of sessions.
            has_python: False gives sessions a PATH on which no Python is found.

        Raises:
            UnavailableError: There is no sshd on this machine, or its user may not log in.
        """
        self._sshd = find_program("sshd", "openssh-server")
        find_program("ssh", "openssh-client")
        user = pwd.getpwuid(os.getuid())
        if Path(user.pw_shell).name in {"nologin", "false"}:
            raise UnavailableError(f"the user {user.pw_name} cannot log in: its shell is {user.pw_shell}")
        self.home = folder / "home"
        self.home.mkdir()
        self.environment = dict(environment or {})
        self._folder = folder
        self._shell = login_shell
        self._process: subprocess.Popen | None = None
        self.access = SshAccess(folder / "access", alias, user.pw_name, free_port())
        if not has_python:
            self.environment["PATH"] = str(self._path_without_python())
        self.start()

    @property
    def log(self) -> Path:
        """What the server wrote."""
        return self._folder / "sshd.log"

    @property
    def pid(self) -> int:
        """The listening server's process."""
        if self._process is None:
            raise LabError("sshd is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server on its port, with the present environment; nothing where it runs."""
        if self._process is not None:
            return
        if os.getuid() == 0:
            # Root's sshd wants the folder that the system's service would have made.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self._write_config()
        self._process = start([self._sshd, "-D", "-e", "-f", config], self.log)
        port = self.access.device_port
        wait_until(lambda: listens(port) or self._process.poll() is not None, f"sshd on port {port}")
        if self._process.poll() is not None:
            raise LabError(f"sshd ended: {self.log.read_text(encoding='utf-8')[-2000:]}")

    def stop(self) -> None:
        """End the server, every session and what sessions left running."""
        if self._process is not None:
            sessions = descendants(self.pid)
            stop(self._process)
            self._process = None
            send(sessions)
            wait_until(lambda: not any(map(is_alive, sessions)), "the end of sshd's sessions")
        send(self.programs())
        wait_until(lambda: not self.programs(), "the end of what sessions left running")

    def restart(self, **environment: str) -> None:
        """Stop and start the server, with more environment for its sessions."""
        self.stop()
        self.environment |= environment
        self.start()

    def close(self) -> None:
        """End everything that this device started."""
        self.stop()
        self.access.close()

    def sessions(self) -> list[int]:
        """The server's own processes for open connections: one or two for each."""
        if self._process is None:
            return []
        return [pid for pid in descendants(self.pid) if name_of(pid).startswith("sshd")]

    def programs(self) -> list[int]:
        """What sessions started and what still runs, also when its session has ended."""
        return with_environment(_MARK, str(self._folder))

    def kill_sessions(self) -> None:
        """Kill the server's side of every connection, as the system does when memory runs out."""
        send(self.sessions())

    def freeze(self) -> None:
        """Stop the server and its sessions: connections are accepted by the kernel and hear nothing."""
        send([self.pid, *self.sessions()], signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        send([self.pid, *self.sessions()], signal.SIGCONT)

    def _write_config(self) -> Path:
        access = self.access
        authorized = self._folder / "authorized_keys"
        shutil.copyfile(access.identity.with_suffix(".pub"), authorized)
        environment = {"PATH": _PATH, **self.environment, "HOME": str(self.home), _MARK: str(self._folder)}
        config = self._folder / "sshd_config"
        config.write_text(
            "\n".join(
                [
                    f"Port {access.device_port}",
                    "ListenAddress 127.0.0.1",
                    f'HostKey "{access.host_key}"',
                    f'AuthorizedKeysFile "{authorized}"',
                    f"PidFile {self._folder / 'sshd.pid'}",
                    # The lab lies under a folder in which everybody may write.
                    "StrictModes no",
                    "UsePAM no",
                    "PasswordAuthentication no",
                    "PermitRootLogin prohibit-password",
                    f"Subsystem sftp {self._sftp_server()}",
                    "SetEnv " + " ".join(f'"{name}={value}"' for name, value in environment.items()),
                    f'ForceCommand "{self._write_session()}"',
                ]
            )
            + "\n",
            encoding="utf-8",
        )
        # Newer servers shut out an address after failed logins, and all tests come from the same one.
        asked = [self._sshd, "-t", "-f", str(config), "-o", "PerSourcePenalties=no"]
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            with config.open("a", encoding="utf-8") as file:
                file.write("PerSourcePenalties no\n")
        return config

    def _write_session(self) -> Path:
        """What every session runs: without it, sessions would start in the real home folder of the user."""
        session = self._folder / "session"
        session.write_text(
            f"#!/bin/sh\ncd {shlex.quote(str(self.home))} || exit 1\n"
            f'[ -n "$SSH_ORIGINAL_COMMAND" ] && exec {shlex.quote(self._shell)} -c "$SSH_ORIGINAL_COMMAND"\n'
            f"exec {shlex.quote(self._shell)}\n",
            encoding="utf-8",
        )
        session.chmod(0o755)
        return session

    def _sftp_server(self) -> str:
        for path in (
            "/usr/lib/openssh/sftp-server",
            "/usr/libexec/openssh/sftp-server",
            "/usr/lib/ssh/sftp-server",
        ):
            if Path(path).is_file():
                return path
        return find_program("sftp-server", "openssh-sftp-server")

    def _path_without_python(self) -> Path:
        folder = self._folder / "programs"
        folder.mkdir()
        for source in map(Path, _PATH.split(":")):
            for program in source.iterdir() if source.is_dir() else ():
                if not program.name.startswith("python") and not (folder / program.name).exists():
                    (folder / program.name).symlink_to(program)
        return folder
