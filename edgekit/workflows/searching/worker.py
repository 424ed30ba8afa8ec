"""The process that runs trials: started by ``local_runner.py``, one JSON line for each, gone when its input closes."""

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import IO

from edgekit.errors import InternalError
from edgekit.workflows.searching.configuration import Configuration
from edgekit.workflows.searching.material import Material
from edgekit.workflows.searching.trial import failed, try_out


def main(folder: Path) -> None:
    """Answer requests until there are no more."""
    # Libraries print to standard output from C++: the answers have a way of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(sys.stdin, requests), daemon=True).start()
    material = Material.read(folder)
    while True:
        asked = json.loads(requests.get())
        try:
            document = try_out(
                material, Configuration.read(asked["configuration"]), Path(asked["output"])
            ).document
        except Exception as error:  # noqa: BLE001 - a defect in one trial is no reason to lose the others
            said = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
            document = failed(InternalError("EK573", f"The trial failed: {said}.", "Please report it."))
        answers.write(json.dumps(document) + "\n")
        answers.flush()


def _read(stream: IO[str], requests: "queue.Queue[str]") -> None:
    for line in stream:
        requests.put(line)
    # Whoever asked is gone, and with it the reason for what is being done.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
