"""Apple's coremltools: a Core ML package from a model's source, read back here; only Apple's machines run it.

TensorFlow or PyTorch reads the model in edgekit's own environment, whatever its version: the toolchain adds coremltools
alone, and so has neither of them.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit import files, tensorflow_process, torch_process
from edgekit.artifact import Artifact, Format, TensorSpec, read_lineage
from edgekit.catalog import unknown
from edgekit.compilation import Compilation, CompiledOperator
from edgekit.compilers._run import log_of, run
from edgekit.errors import ModelError, TargetError, UsageError
from edgekit.findings import Finding, Level
from edgekit.target import Target
from edgekit.toolchain import Toolchain

MARK = "Manifest.json"
_CHILD = Path(__file__).with_name("_coremltools_child.py")
_SUFFIX = ".mlpackage"
_WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")
_SOURCES = (Format.KERAS, Format.SAVED_MODEL, Format.PYTORCH)
_OPTIONS = {
    "minimum_deployment_target": (
        *("iOS15", "iOS16", "iOS17", "iOS18", "iOS26"),
        *("macOS12", "macOS13", "macOS14", "macOS15", "macOS26"),
    ),
    "compute_precision": ("float16", "float32"),
}
# Core ML's own types are few: wide numbers become narrower, and small ones wider.
_BECOMES = {
    "float64": "float32",
    "int64": "int32",
    "int16": "int32",
    "int8": "int32",
    "uint8": "int32",
    "bool": "float32",
}


def compile(  # noqa: A001 - every compiler's
    artifact: Artifact, target: Target, folder: Path, output: Path
) -> Compilation:
    """Convert for a batch of one, to the iOS and the precision that the target names.

    Raises:
        UsageError: The output is no ``.mlpackage``, or the target's options are none of coremltools'.
        TargetError: The model is no source that coremltools reads, or has sizes that are free.
        ModelError: coremltools refuses the model, or its package is not what the model is.
        DependencyError: The toolchain coremltools is not installed, or the model's framework is not.
    """
    _check(artifact, target, output)
    options = {key: target.compiler.get(key, known[0]) for key, known in _OPTIONS.items()}
    toolchain = Toolchain.load("coremltools")
    package = folder / f"model{_SUFFIX}"
    given = {"packages": str(toolchain.packages), **options}
    findings: tuple[Finding, ...] = ()
    if artifact.format is Format.PYTORCH:
        torch_process.export_core_ml(artifact.path, package, given)
    else:
        findings = tensorflow_process.export_core_ml(artifact.path, package, given)
    described = _read_back(artifact, toolchain, package, folder)
    return Compilation(
        path=package,
        compiler="coremltools",
        version=toolchain.version,
        configuration=options,
        operators=tuple(
            CompiledOperator(one["kind"], "core_ml", 0, 0, one["name"]) for one in described["operators"]
        ),
        estimates={"weights_bytes": _weights_bytes(package)},
        log="",
        basis="read from the package; Core ML chooses the processor",
        findings=(*findings, *_findings(artifact, described)),
    )


def beside(_target: Target) -> tuple[str, ...]:
    """The package is one folder, with nothing beside it."""
    return ()


def _check(artifact: Artifact, target: Target, output: Path) -> None:
    if output.suffix != _SUFFIX:
        message = f"{output.name} is no Core ML package."
        raise UsageError("EK394", message, f"End its name with {_SUFFIX}.")
    for key, known in _OPTIONS.items():
        if target.compiler.get(key, known[0]) not in known:
            raise unknown(f"{key} in {target.name}", target.compiler[key], list(known))
    if artifact.format not in _SOURCES:
        made_of = (read_lineage(artifact.path) or {}).get("source_path")
        message = f"coremltools reads no {artifact.format} files, and {artifact.path} is one."
        hint = "Give the model that it was made from: a Keras file, a SavedModel, or a .pt2 file."
        raise TargetError("EK390", message, f"{hint} That was {made_of}." if made_of else hint)
    free = [spec.name for spec in artifact.inputs if None in spec.shape[1:]]
    if free:
        message = f"Sizes of the inputs {', '.join(free)} are free, and {target.name} needs them fixed."
        raise TargetError("EK390", message, "Fix them in the source model; a free batch becomes 1.")


def _read_back(artifact: Artifact, toolchain: Toolchain, package: Path, folder: Path) -> dict[str, Any]:
    """What is in the package, which has what the model has: its inputs and outputs, and operators.

    Raises:
        ModelError: It cannot be read, or is another model.
    """
    done = run(toolchain, ["python", str(_CHILD), str(package)], artifact, folder)
    if done.returncode or not (package / MARK).is_file():
        message = f"coremltools wrote nothing of {artifact.path} that can be read."
        raise ModelError("EK391", message, "Run with -v for its own words.", detail=log_of(done))
    described: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for side, specs in (("inputs", artifact.inputs), ("outputs", artifact.outputs)):
        found = {name: (shape, dtype) for name, shape, dtype in described[side]}
        lost = [spec.name for spec in specs if not _is_as(spec, *found.get(_identifier(spec.name), ((), "")))]
        if lost or len(found) != len(specs):
            message = (
                f"The package has other {side} than {artifact.path}: {', '.join(lost) or 'more of them'}."
            )
            hint = "Change how the source model names or returns them; run with -v for what became of them."
            raise ModelError("EK391", message, hint, detail=json.dumps(described[side]))
    if not described["operators"]:
        message = f"Nothing of {artifact.path} is left in the package: it has no operators."
        raise ModelError("EK391", message, "Look at the model with edgekit inspect.")
    return described


def _is_as(spec: TensorSpec, shape: Sequence[int], dtype: str) -> bool:
    """Whether an input or output of the package is the model's: a batch of one, and as near a type as Core ML has."""
    sizes = zip(spec.shape, shape, strict=False)
    is_shaped = len(shape) == len(spec.shape) and all(
        size == (wanted or (size if axis else 1)) for axis, (wanted, size) in enumerate(sizes)
    )
    return is_shaped and dtype in (spec.dtype, _BECOMES.get(spec.dtype))


def _findings(artifact: Artifact, described: Mapping[str, Any]) -> Iterator[Finding]:
    changed = []
    for side, specs in (("inputs", artifact.inputs), ("outputs", artifact.outputs)):
        types = {name: dtype for name, _shape, dtype in described[side]}
        changed += [_change(spec, types[_identifier(spec.name)]) for spec in specs]
    if any(changed):
        message = f"In the package {', '.join(filter(None, changed))}."
        yield Finding("EK389", message, "The program on the device must know.", Level.NOTE)
    message = "Outputs were not compared with the model's: Core ML runs on Apple's machines only."
    hint = "Compare some on a Mac or on the device before it goes into service."
    yield Finding("EK388", message, hint, Level.NOTE)


def _change(spec: TensorSpec, dtype: str) -> str:
    """``"ids is int32, not int64"``; nothing where all is as it was."""
    name = _identifier(spec.name)
    if name == spec.name and dtype == spec.dtype:
        return ""
    called = f"{spec.name} is called {name}" if name != spec.name else name
    return called if dtype == spec.dtype else f"{called} is {dtype}, not {spec.dtype}"


def _identifier(name: str) -> str:
    """A name as Core ML has them: letters, digits and underscores."""
    cleaned = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{cleaned}" if cleaned[:1].isdigit() else cleaned


def _weights_bytes(package: Path) -> int:
    path = package / _WEIGHTS
    return files.size_bytes(path) if path.is_file() else 0
