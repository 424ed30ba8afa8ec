"""What onnx2tf does for edgekit, in its toolchain: convert ``.onnx`` files to ``.tflite``."""

import json
import re
import signal
import subprocess
import tempfile
from pathlib import Path

from edgekit import files, onnx_model
from edgekit.artifact import Format
from edgekit.errors import ModelError
from edgekit.operators import operators
from edgekit.passes.set_layout_onnx import images_in
from edgekit.toolchain import Toolchain

_CHILD = Path(__file__).with_name("onnx_to_tflite_child.py")
_TIMEOUT_S = 3600.0
_LOG = 8000
_LONGEST = 200
_HINT = (
    "Convert the model from which it was exported; edgekit convert --bisect DIR writes the part that fails."
)
# The operators of TensorFlow that are none of LiteRT's.
_FLEX = "Flex"
_COLOURS = re.compile(r"\x1b\[\d*m")
_OPERATOR = re.compile(r"^ERROR: *onnx_op_name: (.+)$", re.MULTILINE)
# Its own advice comes after the reason, and what TensorFlow says of a layer before it.
_REASON = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): *(.+)$", re.MULTILINE)


def onnx_to_tflite(source: Path, output: Path, *, batch: int | None = 1) -> None:
    """Convert with onnx2tf; inputs and outputs keep their shapes and names.

    Args:
        source: The ``.onnx`` file.
        output: The ``.tflite`` file to write.
        batch: The size of a batch that is free in the source, None to leave it free.

    Raises:
        ModelError: onnx2tf refuses the model, crashes on it, or writes nothing.
        DependencyError: The toolchain onnx2tf is not installed.
    """
    toolchain = Toolchain.load("onnx2tf")
    toolchain.require()
    with tempfile.TemporaryDirectory(prefix="edgekit-") as temporary:
        folder = Path(temporary)
        model = onnx_model.load(source)
        onnx_model.make_constant(model)
        onnx_model.bind_batch(model, batch)
        onnx_model.save(model, folder / "model.onnx", named=source)
        made = folder / "model_float32.tflite"
        command = ["python", str(_CHILD), "model.onnx", json.dumps(images_in(model))]
        done = _run(toolchain, command, source, folder)
        if done.returncode or not made.is_file() or not made.stat().st_size:
            raise _refusal(source, done)
        _check_operators(source, made)
        files.copy_file(made, output)


def _run(
    toolchain: Toolchain, command: list[str], source: Path, folder: Path
) -> "subprocess.CompletedProcess[str]":
    try:
        return toolchain.run(command, timeout_s=_TIMEOUT_S, folder=folder)
    except subprocess.TimeoutExpired as error:
        message = f"onnx2tf did not finish with {source} within {_TIMEOUT_S:.0f} seconds."
        raise ModelError("EK343", message, _HINT) from error


def _check_operators(source: Path, made: Path) -> None:
    """Refuse what TensorFlow alone could run: its converter writes such operators without a word."""
    kinds = {one.kind for one in operators(made, Format.TFLITE) if one.kind.startswith(_FLEX)}
    if kinds:
        names = ", ".join(sorted(kind.removeprefix(_FLEX) for kind in kinds))
        raise ModelError("EK120", f"{source} cannot be converted: LiteRT has no {names}.", _HINT)


def _refusal(source: Path, done: "subprocess.CompletedProcess[str]") -> ModelError:
    """The operator and the reason out of what onnx2tf printed."""
    log = _COLOURS.sub("", done.stdout + done.stderr)
    operators, reasons = _OPERATOR.findall(log), _REASON.findall(log)
    place = f" at the operator {operators[-1]}" if operators else ""
    reason = (
        reasons[-1].rstrip(".")[:_LONGEST] if reasons else f"it wrote nothing, exit code {done.returncode}"
    )
    if done.returncode < 0:
        reason = f"it crashed with {signal.Signals(-done.returncode).name}"
    return ModelError(
        "EK343",
        f"onnx2tf makes nothing of {source}{place}: {reason}.",
        _HINT,
        detail=log[-_LOG:],
    )
