"""What edgekit noticed: findings. The catalogue of their codes is ``findings.toml`` beside this file."""

import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from edgekit.catalog import unknown


class Level(StrEnum):
    """How much a finding matters."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """Something that the user should know: one sentence, and what to do about it."""

    code: str
    message: str
    hint: str = ""
    level: Level = Level.WARNING

    def __post_init__(self) -> None:
        if self.code not in CATALOG:
            raise ValueError(f"{self.code} is not in the catalogue of findings.toml")

    def describe(self) -> dict[str, Any]:
        """The finding as it stands in JSON documents."""
        return asdict(self)


@dataclass(frozen=True)
class Code:
    """An entry of the catalogue, as ``edgekit explain`` prints it."""

    title: str
    meaning: str
    advice: str


def _catalog() -> dict[str, Code]:
    """The codes of ``findings.toml``, which lies beside this file."""
    entries = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return {code: Code(**entry) for code, entry in entries.items()}


CATALOG = _catalog()


def explain(code: str) -> Code:
    """The catalogue's entry for a code, in any case: ``explain("ek601")``.

    Raises:
        UsageError: The code is not in the catalogue.
    """
    entry = CATALOG.get(code.upper())
    if entry is None:
        raise unknown("code", code.upper(), sorted(CATALOG))
    return entry


def worst(findings: Iterable[Finding]) -> Level | None:
    """The highest level among findings, None where there are none."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=None)
