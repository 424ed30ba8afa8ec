"""Qualcomm's compiler for Hexagon NPUs, through ONNX Runtime's QNN provider; a toolchain that needs no device."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit import onnx_model
from edgekit.artifact import Artifact, Format
from edgekit.compilation import Compilation, CompiledOperator
from edgekit.compilers._run import log_of, run
from edgekit.errors import ModelError, TargetError
from edgekit.target import Target
from edgekit.toolchain import Toolchain

if TYPE_CHECKING:
    from onnx import NodeProto

_CHILD = Path(__file__).with_name("_qnn_child.py")
_CONTEXT = "EPContext"


def compile(  # noqa: A001 - every compiler's
    artifact: Artifact, target: Target, folder: Path, _output: Path
) -> Compilation:
    """Compile an ``.onnx`` file into one that holds the NPU's program for the generation that the target names.

    What the NPU does not take stays in the file as the operators that it was: those run on the CPU.

    Raises:
        TargetError: The model is no .onnx file, has sizes that are free, or nothing of it is taken.
        ModelError: The compiler crashes, refuses the model, or writes nothing.
        DependencyError: The toolchain qnn is not installed.
    """
    _check(artifact, target)
    options = {key: value for key, value in target.compiler.items() if key != "name"}
    toolchain = Toolchain.load("qnn")
    model, compiled = folder / "model.onnx", folder / "context.onnx"
    onnx_model.save(onnx_model.load(artifact.path), model, named=artifact.path)
    words = [str(_CHILD), str(model), str(compiled), json.dumps(options)]
    done = run(toolchain, ["python", *words], artifact, folder)
    log = log_of(done)
    if done.returncode:
        raise _failed(artifact, done.returncode, log)
    return Compilation(
        path=compiled,
        compiler="qnn",
        version=toolchain.version,
        configuration=options,
        operators=_operators(artifact, compiled, log),
        estimates={},
        log=log,
        basis="read from the file that it wrote",
    )


def beside(_target: Target) -> tuple[str, ...]:
    """Nothing is written beside the output."""
    return ()


def _check(artifact: Artifact, target: Target) -> None:
    if artifact.format is not Format.ONNX:
        message = f"The QNN provider reads .onnx files, and {artifact.path} is {artifact.format}."
        hint = f"Make one: edgekit quantize {artifact.path} -o model.onnx -t {target.name}"
        raise TargetError("EK390", message, hint)
    free = [spec.name for spec in artifact.inputs if None in spec.shape]
    if free:
        message = f"Sizes of the inputs {', '.join(free)} are free, and {target.name} needs them fixed."
        raise TargetError(
            "EK390", message, "Fix them when exporting; edgekit convert --batch fixes the batch."
        )


def _failed(artifact: Artifact, code: int, log: str) -> ModelError:
    lines = [line for line in log.splitlines() if line.strip()] or [f"exit code {code}"]
    reason = lines[-1].rpartition(": FAIL : ")[2].strip().rstrip(".")
    message = f"The QNN provider made nothing of {artifact.path}: {reason[:300]}."
    return ModelError(
        "EK391", message, "Try -r int8, or other operators; run with -v for its words.", detail=log
    )


def _operators(artifact: Artifact, path: Path, log: str) -> tuple[CompiledOperator, ...]:
    """What became of the graph: programs of the NPU, and the operators that are still there."""
    import onnx

    try:
        nodes = onnx.load(str(path)).graph.node
    except Exception as error:  # the reader of protocol buffers has no exception of its own
        message = f"The QNN provider wrote nothing of {artifact.path} that can be read."
        raise ModelError("EK391", message, "Run with -v for its own words.", detail=log) from error
    if not any(_program_bytes(node) for node in nodes):
        message = f"Nothing of {artifact.path} would run on the NPU: every operator stayed on the CPU."
        raise TargetError("EK392", message, "See edgekit compat for the reasons.", detail=log)
    return tuple(
        CompiledOperator(node.op_type, "npu" if node.op_type == _CONTEXT else "cpu", 0, 0, node.name)
        for node in nodes
    )


def _program_bytes(node: "NodeProto") -> int:
    """The size of the NPU's program in a node, 0 where it has none."""
    found = [entry for entry in node.attribute if entry.name == "ep_cache_context"]
    return len(found[0].s) if node.op_type == _CONTEXT and found else 0
