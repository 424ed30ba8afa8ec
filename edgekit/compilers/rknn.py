"""Rockchip's RKNN-Toolkit2, for the NPUs of its processors: the file, run in the toolkit's simulator and compared."""

import json
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgekit.artifact import Artifact
from edgekit.compilation import Compilation, CompiledOperator
from edgekit.compilers import _trial
from edgekit.compilers._copies import readable_copy
from edgekit.compilers._run import log_of, run
from edgekit.errors import ModelError, TargetError, UsageError
from edgekit.findings import Finding
from edgekit.target import Target
from edgekit.toolchain import Toolchain

_CHILD = Path(__file__).with_name("_rknn_child.py")
_SUFFIX, _MAGIC, _HEADER_BYTES = ".rknn", b"RKNN", 64
# The toolkit itself advises 2 for models that are quantized already: 3 folds layers together, which rounds them anew.
# On 2,000 images a CIFAR-10 network was 0.6 to 0.9 dB nearer to its file at 2, and as accurate. What 2 costs in time is
# not known: the table of layers gives no cycles for the additions that 3 folds away.
_EXACT_LEVEL, _LEVEL = "2", "3"
# Models that are not quantized are computed in float16.
_NEAR_DB, _NEAR_INTEGER_DB = 40.0, 20.0
_KIB = 1024
_NAMED = 5
_EDGES = ("InputOperator", "OutputOperator")
# "4    ConvAdd  INT8  NPU  (1,16,32,32),(16,16,3,3),...  (1,16,32,32)  2187/9216/9216  34  Conv:ta_ConvAdd"
_ROW = re.compile(
    r"\] \d+\s+(?P<kind>\S+)\s+(?P<dtype>\S+)\s+(?P<place>CPU|NPU|GPU)\s+\S+\s+\S+\s+\d+/\d+/(?P<cycles>\d+)\s+\d+\s+"
    r"\w+:(?P<name>\S+)"
)
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_MEMORY = re.compile(r"Total (?P<kind>Internal|Weight) Memory Size: (?P<kib>[\d.]+)KB")


def compile(  # noqa: A001 - every compiler's
    artifact: Artifact, target: Target, folder: Path, output: Path
) -> Compilation:
    """Compile for the processor that the target names, ``"rk3588"``. Quantized models keep their scales.

    Raises:
        UsageError: The output's suffix is another than ``.rknn``.
        TargetError: The model has sizes that are free.
        ModelError: The toolkit crashes on the model, refuses it, or writes nothing.
        DependencyError: The toolchain rknn is not installed.
    """
    _check(artifact, target, output)
    integer = _trial.is_integer(artifact)
    platform = target.compiler["target_platform"]
    level = target.compiler.get("optimization_level", _EXACT_LEVEL if integer else _LEVEL)
    toolchain = Toolchain.load("rknn")
    model, compiled = folder / f"model.{artifact.format}", folder / "compiled.rknn"
    readable_copy(artifact, model)
    inputs, outputs = _trial.border(artifact)
    samples = _trial.random_samples(inputs)
    given = {f"input_{number}": samples[spec.name] for number, spec in enumerate(inputs)}
    np.savez(folder / "samples.npz", **given)  # type: ignore[arg-type]
    words = [str(_CHILD), str(model), platform, level, str(compiled), str(folder / "samples.npz")]
    done = run(toolchain, ["python", *words], artifact, folder)
    log = log_of(done)
    rows = list(_ROW.finditer(done.stdout))
    if done.returncode:
        raise _failed(artifact, done.returncode, log)
    if not rows or not _is_whole(compiled):
        message = f"RKNN-Toolkit2 wrote nothing of {artifact.path} that can be read."
        raise ModelError("EK391", message, "Run with -v for its own words.", detail=log)
    said = json.loads(done.stdout.splitlines()[-1])
    findings = [*_of_rules(said["rules_off"]), *(_of_types(rows) if integer else ())]
    if said["simulator"]:
        findings.append(_not_compared(said["simulator"]))
    else:
        with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
            measured = {spec.name: stored[f"output_{number}"] for number, spec in enumerate(outputs)}
        off = _trial.differences(artifact, samples, measured)
        findings += _trial.far(off, _NEAR_INTEGER_DB if integer else _NEAR_DB)
    return Compilation(
        path=compiled,
        compiler="rknn",
        version=toolchain.version,
        configuration={
            "target_platform": platform,
            "optimization_level": level,
            "disable_rules": ",".join(said["rules_off"]),
        },
        operators=_operators(rows),
        estimates=_estimates(rows, done.stdout),
        log=log,
        basis="the toolkit's own table of layers, with its estimates",
        findings=tuple(findings),
    )


