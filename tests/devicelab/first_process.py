"""Process 1 of an emulated device: sets the host name, mounts, says "up", and buries orphans until it is killed.

Runs as a script in new mount, process and host-name namespaces: its death ends every process of the device, and
with the last process every mount is gone.
"""

import json
import os
import signal
import socket
import subprocess
import sys


def main() -> None:
    """Take the plan from the command line: ``{"host_name": ..., "mounts": [[argument of mount, ...], ...]}``."""
    plan = json.loads(sys.argv[1])
    socket.sethostname(plan["host_name"])
    for arguments in plan["mounts"]:
        subprocess.run(["mount", *arguments], check=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    sys.stdout.write("up\n")
    sys.stdout.flush()
    while True:
        signal.sigwait([signal.SIGCHLD])
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            continue


if __name__ == "__main__":
    main()
