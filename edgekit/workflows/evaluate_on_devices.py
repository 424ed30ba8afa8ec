"""Labelled accuracy on devices: the user's samples run there, and here beside it, sample by sample."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit import placement
from edgekit.artifact import Artifact
from edgekit.devices.device import Device
from edgekit.devices.session import DeviceSession
from edgekit.devices.shell import Shell
from edgekit.errors import EdgekitError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.host_and_device import HostAgreement, PairedSession, RememberingSession
from edgekit.interleaved import Delegate
from edgekit.runtimes import Session, open_session
from edgekit.side_by_side import side_by_side
from edgekit.verbs.evaluate import Evaluation, Place, evaluate


@dataclass(frozen=True)
class DeviceEvaluation:
    """What came of one device: its evaluation and how it agrees with this machine, or why there is none.

    ``delegate`` is what accelerated the model there: xnnpack, gpu, the name of a library, or none.
    """

    device: Device
    evaluation: Evaluation | None = None
    agreement: HostAgreement | None = None
    delegate: str = "none"
    reconnections: int = 0
    error: EdgekitError | None = None

    def describe(self) -> dict[str, Any]:
        """The result as it stands in JSON documents."""
        if self.evaluation is None:
            error = None if self.error is None else self.error.describe()
            return {"device": self.device.name, "error": error}
        agreement = None if self.agreement is None else self.agreement.describe()
        return {
            **self.evaluation.describe(),
            "delegate": self.delegate,
            "agreement": agreement,
            "reconnections": self.reconnections,
        }


@dataclass(frozen=True)
class DeviceOptions:
    """How a model runs on devices. ``with_host`` compares every answer with this machine's."""

    runtime: str | None = None
    threads: int = 1
    delegate: Delegate | None = None
    with_host: bool = True
    resume: bool = True


def evaluate_on_devices(
    model: str | Path | Artifact,
    data: str | Path,
    devices: Sequence[Device],
    *,
    options: DeviceOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    **choices: Any,
) -> tuple[DeviceEvaluation, ...]:
    """Measure a model on labelled samples where it will be used; several devices side by side.

    Args:
        model: A model file, or one that was opened before.
        data: A data spec.
        devices: Where to run it.
        options: How to run it there.
        progress: Called with the numbers of samples done and of all, over all devices.
        choices: ``metric``, ``samples``, ``preprocess`` as for ``evaluate``.

    Returns:
        One result per device, in their order. With several, one that fails has its error in its place.

    Raises:
        EdgekitError: With one device, what went wrong; else only what is wrong before any device is asked.
    """
    artifact = model if isinstance(model, Artifact) else open_artifact(Path(model))
    options = options or DeviceOptions()

    def job(device: Device) -> Callable[[Callable[[int, int], None]], DeviceEvaluation]:
        return lambda report: _evaluate_on(artifact, data, device, options, progress=report, **choices)

    found = side_by_side([job(device) for device in devices], progress)
    return tuple(
        DeviceEvaluation(device, error=result) if isinstance(result, EdgekitError) else result
        for device, result in zip(devices, found, strict=True)
    )


def _evaluate_on(
    artifact: Artifact,
    data: str | Path,
    device: Device,
    options: DeviceOptions,
    *,
    progress: Callable[[int, int], None] | None,
    **choices: Any,
) -> DeviceEvaluation:
    with Shell(device) as shell, _opened(shell, artifact, options) as session:
        answers: Session = session
        remembering = None
        if options.resume:
            remembering = RememberingSession(session, _store(artifact, device, session, options))
            answers = remembering
        paired = PairedSession(answers, open_session(artifact), artifact) if options.with_host else None
        place = Place(device.name, session.runtime.name, paired or answers)
        found = evaluate(artifact, data, place=place, progress=progress, **choices)
        if remembering is not None:
            remembering.forget()
        findings = [*_findings(device, session, remembering)]
        if options.delegate is not None:
            findings += placement.findings(
                session.opened, artifact.path.name, session.runtime.name, options.delegate
            )
        return DeviceEvaluation(
            device,
            replace(found, findings=(*found.findings, *findings)),
            None if paired is None else paired.agreement,
            str(session.opened["delegate"]),
            session.reconnections,
        )


@contextlib.contextmanager
def _opened(shell: Shell, artifact: Artifact, options: DeviceOptions) -> Iterator[DeviceSession]:
    with DeviceSession(
        shell, artifact, runtime=options.runtime, threads=options.threads, delegate=options.delegate
    ) as session:
        yield session


def _store(artifact: Artifact, device: Device, session: DeviceSession, options: DeviceOptions) -> Path:
    """Where the answers of this model on this device in this runtime are kept until all are there."""
    import platformdirs

    what = (artifact.sha256, device.url, session.runtime.name, session.runtime.version, str(options))
    name = hashlib.sha256("\0".join(what).encode()).hexdigest()[:24]
    return Path(platformdirs.user_cache_dir("edgekit")) / "device-answers" / name


def _findings(
    device: Device, session: DeviceSession, remembering: RememberingSession | None
) -> Iterator[Finding]:
    if session.reconnections:
        yield Finding(
            "EK861",
            f"The link to {device.name} was lost and connected again {session.reconnections} times; "
            "no sample was lost or counted twice.",
            "",
            Level.NOTE,
        )
    if remembering is not None and remembering.remembered:
        yield Finding(
            "EK862",
            f"{remembering.remembered} samples were answered by an earlier run on {device.name} that broke off.",
            "--no-resume asks the device again.",
            Level.NOTE,
        )
