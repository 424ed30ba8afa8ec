"""What edgekit's way to a device costs: uploads against scp, and commands against ssh and against bare asyncssh.

Everything goes over loopback to the sshd of tests/devicelab, so what is measured is work and round trips, not a
network: ``python benchmarks/device_link.py [PAIRS]``. scp alone neither syncs nor checks what it wrote, so uploads
stand against scp and against what it takes to make as sure by hand.
"""

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncssh

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from _commands import Paired
from devicelab.ssh_access import SshAccess
from devicelab.sshd import Sshd

from edgekit.devices import remote_files
from edgekit.devices.device import Device
from edgekit.devices.shell import Shell

_SIZES_MB = 20, 200


def main(pairs: int) -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Sshd(Path(folder))) as sshd:
        device = Device("lab", sshd.access.url, None, str(sshd.access.config))
        _add_control_master(sshd.access)
        ssh = ["ssh", "-F", str(sshd.access.config)]
        rows = {}
        with Shell(device) as shell, _bare_run(sshd.access) as bare_run, _master(ssh):
            for size_mb in _SIZES_MB:
                source, theirs, ours = (Path(folder, name) for name in ("source", "theirs", "ours"))
                source.write_bytes(os.urandom(size_mb * 1_000_000))
                copy = ["scp", "-q", *ssh[1:], str(source), f"master:{theirs}"]
                check = [*ssh, "master", f"sha256sum {theirs} > {theirs}.sum; sync {theirs}"]
                for words, commands in (("scp", [copy]), ("scp, then sha256sum and sync", [copy, check])):
                    rows[f"upload of {size_mb} MB, connected, against {words} with ControlMaster"] = _paired(
                        lambda source=source, ours=ours: remote_files.upload(shell, source, str(ours)),
                        lambda commands=commands: _call(*commands), pairs,
                        reset=lambda ours=ours, theirs=theirs: _remove(ours, theirs),
                    )  # fmt: skip
            rows["a command, against ssh with ControlMaster"] = _paired(
                lambda: shell.run("true"), lambda: _call([*ssh, "master", "true"]), 5 * pairs
            )
            rows["a command, against asyncssh's own run"] = _paired(
                lambda: shell.run("true"), bare_run, 5 * pairs
            )
    print("| what | edgekit, ms | bare, ms | median ratio |\n|---|---|---|---|")
    for what, row in rows.items():
        ours, bare = (1e3 * statistics.median(times) for times in (row.ours_s, row.bare_s))
        print(f"| {what} | {ours:.1f} | {bare:.1f} | {row.ratio:.2f} |")


def _paired(
    ours: Callable[[], object],
    bare: Callable[[], object],
    pairs: int,
    *,
    reset: Callable[[], object] = lambda: None,
) -> Paired:
    """Both in turn, in alternating order, after one run of each."""
    result = Paired([], [])
    for index in range(-1, pairs):
        order = [(ours, result.ours_s), (bare, result.bare_s)]
        for act, times in order if index % 2 else reversed(order):
            reset()
            started = time.perf_counter()
            act()
            if index >= 0:
                times.append(time.perf_counter() - started)
    return result


def _call(*commands: list[str]) -> None:
    for command in commands:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _remove(*paths: Path) -> None:
    """What was written before: a new file each time, and no old one left to be written to the disk."""
    for path in paths:
        path.unlink(missing_ok=True)
    os.sync()


def _add_control_master(access: SshAccess) -> None:
    """The same host under another name, whose connection ssh and scp share."""
    text = access.config.read_text(encoding="utf-8")
    shared = f"  ControlMaster auto\n  ControlPath {access.folder}/master\n  ControlPersist no\n"
    access.config.write_text(
        text + text.replace(f"Host {access.alias}", "Host master") + shared, encoding="utf-8"
    )


@contextlib.contextmanager
def _master(ssh: list[str]) -> Iterator[None]:
    with subprocess.Popen([*ssh, "-N", "master"], stdin=subprocess.DEVNULL) as master:
        while subprocess.run([*ssh, "-O", "check", "master"], capture_output=True, check=False).returncode:
            time.sleep(0.05)
        try:
            yield
        finally:
            master.terminate()


@contextlib.contextmanager
def _bare_run(access: SshAccess) -> Iterator[Callable[[], object]]:
    """A bare asyncssh, its loop in a thread too, as whoever waits in plain calls would have it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def connect() -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(access.alias, config=[str(access.config)])

    connection = asyncio.run_coroutine_threadsafe(connect(), loop).result()
    try:
        yield lambda: asyncio.run_coroutine_threadsafe(connection.run("true", check=True), loop).result()
    finally:
        loop.call_soon_threadsafe(connection.abort)
        asyncio.run_coroutine_threadsafe(connection.wait_closed(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
