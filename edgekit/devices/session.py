"""A model on a device, as a session: real numbers in and out, like every runtime of this machine."""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from edgekit.artifact import Artifact
from edgekit.devices import installed_runtimes, kept_files, model_limits, python_facts, remote_files
from edgekit.devices.installed_runtimes import InstalledRuntime
from edgekit.devices.shell import Shell
from edgekit.errors import DependencyError, DeviceError, UsageError
from edgekit.interleaved import RUNTIMES, Delegate
from edgekit.raw_tensors import RawTensors
from edgekit.tensor import Array
from edgekit.versions import installed_versions
from edgekit.worker_process import WORKER, WorkerProcess

_OPEN_S = 120.0
# A request is as many samples as take about this long: little is lost with the link, and progress is seen.
_PIECE_S = 1.0
_PIECE_BYTES = 4 << 20
_SLOWEST_SAMPLE_S = 120.0


def choose_runtime(
    shell: Shell, artifact: Artifact, asked: str | None = None, delegate: Delegate | None = None
) -> InstalledRuntime:
    """What will run a model on a device: the runtime asked for, or the first that is there and opens it.

    Raises:
        UsageError: No runtime opens the format, the one asked for does not, or it has no such delegate.
        DependencyError: None is set up there.
        TargetError: It is known to get this model wrong.
        DeviceError: The link is lost.
    """
    fitting = [name for name, accepted in RUNTIMES.items() if accepted is artifact.format]
    if not fitting or (asked is not None and asked not in fitting):
        raise UsageError(
            "EK521",
            f"{asked or 'No runtime'} opens {artifact.path.name} on a device: it is a {artifact.format} model.",
            f"Use --runtime {' or '.join(fitting)}, or leave the option out."
            if fitting
            else f"Convert it first: edgekit quantize {artifact.path} -r float16 -o model.tflite",
        )
    if shell.device.scheme == "local":
        return _here(asked or fitting[0], delegate)
    there = installed_runtimes.installed(shell)
    for name in [asked] if asked else fitting:
        if name in there:
            if delegate is not None:
                delegate.require(name, is_here=False)
            if name in model_limits.RUNTIMES:
                model_limits.check(artifact, name, python_facts.architecture(shell, there[name].words[0]))
            return there[name]
    raise DependencyError(
        "EK860",
        f"{' or '.join([asked] if asked else fitting)} is not set up on {shell.device.name}.",
        f"Set it up once: edgekit device setup {shell.device.name} --runtime {asked or fitting[0]}",
    )


def place(shell: Shell, artifact: Artifact, *, progress: Callable[[int, int], None] | None = None) -> str:
    """Bring a model to a device, named by its digest; returns its path there.

    Raises:
        DeviceError: It could not be sent whole.
    """
    if shell.device.scheme == "local":
        return str(artifact.path.absolute())
    path = f"{shell.folder}/models/{artifact.sha256}{artifact.path.suffix}"
    sent = remote_files.upload(shell, artifact.path, path, digest=artifact.sha256, progress=progress)
    kept_files.used(shell, path, is_new=sent > 0)
    return path


def start_worker(shell: Shell, runtime: InstalledRuntime, artifact: Artifact, path: str) -> WorkerProcess:
    """A worker of a runtime on a device, to be spoken to; ``path`` is where the model lies there.

    Raises:
        DeviceError: The link is lost.
    """
    stream = installed_runtimes.start_worker(shell, runtime, path)
    return WorkerProcess(artifact.path.name, stream, place=f"on {shell.device.name}")


