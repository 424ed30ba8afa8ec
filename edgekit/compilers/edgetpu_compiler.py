"""Google's compiler for the Edge TPU, where it is installed; edgekit's tests have never had it, only its log."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from edgekit import flatbuffer
from edgekit.artifact import Artifact, Format
from edgekit.compilation import Compilation, CompiledOperator
from edgekit.errors import DependencyError, ModelError, TargetError
from edgekit.target import Target

_PROGRAM = "edgetpu_compiler"
_TIMEOUT_S = 1800.0
_LOG = 8000
_VERSION = re.compile(r"Edge TPU Compiler version (\S+)")
# "CONV_2D   11   Mapped to Edge TPU", below a heading.
_ROW = re.compile(r"^\s*([A-Za-z0-9_-]+)\s+(\d+)\s+(\S.*?)\s*$", re.MULTILINE)
_MAPPED = "Mapped to Edge TPU"
_MEMORY = re.compile(
    r"(On-chip memory used for caching model parameters|Off-chip memory used for streaming uncached model parameters)"
    r":\s*([\d.]+)(B|KiB|MiB)"
)
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}


def compile(  # noqa: A001 - every compiler's
    artifact: Artifact, target: Target, folder: Path, _output: Path
) -> Compilation:
    """Compile an int8 ``.tflite`` file.

    Raises:
        TargetError: The model is no .tflite file.
        ModelError: The compiler refuses the model, or writes no file that can be read.
        DependencyError: The compiler is not installed.
    """
    if artifact.format is not Format.TFLITE:
        message = f"The Edge TPU's compiler reads .tflite files, and {artifact.path} is {artifact.format}."
        hint = f"Make one: edgekit quantize {artifact.path} -o model.tflite -t {target.name}"
        raise TargetError("EK390", message, hint)
    program = shutil.which(_PROGRAM)
    if program is None:
        message = f"{_PROGRAM} is not installed."
        hint = "Google ships it for Debian on x86-64: https://coral.ai/docs/edgetpu/compiler/"
        raise DependencyError("EK399", message, hint)
    # A name of our own: the user's may look like an option.
    model = folder / "model.tflite"
    model.write_bytes(artifact.path.read_bytes())
    try:
        done = subprocess.run(
            [program, "-s", "-o", str(folder), str(model)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{_PROGRAM} did not finish with {artifact.path} within {_TIMEOUT_S:.0f} seconds."
        raise ModelError("EK391", message, "Compile a smaller model.") from error
    log = (done.stdout + done.stderr)[-_LOG:]
    compiled = folder / "model_edgetpu.tflite"
    if done.returncode or not _is_readable(compiled):
        message = f"{_PROGRAM} made nothing of {artifact.path}: exit code {done.returncode}."
        raise ModelError("EK391", message, "Run with -v for its own words.", detail=log)
    version = _VERSION.search(log)
    return Compilation(
        path=compiled,
        compiler=_PROGRAM,
        version=version[1] if version else "",
        configuration={},
        operators=tuple(operators_of(log)),
        estimates=memory_of(log),
        log=log,
    )


def beside(_target: Target) -> tuple[str, ...]:
    """Nothing is written beside the output."""
    return ()


def operators_of(log: str) -> Iterator[CompiledOperator]:
    """The operators by the table that ``-s`` prints: one for each that it counts."""
    table = log.partition("Status")[2]
    for kind, count, status in _ROW.findall(table):
        place = "tpu" if status == _MAPPED else "cpu"
        yield from (CompiledOperator(kind, place, 0, 0, status) for _ in range(int(count)))


def memory_of(log: str) -> dict[str, float]:
    """Where the parameters go: ``{"on_chip_bytes": 3491758, "off_chip_bytes": 0}``."""
    names = {"On": "on_chip_bytes", "Of": "off_chip_bytes"}
    return {names[what[:2]]: float(size) * _UNITS[unit] for what, size, unit in _MEMORY.findall(log)}


def _is_readable(path: Path) -> bool:
    try:
        return bool(flatbuffer.read(path.read_bytes()).subgraphs)
    except (OSError, ModelError):
        return False
