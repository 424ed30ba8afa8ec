"""What TensorFlow, Keras and their converters say, in one sentence with a code and a hint."""

import re
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import DependencyError, EdgekitError, ModelError

INSTALL = 'Install it: pip install "edgekit[tensorflow]"'


@dataclass(frozen=True)
class _Rule:
    """An error of this type whose text holds this pattern; the groups found are put into the sentence."""

    error: str
    pattern: str
    code: str
    message: str
    hint: str


_RULES = [
    _Rule(
        ".*",
        r"(?:Could not locate (?:class|function) |Unknown (?:layer|object|loss|metric)[^:]*: )'?\"?([\w>.]+)",
        "EK109",
        "{path} uses the custom object {0}, whose code is not in the file.",
        "Use built-in layers, or export the model as a SavedModel where that code is: model.export(FOLDER).",
    ),
    _Rule(
        ".*",
        r"(?i)lambda.{0,80}(?:unsafe|safe_mode|arbitrary|deserializ)",
        "EK108",
        "{path} holds a Lambda layer, which is code that edgekit does not run.",
        "Replace it by a built-in layer, or export the model as a SavedModel: model.export(FOLDER).",
    ),
    _Rule(
        "NoSignatureError",
        r"^(.*)$",
        "EK112",
        "{path} has no signature that can be chosen: it has {0}.",
        "Save it with a signature named serving_default.",
    ),
    _Rule(
        "NotBuiltError",
        r"^(.*)$",
        "EK113",
        "{path} was saved before its input shape was known.",
        "Give the model an Input layer, or call it once on data, and save it again.",
    ),
    _Rule(
        "UnusableError",
        r"(.*)",
        "EK122",
        "The file that TensorFlow's converter made from {path} does not run: {0}",
        "Choose another recipe, for example int8 in place of int16x8.",
    ),
    _Rule(
        ".*",
        r"(?i)Quantization to 16x8-bit not yet supported for op: '?(\w+)",
        "EK126",
        "TensorFlow cannot quantize the operator {0} of {path} to 16x8.",
        "Choose another recipe, for example int8, or another engine.",
    ),
    _Rule(
        ".*",
        r"(?i)Quantization not yet supported for op: '?(\w+)",
        "EK126",
        "TensorFlow cannot quantize the operator {0} of {path}.",
        "Choose another recipe, for example dynamic, or another engine.",
    ),
    _Rule(
        "ResourceExhaustedError|MemoryError",
        r"",
        "EK135",
        "TensorFlow ran out of memory on {path}.",
        "Use fewer samples, or a machine with more memory.",
    ),
    _Rule(
        "ConverterError",
        r"",
        "EK121",
        "TensorFlow's converter refuses {path}.",
        "Run with -v for its own words. Another engine or recipe may take the model.",
    ),
]

_UNSUPPORTED_OP = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")


def translate(path: Path, error: str, message: str, detail: str) -> EdgekitError:
    """The error for what the child process reported: the exception's type and its text."""
    if error in ("ModuleNotFoundError", "ImportError"):
        name = message.removeprefix("No module named ").strip("'").split(".")[0]
        return DependencyError(
            "EK610", f"{path} needs {name}, which cannot be imported.", INSTALL, detail=detail
        )
    operators = sorted(set(_UNSUPPORTED_OP.findall(message)))
    if operators:
        return ModelError(
            "EK120",
            f"{path} cannot become a .tflite file: LiteRT has no operator for {', '.join(operators)}.",
            "Move these operators out of the model, into the code around it.",
            detail=detail,
        )
    for rule in _RULES:
        match = re.search(rule.pattern, message, re.DOTALL if rule.pattern.startswith("(?i)lambda") else 0)
        if match and re.fullmatch(rule.error, error):
            groups = [_sentence(group) for group in match.groups()]
            return ModelError(rule.code, rule.message.format(*groups, path=path), rule.hint, detail=detail)
    return _general(path, error, message, detail)


def _general(path: Path, error: str, message: str, detail: str) -> EdgekitError:
    first = _sentence(message) or error
    return ModelError(
        "EK105",
        f"{path} cannot be read by TensorFlow: {first}",
        "The file may be damaged: compare its size and checksum with the original.",
        detail=detail,
    )


def _sentence(text: str) -> str:
    """The first line of a framework's message, at most 200 characters."""
    line = next((part.strip() for part in text.splitlines() if part.strip()), "")
    return line if len(line) <= 200 else line[:197] + "..."