class DeviceSession:
    """A model that runs on a device, as a context.

    A link that is lost is connected again and the samples under way are sent again, within the limits of the
    shell; what was answered before stays. ``path`` is where the model lies on the device, None where it has to be
    sent. ``samples_per_second`` is that of the last piece.
    """

    def __init__(
        self,
        shell: Shell,
        artifact: Artifact,
        *,
        runtime: str | None = None,
        threads: int = 1,
        delegate: Delegate | None = None,
        path: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._shell = shell
        self._artifact = artifact
        self._raw = RawTensors(artifact)
        self.runtime = choose_runtime(shell, artifact, runtime, delegate)
        self._is_kept = path is None
        self._path = path or place(shell, artifact, progress=progress)
        self._options: dict[str, Any] = {
            "threads": threads,
            "xnnpack": True,
            "delegate": None if delegate is None else delegate.describe(),
        }
        self._piece = 1
        self.reconnections = 0
        self._worker: WorkerProcess | None = None
        self.opened = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Session.run`` of the runtimes.

        Raises:
            ModelError: The runtime fails on the device.
            DeviceError: The link stayed lost.
        """
        count = len(next(iter(inputs.values())))
        parts, first = [], 0
        while first < count:
            last = min(count, first + self._piece)
            part = {name: values[first:last] for name, values in inputs.items()}
            parts.append(self._persistently(part, last - first))
            first = last
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """End the worker on the device."""
        if self._worker is not None:
            worker, self._worker = self._worker, None
            with worker:
                worker.close()

    def _persistently(self, inputs: Mapping[str, Array], samples: int) -> dict[str, Array]:
        until = None
        while True:
            try:
                if self._worker is None:
                    self._shell.reconnect()
                    if self._is_kept:  # it may have been removed while nobody used it
                        self._path = place(self._shell, self._artifact)
                    self._open()
                return self._predict(inputs, samples)
            except DeviceError as error:
                self._end()
                until = until or time.monotonic() + self._shell.limits.patience_s
                if error.code not in {"EK804", "EK805", "EK800"} or time.monotonic() >= until:
                    raise
                self.reconnections += 1

    def _predict(self, inputs: Mapping[str, Array], samples: int) -> dict[str, Array]:
        assert self._worker is not None  # noqa: S101 - opened by the caller
        sets = self._raw.sets(inputs)
        started = time.perf_counter()
        deadline_s = _OPEN_S + samples * _SLOWEST_SAMPLE_S
        reply, content = self._worker.exchange(
            "predict", deadline_s=deadline_s, blob=sets.content, **sets.request()
        )  # fmt: skip
        self._fit_piece(samples, time.perf_counter() - started, len(sets.content) + len(content))
        try:
            return self._raw.outputs(reply["outputs"], content, sets=sets.count, samples=samples)
        except (ValueError, KeyError, TypeError) as error:
            raise DeviceError(
                "EK535",
                f"The worker on {self._shell.device.name} answered outputs that the model does not have: {error}.",
                "Its result is not used. Set the runtime up again with edgekit device setup.",
            ) from error

    def _fit_piece(self, samples: int, seconds: float, size_bytes: int) -> None:
        by_time = int(samples * _PIECE_S / max(seconds, 1e-6))
        by_size = max(1, _PIECE_BYTES * samples // max(1, size_bytes))
        # At most four times as many as now: the first runs on a device are the slowest, and tell little.
        piece = max(1, min(by_time, by_size, 4 * self._piece))
        self._piece = -(-piece // self._raw.batch) * self._raw.batch

    def _open(self) -> dict[str, Any]:
        self._worker = start_worker(self._shell, self.runtime, self._artifact, self._path)
        try:
            return self._worker.ask(
                "open",
                deadline_s=_OPEN_S,
                model=self._path,
                runtime=self.runtime.name,
                seed=0,
                **self._options,
            )
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        if self._worker is not None:
            worker, self._worker = self._worker, None
            worker.__exit__(None, None, None)


def _here(name: str, delegate: Delegate | None) -> InstalledRuntime:
    """A runtime in edgekit's own Python, which needs no set-up, or in the toolchain that has the delegate."""
    if name == "native":
        raise UsageError("EK521", "The native runner is for devices without Python.", "Leave --runtime out.")
    if delegate is not None:
        delegate.require(name, is_here=True)
        toolchain = delegate.toolchain(name)
        if toolchain is not None:
            return InstalledRuntime(name, toolchain.version, (str(toolchain.python), str(Path(WORKER))))
    version = installed_versions().get({"litert": "ai-edge-litert"}.get(name, name), "unknown")
    return InstalledRuntime(name, version, (sys.executable, str(Path(WORKER))))
