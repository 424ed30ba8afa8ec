"""Intel's OpenVINO: its own format for CPUs, run here and compared; the NPU's program where its driver is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.artifact import Artifact
from edgekit.compilation import Compilation, CompiledOperator
from edgekit.compilers import _trial
from edgekit.compilers._copies import readable_copy
from edgekit.compilers._run import log_of, run
from edgekit.errors import DependencyError, ModelError, UsageError
from edgekit.target import Target
from edgekit.toolchain import Toolchain

if TYPE_CHECKING:
    from edgekit.findings import Finding

_CHILD = Path(__file__).with_name("_openvino_child.py")
# Integer kernels of another library round at every layer on their own.
_NEAR_DB, _NEAR_INTEGER_DB = 60.0, 20.0


def compile(  # noqa: A001 - every compiler's
    artifact: Artifact, target: Target, folder: Path, output: Path
) -> Compilation:
    """Compile for the device that the target names, ``"CPU"`` or ``"NPU"``.

    Raises:
        UsageError: The output's suffix is another than ``.xml`` for a CPU, ``.blob`` for an NPU.
        ModelError: OpenVINO crashes on the model, or refuses it.
        DependencyError: The toolchain openvino, or the NPU's driver, is not installed.
    """
    device = target.compiler["device"]
    suffix = ".xml" if device == "CPU" else ".blob"
    if output.suffix != suffix:
        raise UsageError(
            "EK394", f"{output.name} is no file for {target.name}.", f"End its name with {suffix}."
        )
    toolchain = Toolchain.load("openvino")
    model, compiled = folder / f"model.{artifact.format}", folder / f"compiled{suffix}"
    readable_copy(artifact, model)
    inputs, outputs = _trial.border(artifact)
    samples = _trial.random_samples(inputs)
    given = {f"input_{number}": samples[spec.name] for number, spec in enumerate(inputs)}
    np.savez(folder / "samples.npz", **given)  # type: ignore[arg-type]
    words = [str(_CHILD), str(model), device, str(compiled), str(folder / "samples.npz")]
    done = run(toolchain, ["python", *words], artifact, folder)
    log = log_of(done)
    if done.returncode:
        raise _failed(artifact, done.returncode, log)
    said = json.loads(done.stdout.splitlines()[-1])
    if device not in said["devices"]:
        message = f"OpenVINO finds no {device} here, only {', '.join(said['devices'])}."
        raise DependencyError("EK397", message, "Install Intel's driver of it, or compile on the device.")
    if not compiled.is_file() or not compiled.stat().st_size:
        raise ModelError("EK391", f"OpenVINO wrote nothing of {artifact.path}.", "Run with -v for its words.")
    findings: tuple[Finding, ...] = ()
    if device == "CPU":
        with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
            measured = {spec.name: stored[f"output_{number}"] for number, spec in enumerate(outputs)}
        near_db = _NEAR_INTEGER_DB if _trial.is_integer(artifact) else _NEAR_DB
        findings = tuple(_trial.far(_trial.differences(artifact, samples, measured), near_db))
    return Compilation(
        path=compiled,
        compiler="openvino",
        version=toolchain.version,
        configuration={"device": device},
        operators=_operators(said["operators"]),
        estimates={},
        log=log,
        basis="OpenVINO's own answer",
        beside=tuple(compiled.with_suffix(suffix) for suffix in beside(target)),
        findings=findings,
    )


def beside(target: Target) -> tuple[str, ...]:
    """The weights of OpenVINO's format lie in a file of their own."""
    return (".bin",) if target.compiler["device"] == "CPU" else ()


def _failed(artifact: Artifact, code: int, log: str) -> ModelError:
    lines = [line.strip() for line in log.splitlines() if line.strip()] or [f"exit code {code}"]
    message = f"OpenVINO refuses {artifact.path}: {lines[-1].rstrip('.')[:300]}."
    return ModelError("EK391", message, "See edgekit compat; run with -v for its own words.", detail=log)


def _operators(described: list[dict[str, Any]]) -> tuple[CompiledOperator, ...]:
    return tuple(
        CompiledOperator(entry["kind"], "openvino" if entry["taken"] else "cpu", 0, 0, entry["name"])
        for entry in described
    )
