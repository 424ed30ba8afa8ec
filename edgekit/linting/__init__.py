"""Mistakes in calibration data: one file per check, each with what it looks for and its judgement of the evidence.

A check is a module. ``CODE`` is that of its finding, ``LOOKS_FOR`` what it looks for; ``judge`` gives its judgement of
what was seen in the samples and of what the model made of them. A check that cannot tell says why: nothing is passed
that was not looked at.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, cast

from edgekit import catalog
from edgekit.evidence import Evidence
from edgekit.findings import Finding, Level


class Verdict(StrEnum):
    """What a check says of the samples."""

    CLEAN = "clean"
    MISTAKE = "mistake"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Judgement:
    """One check's verdict, the numbers that it rests on as a sentence, and what to do where it is a mistake."""

    verdict: Verdict
    evidence: str
    fix: str = ""


def clean(evidence: str) -> Judgement:
    """Nothing is wrong."""
    return Judgement(Verdict.CLEAN, evidence)


def mistake(evidence: str, fix: str) -> Judgement:
    """Something is wrong."""
    return Judgement(Verdict.MISTAKE, evidence, fix)


def not_run(reason: str) -> Judgement:
    """There is nothing to judge by."""
    return Judgement(Verdict.NOT_RUN, reason)


def percent(part: float, whole: float) -> str:
    """A share for people: ``"12%"``, ``"0.4%"``."""
    share = 100 * part / whole
    return f"{share:.0f}%" if share >= 1 or share == 0 else f"{share:.1g}%"


class Check(Protocol):
    """What every file of this folder offers."""

    CODE: str
    LOOKS_FOR: str

    def judge(self, evidence: Evidence) -> Judgement:
        """The verdict on the samples."""


@dataclass(frozen=True)
class Line:
    """A row of the result: which check, and its judgement."""

    check: str
    code: str
    looks_for: str
    judgement: Judgement

    @property
    def is_mistake(self) -> bool:
        """Whether the check found what it looks for."""
        return self.judgement.verdict is Verdict.MISTAKE

    def finding(self) -> Finding:
        """The mistake as a finding."""
        return Finding(self.code, self.judgement.evidence, self.judgement.fix, Level.ERROR)

    def describe(self) -> dict[str, Any]:
        """The row as it stands in JSON documents."""
        return {
            "check": self.check,
            "code": self.code,
            "looks_for": self.looks_for,
            "verdict": self.judgement.verdict.value,
            "evidence": self.judgement.evidence,
            "fix": self.judgement.fix,
        }


def checks() -> list[tuple[str, Check]]:
    """Every check with its name, in the order of their codes."""
    found = [(name, cast(Check, catalog.load("linting", name))) for name in catalog.names("linting")]
    return sorted(found, key=lambda item: item[1].CODE)


def judged(evidence: Evidence) -> tuple[Line, ...]:
    """What every check says."""
    return tuple(Line(name, check.CODE, check.LOOKS_FOR, check.judge(evidence)) for name, check in checks())
