"""Budgets: the limits that a candidate must keep, as flat TOML or as options."""

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from edgekit import files
from edgekit.catalog import unknown
from edgekit.errors import UsageError

DEFAULT_MAX_DROP = 0.01
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Budget:
    """Limits, each None where nothing is asked.

    ``max_drop`` and ``per_class_max_drop`` are in the metric's own unit: 0.01 is one point of accuracy, 3 is
    3 dB of SNR. ``latency_ratio`` is the candidate's median latency over the baseline's. ``min_sparsity`` is a share
    of zero weights, ``max_clusters`` a number of values in each kernel. ``alpha`` is the error rate of each verdict,
    ``power`` that of the right verdict when samples are planned.
    """

    max_drop: float | None = None
    per_class_max_drop: float | None = None
    size_bytes: int | None = None
    gzip_bytes: int | None = None
    latency_ratio: float | None = None
    latency_ms: float | None = None
    peak_memory_bytes: int | None = None
    placement_pct: float | None = None
    min_sparsity: float | None = None
    max_clusters: int | None = None
    alpha: float = 0.05
    power: float = 0.8

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None:
                continue
            number = isinstance(value, int) if "int" in str(item.type) else isinstance(value, (int, float))
            if not number or isinstance(value, bool):
                raise UsageError("EK476", f"{item.name} is {value!r}; it must be a number.")
            low, high = _RANGES.get(item.name, (0.0, float("inf")))
            if not low <= value <= high:  # NaN is in no range
                raise UsageError(
                    "EK476",
                    f"{item.name} is {value:g}; it must be from {low:g} to {high:g}.",
                    _hint(item.name),
                )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a budget file.

        Raises:
            UsageError: There is none, it is no TOML, has an unknown key, or a value that makes no sense.
        """
        try:
            document = tomllib.loads(files.read_bytes(path, most_bytes=_MOST_BYTES).decode())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(
                "EK475",
                f"{path} cannot be read as a budget: {reason}.",
                "See examples/ci/budget.toml for one.",
            ) from error
        known = [item.name for item in fields(cls)]
        for key in document:
            if key not in known:
                raise unknown(f"limit in {path}", key, known)
        return cls(**document)

    def merged(self, **options: Any) -> Self:
        """This budget with the options that were given in the place of its own values.

        Raises:
            UsageError: There is no limit of such a name, or a value makes no sense.
        """
        known = [item.name for item in fields(self)]
        for name in options:
            if name not in known:
                raise unknown("limit", name, known)
        given = {name: value for name, value in options.items() if value is not None}
        return type(self)(**(asdict(self) | given))

    @property
    def limits(self) -> dict[str, float]:
        """What is asked for: ``{"max_drop": 0.01, "size_bytes": 300000}``."""
        asked = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in asked.items() if value is not None and name not in _SETTINGS}

    @property
    def needs_benchmark(self) -> bool:
        """Whether a limit can only be judged by running the candidate against the clock."""
        return bool(
            {"latency_ratio", "latency_ms", "peak_memory_bytes", "placement_pct"} & self.limits.keys()
        )


_SETTINGS = ("alpha", "power")
_RANGES = {
    "alpha": (1e-4, 0.5),
    "power": (0.5, 0.999),
    "placement_pct": (0.0, 100.0),
    "latency_ratio": (0.1, 1000.0),
    "min_sparsity": (0.0, 1.0),
}


def _hint(name: str) -> str:
    if name in {"max_drop", "per_class_max_drop"}:
        return "A drop is given as a fraction: 0.01 is one point of accuracy."
    return ""
