"""What can run models on a device: runtimes that were set up there, each recorded as ``runtimes/NAME.json``."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgekit.devices import kept_files, remote_files
from edgekit.devices.shell import RunningCommand, Shell
from edgekit.errors import DeviceError

_LIST = 'for f in "$1"/*.json; do [ -f "$f" ] || continue; cat "$f" || exit 1; echo; done'


@dataclass(frozen=True)
class InstalledRuntime:
    """A runtime on a device: ``words`` start a worker that speaks the protocol of ``worker.py``.

    ``name`` is litert, onnxruntime, tflite_runtime or native; ``words`` are absolute paths on the device.
    """

    name: str
    version: str
    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The runtime as it stands in JSON documents."""
        return asdict(self)


def folder_of(shell: Shell) -> str:
    """Where runtimes lie on a device."""
    return f"{shell.folder}/runtimes"


def record(shell: Shell, runtime: InstalledRuntime) -> None:
    """Make a runtime known on the device. What it consists of must lie there before.

    Raises:
        DeviceError: The file could not be written.
    """
    content = json.dumps(runtime.describe()).encode()
    remote_files.write(shell, content, f"{folder_of(shell)}/{runtime.name}.json")


def installed(shell: Shell) -> dict[str, InstalledRuntime]:
    """The runtimes that were set up on a device, by name.

    Raises:
        DeviceError: The link is lost, or a record on the device is damaged.
    """
    found = {}
    for line in filter(None, shell.script(_LIST, folder_of(shell)).text.splitlines()):
        try:
            runtime = _read(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DeviceError(
                "EK815",
                f"A record of a runtime on {shell.device.name} is damaged.",
                f"Set it up again: edgekit device setup {shell.device.name}",
                detail=line,
            ) from error
        found[runtime.name] = runtime
    return found


def start_worker(shell: Shell, runtime: InstalledRuntime, model: str = "") -> RunningCommand:
    """Start a worker of a runtime. ``model`` is the path that it will be told to open, which then counts as in use.

    Raises:
        DeviceError: The link is lost.
    """
    environment = {**runtime.environment, kept_files.IN_USE: model}
    assignments = [f"{name}={value}" for name, value in environment.items()]
    # Not by env itself: a folder with = in its name would be one more assignment.
    return shell.start(["env", *assignments, "sh", "-c", 'exec "$@"', "edgekit", *runtime.words])


def _read(document: Any) -> InstalledRuntime:
    """A record as it stands on the device, where anything may have happened to it.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: It is none.
    """
    name, version, words, environment = (document[key] for key in ("name", "version", "words", "environment"))
    texts = [name, version, *words, *environment, *environment.values()]
    if not isinstance(words, list) or not words or not all(isinstance(text, str) for text in texts):
        raise ValueError
    if not all(re.fullmatch(r"[A-Za-z_]\w*", variable) for variable in environment):
        raise ValueError
    return InstalledRuntime(name, version, tuple(words), environment)
