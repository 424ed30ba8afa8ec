"""Trials on a Ray cluster that is there already; every node needs edgekit, of the same version."""

import contextlib
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgekit import files
from edgekit.artifact import lineage_path
from edgekit.errors import DependencyError, DeviceError, ModelError
from edgekit.framework_process import is_installed
from edgekit.workflows.searching.configuration import Configuration
from edgekit.workflows.searching.material import Material
from edgekit.workflows.searching.trial import failed, try_out

_CONNECT_S = 5.0
_INSTALL = 'pip install "edgekit[ray]"'

Job = tuple[Configuration, Path]
Answer = tuple[dict[str, Any], bytes | None, bytes | None]


class RayRunner:
    """Each trial is a task of one CPU; the model and the samples travel once to each node.

    ``most`` bounds how many tasks are under way, None for as many as the cluster takes.
    """

    def __init__(self, address: str, material: Material, *, most: int | None, with_original: bool) -> None:
        if not is_installed("ray"):
            raise DependencyError("EK576", "--ray needs Ray, which is not installed.", _INSTALL)
        import ray

        self._ray: Any = ray
        _knock(address)
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False, namespace="edgekit")
        except Exception as error:
            # Ray raises ConnectionError, ValueError and RuntimeError alike where there is no cluster.
            raise _absent(address, error) from error
        self._most = most
        self._material = ray.put(material.packed(with_original=with_original))
        # A task that was killed may be killed again for the same reason: it is a result, and not done over.
        self._task: Any = ray.remote(num_cpus=1, max_retries=0)(on_node)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()

    def run(self, jobs: Sequence[Job], until: float) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each job's number and document, as they are done; none is handed out after ``until``."""
        waiting = list(enumerate(jobs))[::-1]
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                if time.monotonic() >= until:
                    waiting.clear()
                while waiting and (self._most is None or len(running) < self._most):
                    number, (configuration, _) = waiting.pop()
                    running[self._task.remote(self._material, configuration.describe())] = number
                if not running:
                    break
                ready, _ = self._ray.wait(list(running), num_returns=1)
                number = running.pop(ready[0])
                yield number, self._received(ready[0], *jobs[number])
        finally:
            for reference in running:
                with contextlib.suppress(Exception):
                    self._ray.cancel(reference, force=True)

    def _received(self, reference: Any, configuration: Configuration, output: Path) -> dict[str, Any]:
        try:
            answer: Answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            said = type(error).__name__
            hint = "A node may have run out of memory: use fewer --workers." if "Memory" in said else ""
            text = f"The worker died while it tried {configuration.name} ({said})."
            return failed(ModelError("EK574", text, hint, detail=str(error)))
        document, model, lineage = answer
        if model is not None and lineage is not None:
            files.write_bytes(output, model)
            files.write_bytes(lineage_path(output), lineage)
        return document


def _knock(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto" or another word that Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _absent(address, error) from error


def _absent(address: str, error: Exception) -> DeviceError:
    said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return DeviceError(
        "EK577",
        f"There is no Ray cluster at {address}: {said}.",
        "Start one: ray start --head",
        detail=str(error),
    )


def on_node(contents: Mapping[str, bytes], configuration: Mapping[str, Any]) -> Answer:
    """One trial on a node: its document, the model file and its lineage."""
    # Unpacked for each trial: nodes kill their workers at the end, and what those keep would stay on the disk.
    with tempfile.TemporaryDirectory(prefix="edgekit-search-") as name:
        material = Material.unpacked(contents, Path(name))
        output = material.folder / f"out{material.model.suffix}"
        found = try_out(material, Configuration.read(configuration), output)
        if found.model is None:
            return found.document, None, None
        return found.document, output.read_bytes(), lineage_path(output).read_bytes()
