"""What PyTorch and its converters say, in one sentence with a code and a hint."""

import re
from collections.abc import Callable
from pathlib import Path

from edgekit.errors import DependencyError, EdgekitError, ModelError

INSTALL = 'Install it: pip install "edgekit[torch]"'

_SAVE_HINT = "Save it with torch.export.save(torch.export.export(module.eval(), inputs), 'model.pt2')."
_OPERATOR = re.compile(r"\baten\.(\w+(?:\.\w+)?)")
_LONGEST = 200


def translate(path: Path, error: str, message: str, detail: str, doing: str = "read") -> EdgekitError:
    """The error for what the child process reported: the exception's type and its text.

    Args:
        path: The model, or the file of the user's function.
        error: The exception's type, ``"ValueError"``.
        message: What it says.
        detail: The raw text to keep.
        doing: What failed: the model cannot be ``read``, ``run``, ``exported`` or ``converted``.
    """
    if error in ("ModuleNotFoundError", "ImportError"):
        name = message.removeprefix("No module named ").strip("'").split(".")[0]
        return DependencyError(
            "EK610", f"{path} needs {name}, which cannot be imported.", INSTALL, detail=detail
        )
    known = _KNOWN.get(error)
    if known is not None:
        code, sentence, hint = known(path, message)
        return ModelError(code, sentence, hint, detail=detail)
    if doing == "converted" and (operators := sorted(set(_OPERATOR.findall(message)))):
        sentence = f"{path} cannot be converted: there is no way to write {', '.join(operators[:5])}."
        return ModelError(
            "EK120",
            sentence,
            "Replace these operators in the module, or try the other format.",
            detail=detail,
        )
    code, hint = {
        "read": ("EK105", "The file may be damaged: compare its size and checksum with the original."),
        "exported": (
            "EK139",
            "torch.export must be able to trace the module; run with -v for PyTorch's own words.",
        ),
    }.get(doing, ("EK121", "Run with -v for PyTorch's own words."))
    return ModelError(
        code, f"{path} cannot be {doing} by PyTorch: {_sentence(message) or error}", hint, detail=detail
    )


def _training(path: Path, _message: str) -> tuple[str, str, str]:
    sentence = f"{path} was exported as it trains: it drops values at random, or normalizes by the batch."
    return "EK137", sentence, "Call module.eval() before torch.export.export."


def _unsafe(path: Path, message: str) -> tuple[str, str, str]:
    sentence = f"{path} keeps {message} as a pickled object, and edgekit never reads pickles."
    return "EK110", sentence, "Export a module whose weights and constants are plain tensors."


def _old(path: Path, _message: str) -> tuple[str, str, str]:
    return "EK138", f"{path} was written by PyTorch before 2.8, with pickles inside.", _SAVE_HINT


def _no_module(path: Path, message: str) -> tuple[str, str, str]:
    sentence = f"{path} gives no model: {message}."
    return "EK139", sentence, "The function takes nothing and returns (module, example_inputs)."


def _uncuttable(path: Path, message: str) -> tuple[str, str, str]:
    return "EK355", f"{path} cannot be cut at {message}, which is no tensor.", "Cut it at another place."


def _core_ml(path: Path, message: str) -> tuple[str, str, str]:
    hint = "Replace what it names in the module; run with -v for its own words."
    return "EK391", f"coremltools refuses {path}: {_sentence(message)}", hint


_KNOWN: dict[str, Callable[[Path, str], tuple[str, str, str]]] = {
    "TrainingModeError": _training,
    "UnsafeError": _unsafe,
    "OldError": _old,
    "NoModuleError": _no_module,
    "UncuttableError": _uncuttable,
    "CoreMLError": _core_ml,
}


def _sentence(text: str) -> str:
    """The first line of a framework's message, at most 200 characters."""
    line = next((part.strip() for part in text.splitlines() if part.strip()), "")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
