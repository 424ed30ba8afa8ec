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
        "CoreMLError",
        r"(?s)^(.*)$",
        "EK391",
        "coremltools refuses {path}: {0}",
        "Replace what it names in the source model; run with -v for its own words.",
    ),
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
        "TooLongError",
        r"^(.*)$",
        "EK127",
        "The recurrent layer {0} of {path} has too many steps to be quantized by TensorFlow.",
        "Choose the recipe dynamic or float16, or -f onnx, or fix at most 64 steps in the model.",
    ),
    _Rule(
        "StatefulError",
        r"",
        "EK128",
        "{path} keeps a state from one call to the next, which ONNX cannot express.",
        "Make the state an input and an output of the model, or write .tflite.",
    ),
    _Rule(
        "UncuttableError",
        r"",
        "EK355",
        "edgekit cannot cut a part out of {path}: Keras 3 does not read it.",
        "Leave --bisect out, or save the model with Keras 3.",
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

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_DAMAGED_HINT = "The file may be damaged: compare its size and checksum with the original."
_REFUSED_HINT = "Run with -v for TensorFlow's own words. Another engine or recipe may take the model."
_TRAINING_HINT = "Run with -v for TensorFlow's own words; model, data and loss may not fit each other."
_UNSUPPORTED_OP = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")


def translate(path: Path, error: str, message: str, detail: str, doing: str = "read") -> EdgekitError:
    """The error for what the child process reported: the exception's type and its text.

    Args:
        path: The model.
        error: The exception's type, ``"ValueError"``.
        message: What it says.
        detail: The raw text to keep.
        doing: What failed: the model cannot be ``read``, ``run``, ``converted`` or ``trained``.
    """
    message = _ANSI.sub("", message)
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
    # Keras puts the reason behind a line that only says in which layer it was.
    reason = re.sub(r"^Exception encountered when calling .*\n", "", message)
    code, hint = {"read": ("EK105", _DAMAGED_HINT), "trained": ("EK735", _TRAINING_HINT)}.get(
        doing, ("EK121", _REFUSED_HINT)
    )
    sentence = f"{path} cannot be {doing} by TensorFlow: {_sentence(reason) or error}"
    return ModelError(code, sentence, hint, detail=detail)


def _sentence(text: str) -> str:
    """The first line of a framework's message, at most 200 characters."""
    line = next((part.strip() for part in text.splitlines() if part.strip()), "")
    return line if len(line) <= 200 else line[:197] + "..."
