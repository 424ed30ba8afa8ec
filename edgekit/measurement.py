"""The nouns of measuring: raw values, the conditions they were taken under, and how far they can be trusted.

Nothing here is an average: medians, percentiles and intervals are computed when they are read, from all
the values, so that a file written today can be asked other questions later.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np

from edgekit import files
from edgekit.errors import DataError
from edgekit.statistics import bootstrap_interval
from edgekit.tensor import Array

# 1 (2026): models with blocks of latencies in ns, warm-ups apart, conditions before and after.
SCHEMA_VERSION = 1

_RESAMPLES = 1000


@dataclass(frozen=True)
class Measurement:
    """Raw values of one metric in the order in which they were taken.

    ``blocks`` are stretches measured without a pause: ``((101, 99), (100, 102))`` are four values in two
    blocks. Neighbours in time resemble each other, so intervals resample whole blocks, not single values.
    ``starts_s`` says when each block began, in seconds since the first.
    """

    metric: str
    unit: str
    blocks: tuple[tuple[float, ...], ...]
    warmups: tuple[float, ...] = ()
    starts_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.blocks or not all(self.blocks):
            raise ValueError(f"{self.metric} has a block without values")
        if self.starts_s and len(self.starts_s) != len(self.blocks):
            raise ValueError(f"{len(self.blocks)} blocks but {len(self.starts_s)} starts")

    @property
    def values(self) -> Array:
        """All values in order, warm-ups excluded."""
        return np.concatenate([np.asarray(block, np.float64) for block in self.blocks])

    @property
    def block_medians(self) -> Array:
        """The median of each block."""
        return np.array([np.median(block) for block in self.blocks])

    @property
    def median(self) -> float:
        """Half of the values are lower."""
        return float(np.median(self.values))

    def percentile(self, percent: float) -> float:
        """The value that ``percent`` of the values do not exceed, interpolated linearly."""
        return float(np.percentile(self.values, percent))

    def median_ci95(self, seed: int = 0) -> tuple[float, float] | None:
        """95% percentile-bootstrap interval of the median over blocks; None with fewer than five blocks.

        Resampling single values would pretend that they are independent and give intervals many times too
        narrow (Kuensch 1989, The jackknife and the bootstrap for general stationary observations).
        """
        if len(self.blocks) < 5:
            return None
        values = self.values
        order = np.argsort(values, kind="stable")
        block_of = np.repeat(np.arange(len(self.blocks)), [len(block) for block in self.blocks])[order]
        ordered, draws = values[order], np.random.default_rng(seed)
        medians = np.empty(_RESAMPLES)
        for i in range(_RESAMPLES):
            # A block drawn twice counts twice: the median is where half of the total weight is passed.
            drawn = draws.integers(0, len(self.blocks), len(self.blocks))
            weight = np.cumsum(np.bincount(drawn, minlength=len(self.blocks))[block_of])
            medians[i] = ordered[np.searchsorted(weight, weight[-1] / 2)]
        low, high = np.percentile(medians, [2.5, 97.5])
        return float(low), float(high)

    def describe(self) -> dict[str, Any]:
        """All that was measured, as JSON can hold it."""
        return {key: _lists(value) for key, value in asdict(self).items()}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of ``describe``."""
        return cls(
            str(document["metric"]),
            str(document["unit"]),
            tuple(tuple(block) for block in document["blocks"]),
            tuple(document["warmups"]),
            tuple(document["starts_s"]),
        )


def ratio(
    candidate: Measurement, baseline: Measurement, seed: int = 0
) -> tuple[float, tuple[float, float] | None]:
    """How many times the baseline's median the candidate takes, with a 95% interval.

    The blocks of both were measured in turn, so block i of one stood beside block i of the other and had
    the same machine. The ratio is the median over rounds of the ratio of the two block medians, and the
    interval resamples rounds: a slow minute of the machine slows both and leaves the ratio alone.
    None instead of an interval with fewer than five rounds.
    """
    rounds = min(len(candidate.blocks), len(baseline.blocks))
    ratios = candidate.block_medians[:rounds] / baseline.block_medians[:rounds]
    estimate = float(np.median(ratios))
    if rounds < 5:
        return estimate, None
    low, high = bootstrap_interval(ratios, np.median, seed=seed)
    return estimate, (low, high)


