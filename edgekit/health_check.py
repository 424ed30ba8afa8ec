"""The health check of a deployment: does the device compute what this computer computes from the same file?"""

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgekit.artifact import Artifact, Format, TensorSpec
from edgekit.contract import under_contract
from edgekit.data import open_dataset
from edgekit.devices.installed_runtimes import InstalledRuntime
from edgekit.devices.session import DeviceSession
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError, ModelError, UsageError
from edgekit.findings import Finding, Level
from edgekit.runtimes import open_session
from edgekit.tensor import Array, difference

_SAMPLES = 8
# Kernels of different processors round differently: one or two steps of a quantized output are no defect.
_MOST_STEPS = 2.0
# A deep network may make dozens of steps of these two. Then the device is held against every way in which this
# computer can run the model, and may be as far from the nearest as they are from each other.
_OTHER_KERNELS = ("litert_builtin", "litert_reference")
# Quantized layers inside a model whose outputs are real numbers leave 30 dB and more; a wrong kernel below 10.
_LEAST_SNR_DB = 20.0
_NEARLY_EQUAL = 1e-6
_INTEGERS = ("int", "uint", "bool")


@dataclass(frozen=True)
class Health:
    """What the check found; ``ok`` is None where there was none. ``detail`` is one sentence.

    ``steps`` is the largest difference of a quantized output in steps of its scale, ``snr_db`` the lowest
    signal-to-noise ratio of an output of real numbers; None where the model has no such output.
    """

    ok: bool | None
    detail: str
    samples: int = 0
    data: str | None = None
    steps: float | None = None
    snr_db: float | None = None
    runtime: str | None = None
    findings: tuple[Finding, ...] = field(default_factory=tuple)

    def describe(self) -> dict[str, Any]:
        """The check as it stands in JSON documents."""
        return {
            "ok": self.ok,
            "detail": self.detail,
            "samples": self.samples,
            "data": self.data,
            "steps": self.steps,
            "snr_db": self.snr_db,
            "runtime": self.runtime,
        }


NOT_CHECKED = Health(None, "The release was not tried.")


@dataclass(frozen=True, kw_only=True)
class PutIntoService:
    """What was done so that ``release`` is in service; ``previous`` was before, and can be rolled back to."""

    device: str
    folder: str
    release: str
    previous: str | None
    model: str
    health: Health
    seconds: float
    findings: tuple[Finding, ...] = field(default_factory=tuple)

    def describe(self) -> dict[str, Any]:
        """It as it stands in JSON documents."""
        return {
            "device": self.device,
            "folder": self.folder,
            "release": self.release,
            "previous": self.previous,
            "model": self.model,
            "health": self.health.describe(),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Trial:
    """Samples to try a model with: inputs (n, 32, 32, 3) by the artifact's names, and where they are from."""

    inputs: Mapping[str, Array]
    data: str | None = None

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.inputs.values())))


def trial_of(
    artifact: Artifact, data: str | None, *, preprocess: str | None = None, seed: int = 0
) -> tuple[Trial, tuple[Finding, ...]]:
    """Samples for a health check: some of the user's, evenly spread, else random ones.

    Raises:
        DataError: The samples do not fit the model.
        UsageError: The model takes inputs of which edgekit cannot make up any.
    """
    if data is None:
        generator = np.random.default_rng(seed)
        return Trial({spec.name: _random(spec, generator) for spec in artifact.inputs}), ()
    dataset = open_dataset(data, preprocess=preprocess)
    dataset, findings = under_contract(dataset, artifact, preprocess)
    dataset = dataset.spread(min(_SAMPLES, dataset.count)).bind(artifact.inputs)
    batch = next(iter(dataset.batches(_SAMPLES)))
    return Trial(batch.inputs, data), findings


def check_health(
    shell: Shell, artifact: Artifact, path: str, trial: Trial, runtime: InstalledRuntime
) -> Health:
    """Run a model on this computer and on a device, and compare.

    Args:
        shell: The device.
        artifact: The model on this computer.
        path: The same file on the device.
        trial: The samples.
        runtime: What executes it on the device.

    Raises:
        DeviceError: The link is lost.
        DependencyError: The runtime on the device does not work.
        ModelError: This computer cannot run the model.
    """
    expected = [_answers(artifact, trial)]
    try:
        with DeviceSession(shell, artifact, runtime=runtime.name, path=path) as session:
            found = session.run(trial.inputs)
            session.close()
    except ModelError as error:
        health = Health(False, f"The device cannot run it: {error.message}", trial.count, trial.data)
    else:
        health = _compared(artifact, expected, found, trial)
        if not health.ok and artifact.format is Format.TFLITE:
            for kernels in _OTHER_KERNELS:
                with contextlib.suppress(ModelError):  # some have fewer operators
                    expected.append(_answers(artifact, trial, kernels))
            health = _noted(_compared(artifact, expected, found, trial))
    return replace(health, runtime=runtime.name)


def failed(shell: Shell, digest: str, health: Health, serves: str | None) -> DeviceError:
    """The error for a release that is not put into service."""
    now = f"{serves[:12]} stays in service" if serves else "nothing is in service"
    return DeviceError(
        "EK845",
        f"The release {digest[:12]} failed its health check on {shell.device.name}; {now}. {health.detail}",
        f"The first tensor that differs: edgekit debug MODEL --data DATA --device {shell.device.name}",
    )