def beside(_target: Target) -> tuple[str, ...]:
    """Nothing is written beside the output."""
    return ()


def _check(artifact: Artifact, target: Target, output: Path) -> None:
    if output.suffix != _SUFFIX:
        message = f"{output.name} is no file for {target.name}."
        raise UsageError("EK394", message, f"End its name with {_SUFFIX}.")
    free = [spec.name for spec in artifact.inputs if None in spec.shape]
    if free:
        message = f"Sizes of the inputs {', '.join(free)} are free, and {target.name} needs them fixed."
        raise TargetError(
            "EK390", message, "Fix them when exporting; edgekit convert --batch fixes the batch."
        )


def _is_whole(path: Path) -> bool:
    """Whether the toolkit's own kind of file lies there, with more than a header."""
    return (
        path.is_file() and path.stat().st_size > _HEADER_BYTES and path.read_bytes()[: len(_MAGIC)] == _MAGIC
    )


def _failed(artifact: Artifact, code: int, log: str) -> ModelError:
    lines = [line.strip() for line in _COLOUR.sub("", log).splitlines() if line.strip()] or [
        f"exit code {code}"
    ]
    reason = lines[-1].rstrip(".")[:300] if code >= 0 else signal.Signals(-code).name
    message = f"RKNN-Toolkit2 makes nothing of {artifact.path}: {reason}."
    hint = (
        "See edgekit compat; an .onnx file may pass where a .tflite file does not; run with -v for its words."
    )
    return ModelError("EK391", message, hint, detail=log)


def _operators(rows: Sequence["re.Match[str]"]) -> tuple[CompiledOperator, ...]:
    return tuple(
        CompiledOperator(row["kind"], row["place"].lower(), int(row["cycles"]), 0, row["name"])
        for row in rows
        if row["kind"] not in _EDGES
    )


def _estimates(rows: Sequence["re.Match[str]"], text: str) -> dict[str, float]:
    memory = {
        f"{found['kind'].lower()}_memory_bytes": float(found["kib"]) * _KIB
        for found in _MEMORY.finditer(text)
    }
    return {"cycles_count": float(sum(int(row["cycles"]) for row in rows)), **memory}


def _of_rules(rules: Sequence[str]) -> Iterator[Finding]:
    if rules:
        text = f"RKNN-Toolkit2 fails in its own optimization, and compiled without: {', '.join(rules)}."
        yield Finding("EK378", text, "The file may be slower than it could be.")


def _of_types(rows: Sequence["re.Match[str]"]) -> Iterator[Finding]:
    """What a quantized model computes in float16 there, conversions aside."""
    wide = [row["kind"] for row in rows if row["dtype"].startswith("FLOAT") and row["kind"] not in _EDGES]
    kinds = [kind for kind in dict.fromkeys(wide) if kind != "exDataConvert"]
    if kinds:
        more = f" and {len(kinds) - _NAMED} kinds more" if len(kinds) > _NAMED else ""
        text = f"{len(wide)} operators of the quantized model are computed in float16: {', '.join(kinds[:_NAMED])}"
        yield Finding("EK379", f"{text}{more}.", "They take more time and memory than int8 would.")


def _not_compared(reason: str) -> Finding:
    message = f"The compiled model was not compared with the model: the simulator failed ({reason[:200]})."
    return Finding("EK398", message, "Evaluate it on the device before it is used.")
