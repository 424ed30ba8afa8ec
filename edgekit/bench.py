"""The machine that models are measured on: this one, or a device. Each says what it is doing meanwhile."""

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

from edgekit.artifact import Artifact
from edgekit.devices.device import Device
from edgekit.devices.session import choose_runtime, place, start_worker
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError
from edgekit.interleaved import Delegate, Subject
from edgekit.measurement import Conditions
from edgekit.worker_process import WorkerProcess, start_here

_ANSWER_S = 30.0
# Raspberry Pi's firmware and Android's services, where they are.
_STATE = "vcgencmd get_throttled 2>/dev/null; dumpsys battery 2>/dev/null; dumpsys thermalservice 2>/dev/null; exit 0"


class Bench(Protocol):
    """A machine to measure on, as a context."""

    @property
    def name(self) -> str:
        """What results call it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def subject(self, artifact: Artifact, runtime: str | None) -> Subject:
        """A model as it will be measured there: in which runtime, from which file.

        Raises:
            EdgekitError: It cannot be brought there, or nothing there runs it.
        """

    def worker(self, subject: Subject) -> WorkerProcess:
        """A process there for one model, to be entered as a context."""

    def conditions(self, workers: Sequence[WorkerProcess], window_s: float) -> Conditions:
        """What the machine is doing, looked at for ``window_s``; the workers are no disturbance."""


class HostBench:
    """This machine; ``delegate`` is what models will be asked to run on."""

    name = "local"

    def __init__(self, delegate: Delegate | None = None) -> None:
        self._delegate = delegate

    def __enter__(self) -> Self:
        self._probe = WorkerProcess("this machine")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._probe.__exit__(kind, error, trace)

    def subject(self, artifact: Artifact, runtime: str | None) -> Subject:
        """See ``Bench.subject``: the runtime was chosen by the format."""
        if self._delegate is not None:
            self._delegate.require(runtime or "", is_here=True)
        return Subject(artifact, runtime or "")

    def worker(self, subject: Subject) -> WorkerProcess:
        """See ``Bench.worker``."""
        toolchain = None if self._delegate is None else self._delegate.toolchain(subject.runtime)
        python = None if toolchain is None else toolchain.python
        return WorkerProcess(subject.artifact.path.name, start_here(python))

    def conditions(self, workers: Sequence[WorkerProcess], window_s: float) -> Conditions:
        """See ``Bench.conditions``."""
        own = [os.getpid(), self._probe.pid, *(worker.pid for worker in workers)]
        return Conditions.from_document(_asked(self._probe, own, window_s))


class DeviceBench:
    """A device, over its link, which is made when the context is entered; ``delegate`` as for ``HostBench``."""

    def __init__(self, device: Device, delegate: Delegate | None = None) -> None:
        self.name = device.name
        self._delegate = delegate
        self._device = device
        self._probe: WorkerProcess | None = None

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            DeviceError: The device is unreachable.
        """
        self._stack = contextlib.ExitStack()
        self._shell = self._stack.enter_context(Shell(self._device))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def subject(self, artifact: Artifact, runtime: str | None) -> Subject:
        """See ``Bench.subject``: the model is sent there, unless it is there already."""
        chosen = choose_runtime(self._shell, artifact, runtime, self._delegate)
        path = place(self._shell, artifact)
        if self._probe is None:
            self._probe = self._stack.enter_context(start_worker(self._shell, chosen, artifact, path))
        return Subject(artifact, chosen.name, path)

    def worker(self, subject: Subject) -> WorkerProcess:
        """See ``Bench.worker``."""
        chosen = choose_runtime(self._shell, subject.artifact, subject.runtime, self._delegate)
        return start_worker(self._shell, chosen, subject.artifact, subject.path or "")

    def conditions(self, workers: Sequence[WorkerProcess], window_s: float) -> Conditions:
        """See ``Bench.conditions``."""
        if self._probe is None:
            raise DeviceError("EK535", f"Nothing was started on {self.name} that could look at it.")
        own = [self._probe.pid, *(worker.pid for worker in workers)]
        seen = Conditions.from_document(_asked(self._probe, own, window_s))
        return with_state(seen, self._shell.script(_STATE).text)


def with_state(conditions: Conditions, text: str) -> Conditions:
    """Conditions with what a Raspberry Pi's firmware or Android's services printed.

    >>> with_state(Conditions(0.0), "throttled=0x50005").throttle_flags == 0x50005
    True
    """
    fields = dict(re.findall(r"^\s*([\w ]+?)\s*[:=]\s*(\S+)\s*$", text, re.MULTILINE))
    changes: dict[str, Any] = {}
    if re.fullmatch(r"0x[0-9a-fA-F]+", fields.get("throttled", "")):
        changes["throttle_flags"] = int(fields["throttled"], 16)
    if fields.get("Thermal Status", "").isdigit():
        changes["thermal_status"] = int(fields["Thermal Status"])
    if fields.get("level", "").isdigit() and fields.get("scale", "").isdigit() and int(fields["scale"]):
        changes["battery_pct"] = 100 * int(fields["level"]) / int(fields["scale"])
        changes["powered"] = any(
            fields.get(f"{source} powered") == "true" for source in ("AC", "USB", "Wireless", "Dock")
        )
    # Tenths of a degree.
    if "battery_pct" in changes and fields.get("temperature", "").lstrip("-").isdigit():
        changes["battery_temperature_c"] = int(fields["temperature"]) / 10
    return replace(conditions, **changes)


def _asked(probe: WorkerProcess, own: Sequence[int], window_s: float) -> dict[str, Any]:
    return probe.ask("conditions", deadline_s=_ANSWER_S + window_s, own_pids=list(own), window_s=window_s)
