"""How a client reaches a device over SSH: keys, ``known_hosts`` and an ``ssh_config`` made for one test."""

import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from devicelab.faultproxy import FaultProxy
from devicelab.processes import call, find_program

Trust = Literal["right", "wrong", "right and wrong", "nothing"]


@dataclass
class SshAccess:
    """The client's side of one device, in a home folder of its own.

    ``home/.ssh`` holds ``config``, ``known_hosts`` and the key, so that a program started with ``HOME=home`` finds
    the device by its alias; the system's own ssh takes ``-F config``.

    Attributes:
        folder: Where everything is written; ``host_key`` in it is the device's own key.
        alias: The Host of the ssh_config.
        user: Who logs in.
        device_port: Where the device itself listens on loopback.
        proxy: What stands between client and device, once ``through_proxy`` was called.
    """

    folder: Path
    alias: str
    user: str
    device_port: int
    proxy: FaultProxy | None = None
    trust: Trust = "right"
    extra_options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        for key in (self.identity, self.host_key, self.wrong_host_key):
            call(find_program("ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-f", key)
        self.write()

    @property
    def home(self) -> Path:
        """The client's home folder."""
        return self.folder / "client"

    @property
    def config(self) -> Path:
        return self.home / ".ssh" / "config"

    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh" / "known_hosts"

    @property
    def identity(self) -> Path:
        """The client's private key; ``.pub`` beside it."""
        return self.home / ".ssh" / "id_ed25519"

    @property
    def host_key(self) -> Path:
        """The device's private key; ``.pub`` beside it."""
        return self.folder / "host_key"

    @property
    def wrong_host_key(self) -> Path:
        return self.folder / "wrong_host_key"

    @property
    def port(self) -> int:
        """Where clients connect to: the proxy, where there is one."""
        return self.device_port if self.proxy is None else self.proxy.port

    @property
    def url(self) -> str:
        """The device by the alias of the ssh_config."""
        return f"ssh://{self.alias}"

    @property
    def url_without_config(self) -> str:
        """The device by user, address and port."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}"

    def through_proxy(self) -> FaultProxy:
        """Put a proxy before the device, to which the ssh_config leads from now on."""
        if self.proxy is None:
            self.proxy = FaultProxy(self.device_port)
            self.write()
        return self.proxy

    def trust_host(self, trust: Trust) -> None:
        """Say which of the device's keys the client knows.

        Args:
            trust: "right", "wrong" (the device's key has changed), "right and wrong" (both are listed, of the same
                type), or "nothing" (the device is unknown).
        """
        self.trust = trust
        self.write()

    def reset(self) -> None:
        """Forget the proxy, the wrong trust and the extra options."""
        self.close()
        self.trust = "right"
        self.extra_options.clear()
        self.write()

    def write(self) -> None:
        """Write ``known_hosts`` and ``config`` as the attributes say."""
        keys = {
            "right": [self.host_key],
            "wrong": [self.wrong_host_key],
            "right and wrong": [self.wrong_host_key, self.host_key],
            "nothing": [],
        }[self.trust]
        lines = []
        for key in keys:
            kind, value = key.with_suffix(".pub").read_text(encoding="ascii").split()[:2]
            lines.append(f"[127.0.0.1]:{self.port} {kind} {value}\n")
        self.known_hosts.write_text("".join(lines), encoding="ascii")
        options = {
            "HostName": "127.0.0.1",
            "Port": str(self.port),
            "User": self.user,
            "IdentityFile": f'"{self.identity}"',
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": f'"{self.known_hosts}"',
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "20",
            **self.extra_options,
        }
        body = "".join(f"  {name} {value}\n" for name, value in options.items())
        self.config.write_text(f"Host {self.alias}\n{body}", encoding="utf-8")

    def ssh_command(self, *command: str) -> list[str]:
        """The argument list that runs a command on the device with the system's ssh."""
        ssh = find_program("ssh", "openssh-client")
        return [ssh, "-F", str(self.config), self.alias, *([shlex.join(command)] if command else [])]

    def run(
        self, *command: str, text_input: str = "", timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the device with the system's ssh and return how it ended."""
        return subprocess.run(
            self.ssh_command(*command),
            input=text_input,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def output(self, *command: str, timeout_s: float = 60) -> str:
        """What a command prints on the device, stripped.

        Raises:
            AssertionError: The command failed.
        """
        done = self.run(*command, timeout_s=timeout_s)
        assert done.returncode == 0, done
        return done.stdout.strip()

    def close(self) -> None:
        """Take the proxy away."""
        if self.proxy is not None:
            self.proxy.close()
            self.proxy = None