@dataclass(frozen=True)
class BusyProcess:
    """Another process that used the processor: ``cpu_pct`` of one core."""

    pid: int
    name: str
    cpu_pct: float


@dataclass(frozen=True)
class Conditions:
    """What the machine was and did at one moment. None is what could not be read."""

    time: float
    cpu_model: str | None = None
    architecture: str | None = None
    cores: int | None = None
    governor: str | None = None
    frequency_mhz: float | None = None
    max_frequency_mhz: float | None = None
    temperature_c: float | None = None
    throttle_events: int | None = None  # how often the kernel has slowed a core since it started
    throttle_flags: int | None = None  # Raspberry Pi: bits 0-3 now, 16-19 since boot
    thermal_status: int | None = None  # Android: 0 none, 1 light ... 6 shutdown
    battery_pct: float | None = None
    battery_temperature_c: float | None = None
    powered: bool | None = None  # whether a device with a battery is plugged in
    load_average: tuple[float, ...] | None = None
    busy_processes: tuple[BusyProcess, ...] | None = None
    memory_available_bytes: int | None = None
    memory_total_bytes: int | None = None
    kernel: str | None = None
    virtualized: bool | None = None
    cpu_ticks: Mapping[str, int] | None = field(default=None, compare=False)
    own_ticks: int | None = field(default=None, compare=False)

    @property
    def unreadable(self) -> tuple[str, ...]:
        """The names of what could not be read."""
        return tuple(item.name for item in fields(self) if getattr(self, item.name) is None)

    def describe(self) -> dict[str, Any]:
        """The conditions as they stand in JSON documents, with the names of what could not be read."""
        document = {key: _lists(value) for key, value in asdict(self).items()}
        del document["cpu_ticks"], document["own_ticks"]
        return {**document, "unreadable": list(self.unreadable)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """From the worker's reply or from ``describe``; what is unknown to this version is left out."""
        known = {item.name for item in fields(cls)} & set(document)
        values = {name: document[name] for name in known}
        if values.get("busy_processes") is not None:
            values["busy_processes"] = tuple(BusyProcess(**process) for process in values["busy_processes"])
        if values.get("load_average") is not None:
            values["load_average"] = tuple(values["load_average"])
        return cls(**values)


def throttled(before: Conditions, after: Conditions) -> bool | None:
    """Whether the processor was slowed down between two moments; None where the machine does not tell."""
    if before.throttle_flags is not None and after.throttle_flags is not None:
        since_boot = (after.throttle_flags & ~before.throttle_flags) >> 16
        return bool(after.throttle_flags & 0xF or since_boot & 0xF)
    if before.thermal_status is not None and after.thermal_status is not None:
        return after.thermal_status > before.thermal_status
    if before.throttle_events is not None and after.throttle_events is not None:
        return after.throttle_events > before.throttle_events
    return None


@dataclass(frozen=True)
class Disturbance:
    """What took processor time from a measurement, in percent of one core; None where unknown."""

    other_cpu_pct: float | None = None
    steal_pct: float | None = None

    @classmethod
    def between(cls, before: Conditions, after: Conditions) -> Self:
        """From the kernel's counters at the start and at the end."""
        start, end = before.cpu_ticks, after.cpu_ticks
        if start is None or end is None or not after.cores or end["total"] <= start["total"]:
            return cls()
        per_core = (end["total"] - start["total"]) / after.cores
        own = (after.own_ticks or 0) - (before.own_ticks or 0)
        other = end["busy"] - start["busy"] - own
        steal = end["steal"] - start["steal"]
        return cls(round(max(0.0, 100 * other / per_core), 1), round(100 * steal / per_core, 1))


class Verdict(StrEnum):
    """What a series of latencies is."""

    STABLE = "stable"
    NOISY = "noisy"
    THROTTLED = "throttled"
    DRIFTING = "drifting"
    UNKNOWN = "unknown"  # too few values to tell


@dataclass(frozen=True)
class NoiseVerdict:
    """How far a measurement can be trusted, with the numbers that say so and what to do next."""

    verdict: Verdict
    reason: str
    next_step: str = ""

    def describe(self) -> dict[str, Any]:
        """The verdict as it stands in JSON documents."""
        return {"verdict": self.verdict.value, "reason": self.reason, "next_step": self.next_step}


@dataclass(frozen=True)
class Record:
    """What ``edgekit benchmark --save`` writes: every raw value, with the conditions.

    ``models`` holds for each model the facts about it and its latencies in ns.
    """

    device: str
    models: tuple[tuple[Mapping[str, Any], Measurement], ...]
    before: Conditions
    after: Conditions
    edgekit_version: str
    seed: int = 0

    def describe(self) -> dict[str, Any]:
        """All that was measured, as JSON can hold it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "benchmark",
            "edgekit_version": self.edgekit_version,
            "device": self.device,
            "seed": self.seed,
            "conditions": {"before": self.before.describe(), "after": self.after.describe()},
            "models": [{**facts, "latency": latency.describe()} for facts, latency in self.models],
        }

    def save(self, path: Path) -> None:
        """Write the record as JSON, whole or not at all."""
        files.write_bytes(path, json.dumps(self.describe(), allow_nan=False).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record of this or an older version.

        Raises:
            DataError: The file is no record, or a newer edgekit wrote it.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _no_record(path) from error
        return cls.from_document(document, path)

    @classmethod
    def from_document(cls, document: Any, path: Path) -> Self:
        """The inverse of ``describe``; ``path`` says where it was found.

        Raises:
            DataError: It is no record, or a newer edgekit made it.
        """
        try:
            version, kind = document["schema_version"], document["kind"]
        except (KeyError, TypeError) as error:
            raise _no_record(path) from error
        if kind != "benchmark" or not isinstance(version, int) or version < 1:
            raise _no_record(path)
        if version > SCHEMA_VERSION:
            raise DataError(
                "EK540",
                f"{path} has schema version {version}; this edgekit reads up to {SCHEMA_VERSION}.",
                "Update edgekit.",
            )
        try:
            models = [
                ({key: value for key, value in model.items() if key != "latency"}, model["latency"])
                for model in document["models"]
            ]
            return cls(
                document["device"],
                tuple((facts, Measurement.from_document(latency)) for facts, latency in models),
                Conditions.from_document(document["conditions"]["before"]),
                Conditions.from_document(document["conditions"]["after"]),
                document["edgekit_version"],
                document["seed"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _no_record(path) from error


def latency_ms(latency: Measurement, seed: int = 0) -> dict[str, Any]:
    """The summary of latencies in ns, in milliseconds, as it stands in JSON documents."""
    values = latency.values / 1e6
    interval = latency.median_ci95(seed)
    return {
        "median": latency.median / 1e6,
        "mean": float(values.mean()),
        "stdev": float(values.std(ddof=1)) if len(values) > 1 else None,
        "min": float(values.min()),
        "p90": latency.percentile(90) / 1e6,
        "p95": latency.percentile(95) / 1e6,
        "p99": latency.percentile(99) / 1e6,
        "ci95_median": None if interval is None else [bound / 1e6 for bound in interval],
        "runs": len(values),
        "warmup_runs": len(latency.warmups),
    }


def throughput_per_s(latency: Measurement, batch: int) -> float:
    """Samples per second of back-to-back runs: the batch over the mean latency in ns."""
    return batch * 1e9 / math.fsum(latency.values) * len(latency.values)


def _no_record(path: Path) -> DataError:
    return DataError(
        "EK541", f"{path} is no measurement of edgekit.", "Give a file that `edgekit benchmark --save` wrote."
    )


def _lists(value: Any) -> Any:
    return (
        [_lists(item) for item in value]
        if isinstance(value, Sequence) and not isinstance(value, str)
        else value
    )
