"""The same samples on this machine and on a device: where the two answer differently, and by how much."""

import contextlib
import hashlib
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files
from edgekit.artifact import Artifact, TensorSpec
from edgekit.runtimes import Session
from edgekit.statistics import Interval, wilson_interval
from edgekit.tensor import Array

# Kernels round differently: XNNPACK's int8 outputs are up to two units from those of the built-in kernels.
_UNITS = 2.0
# The same for real numbers, as a share of the largest output of the sample.
_RELATIVE = 1e-3
_KEPT_S = 7 * 86_400.0


@dataclass(frozen=True)
class Differing:
    """A sample that the two answer differently: other classes, or, without classes, outputs too far apart."""

    sample: int
    host: int | None
    device: int | None
    max_abs: float

    def describe(self) -> dict[str, Any]:
        """The sample as it stands in JSON documents."""
        return {"sample": self.sample, "host": self.host, "device": self.device, "max_abs": self.max_abs}


@dataclass(frozen=True)
class HostAgreement:
    """How often a device answers as the host does.

    ``identical`` samples have the same outputs to the bit; ``max_units`` is the largest difference in units
    of the output's quantization, None where it has none.
    """

    n: int
    identical: int
    max_abs: float
    max_units: float | None
    differing: tuple[Differing, ...]

    @property
    def value(self) -> float:
        """The share of samples that both answer alike."""
        return 1 - len(self.differing) / self.n if self.n else 1.0

    @property
    def ci95(self) -> Interval:
        """Wilson's interval of the share."""
        return wilson_interval(self.n - len(self.differing), self.n)

    def describe(self) -> dict[str, Any]:
        """The agreement as it stands in JSON documents."""
        return {
            "n": self.n,
            "value": self.value,
            "ci95": list(self.ci95),
            "identical": self.identical,
            "max_abs": self.max_abs,
            "max_units": self.max_units,
            "differing": [entry.describe() for entry in self.differing],
        }


class PairedSession:
    """A session on a device that has this machine answer the same samples, and keeps where they differ."""

    def __init__(self, device: Session, host: Session, artifact: Artifact) -> None:
        self._device = device
        self._host = host
        self._outputs = artifact.outputs
        self._count = self._identical = 0
        self._max_abs, self._max_units = 0.0, 0.0
        self._differing: list[Differing] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The device's outputs; see ``Session.run``."""
        answered, expected = self._device.run(inputs), self._host.run(inputs)
        self._compare(answered, expected)
        return answered

    def close(self) -> None:
        """Free both."""
        self._device.close()
        self._host.close()

    @property
    def agreement(self) -> HostAgreement:
        """All samples so far."""
        units = self._max_units if any(spec.quantization for spec in self._outputs) else None
        return HostAgreement(self._count, self._identical, self._max_abs, units, tuple(self._differing))

    def _compare(self, answered: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
        count = len(next(iter(answered.values())))
        largest, apart = np.zeros(count), np.zeros(count, bool)
        for spec in self._outputs:
            difference = _largest(answered[spec.name], expected[spec.name])
            largest = np.maximum(largest, difference)
            limit = np.abs(_rows(expected[spec.name])).max(axis=1, initial=0.0) * _RELATIVE
            if spec.quantization is not None:
                scale = max(spec.quantization.scales)
                self._max_units = max(self._max_units, float(difference.max(initial=0.0)) / scale)
                limit = np.full(count, (_UNITS + 0.5) * scale)
            apart |= difference > limit
        classes = _classes(self._outputs[0], answered, expected)
        if classes is not None:
            apart = classes[0] != classes[1]
        for i in np.flatnonzero(apart).tolist():
            host, device = (None, None) if classes is None else (int(classes[0][i]), int(classes[1][i]))
            self._differing.append(Differing(self._count + i, host, device, float(largest[i])))
        self._max_abs = max(self._max_abs, float(largest.max(initial=0.0)))
        self._identical += int((largest == 0).sum())
        self._count += count


class RememberingSession:
    """A session that keeps its answers on disk until all is done, so that a broken run can be taken up again.

    Answers are found by the digest of the samples, so it does not matter in which order they come.
    """

    def __init__(self, session: Session, folder: Path) -> None:
        self._session = session
        self._folder = folder
        self.remembered = 0
        # Samples that are equal are asked for once, and are not of an earlier run.
        self._own: set[Path] = set()
        self._earlier: set[Path] = set()
        _remove_old(folder)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The answers of now or of before; see ``Session.run``."""
        path = self._folder / f"{_digest(inputs)}.npz"
        count = len(next(iter(inputs.values())))
        kept = _kept(path)
        if kept is not None:
            if path not in self._own:
                self.remembered += count
                self._earlier.add(path)
            return kept
        outputs = self._session.run(inputs)
        arrays: dict[str, Any] = {f"a{i}": array for i, array in enumerate(outputs.values())}
        # Another run of the same may have ended meanwhile, and taken the folder away.
        self._folder.mkdir(parents=True, exist_ok=True)
        with files.atomic_write(path) as part, part.open("wb") as stream:
            np.savez(stream, allow_pickle=False, names=np.array(list(outputs)), **arrays)
        self._own.add(path)
        return outputs

    def close(self) -> None:
        """Free the session; the answers stay."""
        self._session.close()

    def forget(self) -> None:
        """Remove the answers that were used, and not those that another run may be collecting."""
        for path in self._own | self._earlier:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()


def _remove_old(folder: Path) -> None:
    """Remove answers that nobody came back for."""
    for path in folder.glob("*.npz"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _KEPT_S:
                path.unlink()


def _kept(path: Path) -> dict[str, Array] | None:
    """Answers of before; None where there are none that can be read."""
    try:
        # Opened here: numpy leaves a damaged archive open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            # Names may hold what the names of files may not: they are kept apart.
            return {str(name): archive[f"a{i}"] for i, name in enumerate(archive["names"])}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _digest(inputs: Mapping[str, Array]) -> str:
    digest = hashlib.sha256()
    for name, values in inputs.items():
        digest.update(f"{name}\0{values.dtype}\0{values.shape}\0".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _rows(values: Array) -> Array:
    return values.reshape(len(values), -1)


def _largest(one: Array, other: Array) -> Array:
    """The largest absolute difference of each sample; infinite where only one has a NaN."""
    left, right = _rows(one).astype(np.float64), _rows(other).astype(np.float64)
    difference = np.abs(left - right)
    difference[np.isnan(left) & np.isnan(right)] = 0.0
    largest: Array = np.nan_to_num(difference, nan=np.inf).max(axis=1, initial=0.0)
    return largest


def _classes(
    spec: TensorSpec, answered: Mapping[str, Array], expected: Mapping[str, Array]
) -> tuple[Array, Array] | None:
    """The classes that the host and the device choose; None where the first output is no vector of scores."""
    sides = [size or 1 for size in spec.shape[1:]]
    if max(sides, default=1) < 2 or int(np.prod(sides)) != max(sides):
        return None
    return _rows(expected[spec.name]).argmax(axis=1), _rows(answered[spec.name]).argmax(axis=1)
