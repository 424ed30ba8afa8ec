"""Arm's Vela, for the NPUs Ethos-U55, U65 and U85; a toolchain."""

import csv
import re
import signal
from pathlib import Path

from edgekit import flatbuffer
from edgekit.artifact import Artifact, Format
from edgekit.compilation import Compilation, CompiledOperator
from edgekit.compilers._copies import readable_copy
from edgekit.compilers._run import log_of, run
from edgekit.errors import ModelError, TargetError
from edgekit.operators import operators
from edgekit.target import Target
from edgekit.toolchain import Toolchain

_KIB = 1024
# Its own, and that of its options.
_ERROR = re.compile(r"\b[Ee]rror: ")
_MEMORIES = ("sram", "dram", "on_chip_flash", "off_chip_flash")


def compile(  # noqa: A001 - every compiler's
    artifact: Artifact, target: Target, folder: Path, _output: Path
) -> Compilation:
    """Compile an int8 ``.tflite`` file with the target's accelerator, system and memory configuration.

    Vela ends with 0 where it could place nothing, and dies on weights of 4 bits: the first is seen in its table of
    operators, the second before it is started.

    Raises:
        TargetError: The model is no .tflite file or has weights of 4 bits.
        ModelError: Vela crashes, refuses the model, or writes no file that can be read.
        DependencyError: The toolchain vela is not installed.
    """
    _check(artifact, target)
    options = {key: value for key, value in target.compiler.items() if key != "name"}
    toolchain = Toolchain.load("vela")
    # A name of our own: the user's may look like an option. Without names of tensors Vela cannot say what is wrong.
    model = folder / "model.tflite"
    readable_copy(artifact, model)
    words = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
    command = ["vela", str(model), "--config", "Arm/vela.ini", *words, "--verbose-performance"]
    done = run(toolchain, [*command, "--output-dir", str(folder)], artifact, folder)
    log = log_of(done)
    compiled = folder / "model_vela.tflite"
    if done.returncode or not _is_readable(compiled):
        raise _failed(artifact, done.returncode, log)
    return Compilation(
        path=compiled,
        compiler="vela",
        version=toolchain.version,
        configuration=options,
        operators=_operators(folder / "model_per-layer.csv"),
        estimates=_estimates(folder / f"model_summary_{options['system_config']}.csv"),
        log=log,
    )


def beside(_target: Target) -> tuple[str, ...]:
    """Nothing is written beside the output."""
    return ()


def _check(artifact: Artifact, target: Target) -> None:
    if artifact.format is not Format.TFLITE:
        message = f"Vela reads .tflite files, and {artifact.path} is {artifact.format}."
        hint = f"Make one: edgekit quantize {artifact.path} -o model.tflite -t {target.name}"
        raise TargetError("EK390", message, hint)
    narrow = [
        operator.kind
        for operator in operators(artifact.path, artifact.format)
        if any(operand.dtype in {"int4", "int2"} for operand in operator.weights)
    ]
    if narrow:
        message = f"{len(narrow)} operators of {artifact.path} have weights of 4 bits or fewer, on which Vela crashes."
        raise TargetError("EK390", message, "Quantize it with -r int8.")


def _is_readable(path: Path) -> bool:
    """Whether a whole ``.tflite`` file lies there: an exit code of 0 does not promise it."""
    try:
        return bool(flatbuffer.read(path.read_bytes()).subgraphs)
    except (OSError, ModelError):
        return False


def _failed(artifact: Artifact, code: int, log: str) -> ModelError:
    how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    errors = [line for line in log.splitlines() if _ERROR.search(line)]
    reason = _ERROR.split(errors[-1])[-1].strip().rstrip(".") if errors else how
    message = f"Vela made nothing of {artifact.path}: {reason}."
    return ModelError(
        "EK391", message, "Run with -v for its own words; `edgekit inspect` reads the file too.", detail=log
    )


def _operators(table: Path) -> tuple[CompiledOperator, ...]:
    with table.open(newline="", encoding="utf-8") as stream:
        return tuple(
            CompiledOperator(
                kind=row["Original Operator"],
                place=row["Target"].lower(),
                cycles=round(float(row["Op Cycles"])),
                macs=round(float(row["MAC Count"])),
                name=row["Name"],
            )
            for row in csv.DictReader(stream)
        )


def _estimates(table: Path) -> dict[str, float]:
    with table.open(newline="", encoding="utf-8") as stream:
        row = next(csv.DictReader(stream))
    found = {
        "latency_ms": float(row["inference_time"]) * 1000,
        "cycles_count": float(row["cycles_total"]),
        "npu_cycles_count": float(row["cycles_npu"]),
        "clock_hz": float(row["core_clock"]),
        "macs_count": float(row["nn_macs"]),
    }
    return found | {
        f"{name}_bytes": float(row[f"{name}_memory_used"]) * _KIB
        for name in _MEMORIES
        if float(row[f"{name}_memory_used"])
    }