def _answers(artifact: Artifact, trial: Trial, runtime: str | None = None) -> dict[str, Array]:
    """What this computer computes."""
    with contextlib.closing(open_session(artifact, runtime)) as here:
        return here.run(trial.inputs)


def _noted(health: Health) -> Health:
    """A check that was passed only because this computer's own kernels differ from each other."""
    text = f"This computer's own kernels do not agree about this model. {health.detail}"
    hint = "See on labelled data what that costs: edgekit evaluate MODEL --data DATA --device DEVICE"
    return replace(health, findings=(Finding("EK817", text, hint, Level.NOTE),)) if health.ok else health


def _compared(
    artifact: Artifact, expected: Sequence[Mapping[str, Array]], found: Mapping[str, Array], trial: Trial
) -> Health:
    """A device's outputs beside those of this computer, which it may have in several ways, the usual one first."""
    steps: list[float] = []
    snrs: list[float] = []
    wrong: list[str] = []
    for spec in artifact.outputs:
        ways = [way[spec.name] for way in expected]
        here, there = ways[0], found.get(spec.name)
        if there is None or here.shape != there.shape:
            shape = "missing" if there is None else f"of shape {list(there.shape)}"
            wrong.append(f"output {spec.name!r} is {shape} there and of shape {list(here.shape)} here")
        elif spec.quantization is not None and not spec.quantization.per_channel:
            apart, allowed = _steps_apart(ways, there, spec.quantization.scales[0])
            steps.append(float(apart.max(initial=0.0)))
            if (apart > allowed + 0.01).any():
                worst = int(np.argmax(apart - allowed))
                wrong.append(
                    f"output {spec.name!r} differs by {apart[worst]:.0f} steps, and {allowed[worst]:.0f} may be"
                )
        elif spec.dtype.startswith(_INTEGERS):
            if not np.array_equal(here, there):
                wrong.append(f"output {spec.name!r} has other integers")
        else:
            snrs.append(_snr_db(here, there))
            if snrs[-1] < _LEAST_SNR_DB:
                wrong.append(
                    f"output {spec.name!r} has {snrs[-1]:.1f} dB SNR, and {_LEAST_SNR_DB:.0f} are needed"
                )
    what = f"{trial.count} {'random ' if trial.data is None else ''}samples"
    detail = (
        f"On {what}, {'; '.join(wrong)}."
        if wrong
        else f"{what} gave the same there as here{_bounds(steps, snrs)}."
    )
    return Health(
        not wrong, detail, trial.count, trial.data, max(steps, default=None), min(snrs, default=None)
    )


def _bounds(steps: list[float], snrs: list[float]) -> str:
    """How much the same: ``, within 1 step``."""
    parts = [f"within {max(steps):.0f} quantization steps"] if steps else []
    if snrs:
        parts.append("exactly" if math.isinf(min(snrs)) else f"at {min(snrs):.0f} dB SNR")
    return f", {' and '.join(parts)}" if parts else ""


def _steps_apart(ways: Sequence[Array], there: Array, scale: float) -> tuple[Array, Array]:
    """How far each sample's output is from the nearest of this computer's, and how far it may be: both (n,)."""
    apart = np.min([_largest(way, there) for way in ways], axis=0)
    among = [_largest(first, second) for first, second in itertools.combinations(ways, 2)]
    spread = np.max(among, axis=0) if among else np.zeros(len(there))
    return apart / (scale or 1.0), np.maximum(_MOST_STEPS, spread / (scale or 1.0))


def _largest(first: Array, second: Array) -> Array:
    """The largest difference within each sample (n,); infinite where a number is none."""
    apart = np.abs(first.astype(np.float64) - second).reshape(len(first), -1).max(axis=1, initial=0.0)
    return np.where(np.isfinite(apart), apart, np.inf)


def _snr_db(here: Array, there: Array) -> float:
    """The SNR; infinite where both are nearly zero, and where both are NaN or infinite at the same places."""
    finite = np.isfinite(here)
    if not np.array_equal(here[~finite], there[~finite], equal_nan=True):
        return -math.inf
    found = difference(here[finite], there[finite])
    return math.inf if found.max_abs < _NEARLY_EQUAL else found.snr_db


def _random(spec: TensorSpec, generator: np.random.Generator) -> Array:
    """Made-up samples of an input: (8, 32, 32, 3). Free sizes are 1."""
    shape = (_SAMPLES, *(side or 1 for side in spec.shape[1:]))
    if spec.quantization is not None:
        limits, scale, zero_point = (
            np.iinfo(spec.dtype),
            spec.quantization.scales[0],
            spec.quantization.zero_points[0],
        )
        low, high = scale * (limits.min - zero_point), scale * (limits.max - zero_point)
        return generator.uniform(low, high, shape).astype(np.float32)
    if spec.dtype.startswith("float"):
        return generator.standard_normal(shape).astype(np.float32)
    if spec.dtype.startswith(_INTEGERS):
        # Small ones: they may be places in a table.
        return generator.integers(0, 2, shape).astype(spec.dtype)
    raise UsageError(
        "EK853",
        f"The input {spec.name!r} takes {spec.dtype}, of which edgekit cannot make up samples.",
        "Add --health-check DATA, or --no-health-check.",
    )
