"""What edgekit noticed: findings, and the catalogue of their codes.

Codes are never used twice. Their hundreds say what they are about: 1 models, 2 data, 3 quantization,
4 evaluation, 5 benchmarks, 6 files and environment, 9 the command line and edgekit itself.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
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
            raise ValueError(f"{self.code} is not in the catalogue of findings.py")

    def describe(self) -> dict[str, Any]:
        """The finding as it stands in JSON documents."""
        return asdict(self)


@dataclass(frozen=True)
class Code:
    """An entry of the catalogue, as ``edgekit explain`` prints it."""

    title: str
    meaning: str
    advice: str


CATALOG: dict[str, Code] = {
    # 1: models
    # 2: data
    # 3: quantization
    # 4: evaluation
    # 5: benchmarks
    # 6: files and environment
    "EK601": Code(
        "The output is a folder",
        "A command that writes one file was given the name of an existing folder.",
        "Give a file name, for example folder/model.tflite.",
    ),
    "EK602": Code(
        "The output exists already",
        "edgekit never replaces a file unless told to.",
        "Choose another name, or add --overwrite.",
    ),
    "EK603": Code(
        "The output's folder does not exist",
        "Folders are not created on the way, so that a typing error makes no new ones.",
        "Create the folder with mkdir -p, or correct the path.",
    ),
    "EK604": Code(
        "The disk is full",
        "There was no space left for the output. What was there before is untouched, and nothing half-written is left.",
        "Free some space, or write to another disk.",
    ),
    "EK605": Code(
        "The output cannot be written",
        "The folder is read-only, or its permissions forbid it.",
        "Choose a folder that you may write to.",
    ),
    # 9: the command line and edgekit itself
    "EK901": Code(
        "Unknown name",
        "A recipe, metric, runtime, target or code of that name does not exist. No default is put in its place.",
        "Use one of the names that the message lists.",
    ),
    "EK902": Code(
        "Wrong usage",
        "An option is missing, unknown, or has a value that does not fit.",
        "Run the command with --help: it ends with examples.",
    ),
    "EK910": Code(
        "Internal error",
        "edgekit met a state that it was not written for. This is a defect in edgekit, not in your model.",
        "Run the command again with -v and report the traceback.",
    ),
    "EK911": Code(
        "Out of memory",
        "The operating system refused a request for memory.",
        "Use fewer samples or a smaller model, or a machine with more memory.",
    ),
    "EK912": Code(
        "Interrupted",
        "Ctrl-C, or a signal, ended the command. Child processes are gone and no output is half-written.",
        "Run the command again.",
    ),
}


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
